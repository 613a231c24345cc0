"""The grid of a suite: axes and rules to trials."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, product
from typing import Any

from bench.errors import Problem, SuiteError
from bench.suite.load import Catalogue, LoadedSuite
from bench.suite.schema import AXES, AxisEntry, Entry, GridRule, Settings, Suite, Trial
from bench.suite.target_tasks import of_suite, of_trial
from bench.suite.yaml_file import Location

UNTRAINED_KEEPS = (
    "weights",
    "head",
    "shots",
    "image_size",
    "max_length",
    "pooling",
    "resize",
    "precision",
    "threads",
    "task",
    "metric",
    "folds",
    "seed",
)
"""What changes the numbers of a strategy that trains nothing; all else is set to its default."""

OF_FRACTALS = ("fractals", "angles", "scenes")
"""Data sets that are generated of the fractals of a family."""

MAX_TRIALS = 200_000
"""Of a whole suite, before rules leave cells out: more are a mistake in the axes."""


Places = Mapping[str, Location]
"""Axis or setting → where in the suite the value of a trial stands."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenTrial:
    """One point of the grid as it is written, and the trial that it comes to."""

    written: Trial
    trial: Trial
    places: Places


def expand(loaded: LoadedSuite, catalogue: Catalogue) -> list[Trial]:
    """All trials of a suite, configs in the order of the file, the seeds of a config together.

    A strategy that ignores a setting (from_scratch the weights, pretrained_head the schedule) has
    one cell where the grid would repeat it. Raises as `written_trials` does.
    """
    return distinct(written_trials(loaded, catalogue))


def distinct(written: Sequence[WrittenTrial]) -> list[Trial]:
    """The trials that they come to, each once."""
    return list({id(each.trial): each.trial for each in written}.values())


def written_trials(loaded: LoadedSuite, catalogue: Catalogue) -> list[WrittenTrial]:
    """All points of the grid; those that come to the same trial share it.

    Raises `SuiteError` with every rule that selects nothing and every impossible combination, or if
    there are more than `MAX_TRIALS`.
    """
    problems: list[Problem] = []
    placed = _all_trials(loaded, problems)
    impossible: dict[str, Problem] = {}
    for trial, _ in placed:
        for key, message in _contradictions(trial, catalogue):
            location = locate(loaded.suite, key, trial)
            impossible.setdefault(message, loaded.yaml_file.problem(location, message))
    problems += impossible.values()
    for location, message in _of_the_whole(loaded.suite):
        problems.append(loaded.yaml_file.problem(location, message))
    if not problems and not placed:
        problems.append(loaded.yaml_file.problem(("exclude",), "the rules leave no trial"))
    if problems:
        raise SuiteError(problems)
    unique: dict[str, Trial] = {}
    found = []
    for trial, places in placed:
        normal = normal_form(trial, catalogue)
        normal = unique.setdefault(normal.id({}), normal)
        found.append(WrittenTrial(written=trial, trial=normal, places=places))
    return found


_Placed = tuple[Trial, Places]


def _all_trials(loaded: LoadedSuite, problems: list[Problem]) -> list[_Placed]:
    suite, yaml_file = loaded.suite, loaded.yaml_file
    own: Places = {key: (key,) for key in suite.settings}
    trials = _bounded(_cells(suite, suite.axes, suite.settings, own), loaded, ())
    for rule in suite.exclude:
        kept = [placed for placed in trials if not matches(placed[0], rule)]
        if len(kept) == len(trials):
            problems.append(yaml_file.problem(rule.location, "this exclude rule matches no cell"))
        trials = kept
    grid = list(trials)
    for rule in suite.include:
        extended = [(placed, _extended(placed, rule, suite)) for placed in trials]
        if any(new is not None for _, new in extended):
            all_of = (t for old, new in extended for t in (new if new is not None else [old]))
            trials = _bounded(all_of, loaded, rule.location)
            continue
        axes = {**suite.axes, **{axis: (entry,) for axis, entry in rule.entries.items()}}
        settings = {**suite.settings, **rule.settings}
        places = {**own, **_places_of(rule.settings, rule.location)}
        added = _bounded(_cells(suite, axes, settings, places), loaded, rule.location)
        known = {trial.id({}) for trial, _ in grid}
        if all(trial.id({}) in known for trial, _ in added):
            message = "this include rule adds nothing: its cells are in the grid already"
            problems.append(yaml_file.problem(rule.location, message))
        new_ones = (placed for placed in added if placed[0].id({}) not in known)
        trials = _bounded(chain(trials, new_ones), loaded, rule.location)
    return trials


def _bounded(trials: Iterable[_Placed], loaded: LoadedSuite, location: Location) -> list[_Placed]:
    """All of them; raises `SuiteError` before the product of long axes fills the memory."""
    found = list(islice(trials, MAX_TRIALS + 1))
    if len(found) <= MAX_TRIALS:
        return found
    suite = loaded.suite
    sizes = {
        name: len(values)
        for name, values in (*suite.axes.items(), *suite.settings.items())
        if len(values) > 1
    }
    axes = " × ".join(f"{name} ({size})" for name, size in sizes.items())
    message = f"a suite may have at most {MAX_TRIALS:,} trials, the grid is {axes}"
    raise SuiteError([loaded.yaml_file.problem(location, message)])


def _cells(
    suite: Suite,
    axes: Mapping[str, Sequence[AxisEntry]],
    settings: Mapping[str, tuple[Any, ...]],
    places: Places,
) -> Iterator[_Placed]:
    for backbone, strategy, schedule, augmentation in product(*(axes[axis] for axis in AXES)):
        trial = Trial(
            suite=suite.name,
            dataset=suite.dataset,
            backbone=backbone.entry,
            strategy=strategy.entry,
            schedule=schedule.entry,
            augmentation=augmentation.entry,
            settings=Settings(),
        )
        values, own = dict(settings), dict(places)
        for axis, entry in zip(AXES, (backbone, strategy, schedule, augmentation), strict=True):
            values.update(entry.settings)
            own |= {axis: entry.location, **_places_of(entry.settings, entry.location)}
        yield from _over_settings(trial, values, own)


def _places_of(settings: Iterable[str], location: Location) -> dict[str, Location]:
    return {key: (*location, key) for key in settings}


def _over_settings(
    trial: Trial, values: Mapping[str, tuple[Any, ...]], places: Places
) -> Iterator[_Placed]:
    # Seeds last, so that the seeds of one config stand together.
    names = sorted(values, key=lambda name: name == "seed")
    for chosen in product(*(values[name] for name in names)):
        settled = trial.with_settings(**dict(zip(names, chosen, strict=True)))
        for each in settled.by_fold():
            yield each, places


def is_selected(trial: Trial, rules: Sequence[GridRule]) -> bool:
    """Whether `--only` leaves `trial` in: any rule fits it, or there are none."""
    return not rules or any(matches(trial, rule) for rule in rules)


def matches(trial: Trial, rule: GridRule) -> bool:
    """Whether every key of `rule` fits `trial`: entries by name and given options."""
    settings = [*rule.settings.items()]
    for wanted in rule.entries.values():
        settings += wanted.settings.items()
    return all(
        _entry_matches(getattr(trial, axis), wanted.entry) for axis, wanted in rule.entries.items()
    ) and all(_setting_matches(trial, key, allowed) for key, allowed in settings)


def _setting_matches(trial: Trial, key: str, allowed: tuple[Any, ...]) -> bool:
    value = getattr(trial.settings, key)
    if isinstance(value, Entry):
        return any(_entry_matches(value, wanted) for wanted in allowed)
    return value in allowed


def _entry_matches(entry: Entry, wanted: Entry) -> bool:
    # A mix is as good as part of the name: `standard` does not stand for `standard+mixup`.
    keys = {*wanted.given, *({"mix"} & wanted.options.keys())}
    return entry.name == wanted.name and all(
        entry.options.get(key) == wanted.options[key] for key in keys
    )


def _extended(placed: _Placed, rule: GridRule, suite: Suite) -> Iterator[_Placed] | None:
    """The trial with the rule's new settings, or None where the rule would overwrite an axis."""
    trial, places = placed
    axes = {key for key, values in suite.settings.items() if len(values) > 1}
    fixed = GridRule(
        entries={
            axis: entry.model_copy(update={"settings": {}}) for axis, entry in rule.entries.items()
        },
        settings={key: value for key, value in rule.settings.items() if key in axes},
        location=rule.location,
    )
    added = {key: value for key, value in rule.settings.items() if key not in axes}
    own = {**places, **_places_of(added, rule.location)}
    for entry in rule.entries.values():
        added.update(entry.settings)
        own |= _places_of(entry.settings, entry.location)
    if not added or not matches(trial, fixed):
        return None
    return _over_settings(trial, {key: tuple(value) for key, value in added.items()}, own)


def _contradictions(trial: Trial, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
    """(key, message) of every combination that cannot mean what it says."""
    settings, strategy = trial.settings, trial.strategy
    traits = catalogue.strategy.get(strategy.name).traits
    mend = "exclude the pair, or give other weights"
    if traits.weights != "ignored" and settings.weights.name == "none":
        reason = traits.why_weights or "reuses weights; without them it is from_scratch"
        yield (
            "strategy",
            f"strategy {strategy.name!r} {reason}; weights must not be 'none' ({mend})",
        )
    family = settings.weights.options.get("family_seed")
    if family is not None and family == trial.dataset.options.get("family_seed"):
        yield (
            "weights",
            f"weights 'fractals' and dataset {trial.dataset.name!r} must differ in family_seed, "
            f"got {family} for both: the network would be pretrained on the classes it is tested "
            "on",
        )
    if settings.nesterov and (settings.optimizer != "sgd" or settings.momentum == 0):
        yield (
            "nesterov",
            "nesterov needs optimizer sgd and a momentum above 0, got "
            f"{settings.optimizer} with momentum {settings.momentum:g}",
        )

    if trial.dataset.options.get("val_fraction") == 0:
        yield from _without_validation(trial, catalogue)
    yield from of_trial(trial, catalogue)


def _without_validation(trial: Trial, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
    """What of the trial looks at a validation split, where it asks for none."""
    settings, schedule = trial.settings, trial.schedule.name
    mend = "give a val_fraction above 0"
    if settings.early_stopping is not None:
        yield (
            "early_stopping",
            f"early_stopping looks at validation, and val_fraction is 0: leave it out, or {mend}",
        )
    if schedule in catalogue.schedule and catalogue.schedule.get(schedule).traits.uses_validation:
        yield (
            "schedule",
            f"schedule {schedule!r} looks at the validation loss, and val_fraction is 0: give "
            f"another schedule, or {mend}",
        )
    name, options = trial.strategy.name, trial.strategy.options
    chooses = catalogue.strategy.get(name).traits.chooses
    if chooses is not None and options.get(chooses) is None:
        given = f"give it a value ({chooses}: …)" if chooses in options else "leave it out"
        yield (
            "strategy",
            f"strategy {name!r} chooses {chooses} on validation, and val_fraction is 0: {given}, "
            f"or {mend}",
        )


def _of_the_whole(suite: Suite) -> Iterator[tuple[Location, str]]:
    """(place, message) of what all trials have in common and that cannot be together."""
    (choose,), (folds,) = suite.settings["choose"], suite.settings["folds"]
    unvalidated = suite.dataset.options.get("val_fraction") == 0
    if unvalidated and choose == "best":
        yield (
            ("dataset", "val_fraction"),
            "val_fraction 0 leaves no validation split to choose the epoch by: set choose: last, "
            "or a val_fraction above 0",
        )
    if unvalidated and suite.tune is not None:
        yield (
            ("tune",),
            "tune scores settings on the validation split, and val_fraction is 0: leave tune out, "
            "or give a val_fraction above 0",
        )
    yield from of_suite(suite)
    rule = suite.dataset.options.get("split")
    if folds is not None and isinstance(rule, Mapping) and rule.get("by") == "time":
        yield (
            ("folds",),
            "folds and split: {by: time} cannot be combined: every image is a test image of some "
            "fold, whenever it was taken; remove one of the two",
        )
    if folds is not None and suite.tune is not None:
        yield (
            ("folds",),
            "folds and tune cannot be combined: every image is a test image of some fold, so the "
            "search would see them all; remove one of the two",
        )
    if suite.split_check:
        if not isinstance(rule, Mapping) or rule.get("by") != "group":
            yield (
                ("split_check",),
                "split_check compares a random split with one that keeps groups whole: give the "
                "data set `split: {by: group}`, or leave split_check out",
            )
        if suite.tune is not None:
            yield (
                ("split_check",),
                "split_check and tune cannot be combined: run the tuned suite with it",
            )
    if suite.settings["diagnose"] != (None,) and suite.tune is not None:
        yield (
            ("diagnose",),
            "diagnose and tune cannot be combined: a search must not look at the test split; "
            "remove one of the two",
        )


def locate(suite: Suite, key: str, trial: Trial) -> tuple[str | int, ...]:
    """Where in the suite file the trial's value of an axis or setting stands."""
    if key not in AXES:
        return (key,)
    wanted = getattr(trial, key)
    for rule in suite.include:
        if key in rule.entries and rule.entries[key].entry == wanted:
            return rule.entries[key].location
    return next((e.location for e in suite.axes[key] if e.entry == wanted), (key,))


def normal_form(trial: Trial, catalogue: Catalogue) -> Trial:
    """The trial with everything that its strategy ignores at its default."""
    traits = catalogue.strategy.get(trial.strategy.name).traits
    if traits.weights == "ignored":
        trial = trial.with_settings(weights=Entry(name="none"))
    if traits.head is not None:
        trial = trial.with_settings(head=_head_entry(trial, traits.head, catalogue))
    if trial.settings.optimizer != "sgd":
        trial = trial.with_settings(momentum=0.0)
    if not traits.trains:
        defaults = Settings()
        kept = {name: getattr(trial.settings, name) for name in UNTRAINED_KEEPS}
        unused = {"schedule": catalogue.schedule, "augmentation": catalogue.augmentation}
        trial = trial.model_copy(
            update={
                "settings": defaults.model_copy(update=kept),
                **{
                    axis: Entry(name=name, options=unused[axis].get(name).options().model_dump())
                    for axis, name in (("schedule", "constant"), ("augmentation", "none"))
                },
            }
        )
    return trial


def _head_entry(trial: Trial, name: str, catalogue: Catalogue) -> Entry:
    """The head that the strategy always has, with the suite's options where they are for it."""
    own = trial.settings.head
    same = own.name in catalogue.head and catalogue.head.get(own.name).traits.layers_of == name
    if own.name == name or same:
        return own
    if name not in catalogue.head:
        return Entry(name=name)
    return Entry(name=name, options=catalogue.head.get(name).options().model_dump())
