"""What a suite writes down that does nothing, or cannot work, with this data on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from bench.data import TEST, VAL, DataIssue, Dataset, Splits, groups_on_both_sides
from bench.data.dataset import naming, takes_limits
from bench.data.times import as_text
from bench.errors import DataError, counted
from bench.execution.jobs import dataset_splits, splits_key
from bench.methods.after import (
    PROBE,
    Ensemble,
    Interpolation,
    Recipe,
    TargetStatistics,
    Vote,
    chooses,
    recipe,
)
from bench.methods.penalties import feature_terms
from bench.methods.plan import HEAD, Plan
from bench.methods.schedules import Progress, lr_factor
from bench.methods.target_tasks import CLASSIFICATION
from bench.models import outline
from bench.models.batch_norms import single_value_norms
from bench.results.grid import AXES as LEADING
from bench.runs.catalogue import catalogue
from bench.suite import (
    AXES,
    Entry,
    Limits,
    LoadedSuite,
    Note,
    Trial,
    Uses,
    WrittenTrial,
    no_effect,
)
from bench.suite.no_effect import NO_EFFECT
from bench.training.trial import epoch_edges

WILL_FAIL, POOLED, BY_CHANCE = "will fail", "pooled splits", "chosen by chance"
PARTED, BY_TIME, UNLABELLED_SHARE = "parted groups", "split by time", "unlabelled share"
KNOWN_WELL = 0.05
"""Standard error of an accuracy, at 50 % where it is largest, above which its use is told.

It is reached with 100 images. Two configs whose true accuracies differ by 10 points, as strategies
do on little data, then stand in the wrong order in about one choice of 13 (10 / (5 · √2) = 1.4
standard errors apart); with 25 images, in one of 4.
"""
LOOKS = 200
"""How many steps of a schedule are looked at."""
FULL = 0.5
"""A schedule of one step that trains at a smaller share of the rate than this is told."""


def notes(
    loaded: LoadedSuite,
    written: Sequence[WrittenTrial],
    plans: Sequence[tuple[Trial, Plan, int]],
    dataset: Dataset,
) -> tuple[DataIssue, ...]:
    """What is to be told before training; `plans` has each trial's plan and image size in pixels.

    `count` of each issue counts trials.
    """
    found = no_effect(loaded, written, catalogue())
    uses = Uses(loaded.yaml_file)
    facts = _Facts(dataset)
    by_trial = {id(trial): plan for trial, plan, _ in plans}
    for each in written:
        plan = by_trial[id(each.trial)]
        if plan.stages:
            _tell_schedule(uses, each, plan, facts)
            _tell_early_stopping(uses, each, plan)
            _tell_class_weights(uses, each, facts)
            _tell_features(uses, each, plan)
    found += uses.notes()
    found += _unused_fractions(loaded, written, dataset)
    found += _unused_limits(loaded, written, dataset)
    found += _pooled(loaded, written, dataset)
    found += _by_time(loaded, plans, dataset, facts)
    found += _without_labels(loaded, plans, dataset, facts)
    found += _parted_groups(loaded, plans, dataset, facts)
    found += _failing(loaded, written, plans)
    found += _small_validation(loaded, plans, facts)
    found += _children(loaded, [trial for trial, _, _ in plans], facts)
    return tuple(DataIssue(kind=n.kind, message=f"{n.message}.", count=n.count) for n in found)


def lines(issues: Sequence[DataIssue]) -> list[str]:
    """The issues of trials as text, with how many trials each concerns."""
    return [f"{issue.message} ({counted(issue.count, 'trial')})" for issue in issues]


class _Facts:
    """What the training split comes to, as far as it can be known before images are decoded."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._drawn: dict[object, Splits | None] = {}

    def steps_per_epoch(self, trial: Trial, plan: Plan) -> int | None:
        """Optimiser steps of an epoch."""
        splits = self.splits(trial)
        if splits is None:
            return None
        return len(epoch_edges(plan, trial.settings, len(splits.train)))

    def is_balanced(self, trial: Trial) -> bool:
        """Whether every class has as many training images."""
        splits = self.splits(trial)
        if splits is None or self._dataset.targets is not None:
            return False
        return len(set(np.bincount(self._dataset.labels[splits.train]).tolist())) == 1

    def splits(self, trial: Trial) -> Splits | None:
        """The trial's splits; None where they cannot be drawn, which the run itself tells."""
        key = splits_key(trial)
        if key not in self._drawn:
            data = self._dataset
            try:
                self._drawn[key] = dataset_splits(trial, data)
            except DataError:
                self._drawn[key] = None
        return self._drawn[key]


# Schedules ------------------------------------------------------------------------------------


def _tell_schedule(uses: Uses, each: WrittenTrial, plan: Plan, facts: _Facts) -> None:
    schedule, place = each.trial.schedule, each.places["schedule"]
    if not uses.is_written(place) or (schedule.name == "constant" and not schedule.given):
        return
    steps = facts.steps_per_epoch(each.trial, plan)
    if steps is None:
        return
    start = Progress(step=0, steps_per_epoch=steps, num_epochs=plan.epochs)
    told = (
        ("", None if schedule.name == "constant" else _why_not(schedule, start)),
        ("warmup_epochs", _why_no_warmup(schedule, start)),
        ("milestones", _why_no_milestone(schedule, start)),
    )
    for option, reason in told:
        if option and option not in schedule.given:
            continue
        name = f"schedule {schedule.label!r}"
        where = (*place, option) if option else place
        if option:
            name = f"{option} of {name}"
        if reason is None:
            uses.used(name, where)
        else:
            uses.unused(name, where, each.trial, reason)


def _why_not(schedule: Entry, start: Progress) -> str | None:
    bare = schedule.model_copy(update={"options": {**schedule.options, "warmup_epochs": 0.0}})
    return _why_not_without_warmup(bare.model_dump_json(), start)


@lru_cache(maxsize=1024)
def _why_not_without_warmup(schedule: str, start: Progress) -> str | None:
    """The same for all trials with as many epochs and steps; `schedule` is an entry as JSON."""
    entry = Entry.model_validate_json(schedule)
    steps = np.linspace(start.num_steps - 1, 0, min(start.num_steps, LOOKS)).astype(int)
    if all(_factor(entry, start, step) == 1 for step in steps.tolist()):
        return "no effect, it changes the learning rate at no step of the training"
    factor = _factor(entry, start, 0)
    if start.num_steps == 1 and factor < FULL:
        return f"training has one step only, at {factor:.0e} of the learning rate"
    return None


def _factor(schedule: Entry, start: Progress, step: int) -> float:
    """The factor at a step if the validation loss never falls."""
    losses = (1.0,) * (step // start.steps_per_epoch)
    return lr_factor(schedule, replace(start, step=step, val_losses=losses))


def _why_no_warmup(schedule: Entry, start: Progress) -> str | None:
    epochs = schedule.options.get("warmup_epochs", 0.0)
    steps = round(min(epochs, start.num_epochs) * start.steps_per_epoch)
    if epochs == 0:
        return None
    if steps == 0:
        return "no effect, the warm-up is shorter than half a step"
    if steps >= start.num_steps:
        return "the warm-up takes all of the training, or longer"
    return None


def _why_no_milestone(schedule: Entry, start: Progress) -> str | None:
    milestones = schedule.options.get("milestones", ())
    late = [str(milestone) for milestone in milestones if milestone >= start.num_epochs]
    if not late or len(late) == len(milestones):  # then the schedule as a whole does nothing
        return None
    return f"no effect of {', '.join(late)}, where training is over"


# Other settings -------------------------------------------------------------------------------


def _tell_early_stopping(uses: Uses, each: WrittenTrial, plan: Plan) -> None:
    place, patience = each.places["early_stopping"], each.trial.settings.early_stopping
    if patience is None or not uses.is_written(place):
        return
    length = plan.stages[-1].epochs
    # Patience starts with the last stage; with the first epoch, where there is no other stage.
    waits = length - 1 if len(plan.stages) == 1 else length
    if patience < waits:
        uses.used("early_stopping", place)
    else:
        uses.unused(
            "early_stopping",
            place,
            each.trial,
            "no effect, training is too short for so many epochs without a better one",
        )


def _tell_class_weights(uses: Uses, each: WrittenTrial, facts: _Facts) -> None:
    place = each.places["class_weights"]
    if each.trial.settings.class_weights == "none" or not uses.is_written(place):
        return
    if facts.is_balanced(each.trial):
        reason = "no effect, every class has as many training images"
        uses.unused("class_weights", place, each.trial, reason)
    else:
        uses.used("class_weights", place)


def _tell_features(uses: Uses, each: WrittenTrial, plan: Plan) -> None:
    """Penalties of features, and draws of norms, where nothing in front of the head trains."""
    terms = feature_terms(plan)
    if not terms and plan.stoch_norm is None:
        return
    trial, place = each.trial, each.places["strategy"]
    known = outline(trial.backbone.name, trial.settings.head, plan.adapter)
    trunk = [address for address in known.parameters if not address.startswith(f"{HEAD}/")]
    trains = any(stage.rule_for(own).lr is not None for stage in plan.stages for own in trunk)
    for term in terms:
        named = f"penalty {term.name} of strategy {trial.strategy.name!r}"
        if trains:
            uses.used(named, (*place, "penalty", term.name))
        else:
            reason = "no effect, the strategy trains nothing in front of the head"
            uses.unused(named, (*place, "penalty", term.name), trial, reason)
    if plan.stoch_norm is not None:
        named = f"stoch_norm of strategy {trial.strategy.name!r}"
        if any(s.rule_for(norm).norm_mode == "update" for s in plan.stages for norm in known.norms):
            uses.used(named, (*place, "stoch_norm"))
        else:
            reason = "no effect, the strategy keeps the statistics of all batch norms fixed"
            uses.unused(named, (*place, "stoch_norm"), trial, reason)


def _unused_fractions(
    loaded: LoadedSuite, written: Sequence[WrittenTrial], dataset: Dataset
) -> Iterator[Note]:
    """Shares of splits that the data set has of its own; a val split may serve as the test."""
    uses = Uses(loaded.yaml_file)
    (folds,) = loaded.suite.settings["folds"]
    has_test, has_val = _own_splits(dataset)
    own = "no effect, the data set has a {} split of its own"
    tested = "no effect, folds test every image once for each seed"
    unused = {
        "val_fraction": own.format("validation") if has_val and has_test and not folds else None,
        "test_fraction": own.format("test") if has_val or has_test else None,
        "split_seed": own.format("test") if has_val or has_test else None,
    }
    if folds:
        unused |= {"test_fraction": tested, "split_seed": tested}
    rule = loaded.suite.dataset.options.get("split")
    if rule is not None and rule["by"] == "time":
        dated = "no effect, split: {by: time} says which images test"
        unused |= {"test_fraction": dated, "split_seed": dated}
    elif has_test and has_val and not folds and not _draws_unlabelled(loaded):
        unused["split"] = "no effect, the data set has all splits of its own"
    for option, reason in unused.items():
        if reason is None or option not in loaded.suite.dataset.given:
            continue
        for each in written:
            uses.unused(f"{option} of the data set", ("dataset", option), each.trial, reason)
    yield from uses.notes()


def _unused_limits(
    loaded: LoadedSuite, written: Sequence[WrittenTrial], dataset: Dataset
) -> Iterator[Note]:
    """Limits of files, for a data set that has none or reads them by itself."""
    # Of two data sets each is opened under the limits by itself.
    both = loaded.suite.dataset.options.get("target_data") is not None
    if loaded.suite.limits == Limits() or takes_limits(dataset) or both:
        return
    uses = Uses(loaded.yaml_file)
    for each in written:
        reason = "no effect, the data set is not a folder of image files"
        uses.unused("limits", ("limits",), each.trial, reason)
    yield from uses.notes()


def _draws_unlabelled(loaded: LoadedSuite) -> bool:
    return loaded.suite.dataset.options.get("unlabelled_fraction") is not None


def _own_splits(dataset: Dataset) -> tuple[bool, bool]:
    """Whether the data set has a test split, and a validation split, of its own."""
    return bool(np.any(dataset.splits == TEST)), bool(np.any(dataset.splits == VAL))


def _pooled(
    loaded: LoadedSuite, written: Sequence[WrittenTrial], dataset: Dataset
) -> Iterator[Note]:
    """Folds take no notice of the splits that the data set has."""
    (folds,) = loaded.suite.settings["folds"]
    names = [
        name for name, has in zip(("test", "validation"), _own_splits(dataset), strict=True) if has
    ]
    if not folds or not names:
        return
    named = loaded.yaml_file.problem(("folds",), f"folds: {folds}")
    own = f"{' and '.join(names)} {'split' if len(names) == 1 else 'splits'}"
    yield Note(
        kind=POOLED,
        message=(
            f"{named}: the data set's own {own} {'are' if len(names) > 1 else 'is'} pooled with "
            f"all other images; each of the {counted(len(dataset), 'image')} is tested once for "
            "each seed, so results cannot be compared with those on the data set's own test split"
        ),
        count=len({id(each.trial) for each in written}),
    )


def _by_time(
    loaded: LoadedSuite,
    plans: Sequence[tuple[Trial, Plan, int]],
    dataset: Dataset,
    facts: _Facts,
) -> Iterator[Note]:
    """When the images of each split were taken, where that decides."""
    rule = loaded.suite.dataset.options.get("split")
    times, splits = dataset.times, facts.splits(plans[0][0]) if plans else None
    if rule is None or rule["by"] != "time" or times is None or splits is None:
        return
    told = [
        f"{name} has {counted(len(part), 'image')} from {as_text(int(times[part].min()))} to "
        f"{as_text(int(times[part].max()))}"
        for name, part in splits.named().items()
        if part.size
    ]
    named = loaded.yaml_file.problem(("dataset", "split"), "split by time")
    message = f"{named}: {', '.join(told)}; the same test and validation images for every seed"
    yield Note(kind=BY_TIME, message=message, count=len(plans))


def _without_labels(
    loaded: LoadedSuite,
    plans: Sequence[tuple[Trial, Plan, int]],
    dataset: Dataset,
    facts: _Facts,
) -> Iterator[Note]:
    """How many samples give up their labels, and how many train."""
    fraction = loaded.suite.dataset.options.get("unlabelled_fraction")
    splits = [facts.splits(trial) for trial, _, _ in plans]
    known = [each for each in splits if each is not None]
    if not _draws_unlabelled(loaded) or not known:
        return
    drawn, trained = (
        _least_and_most([len(getattr(each, part)) for each in known])
        for part in ("unlabelled", "train")
    )
    named = loaded.yaml_file.problem(
        ("dataset", "unlabelled_fraction"), f"unlabelled_fraction {fraction:g}"
    )
    message = (
        f"{named}: {drawn} of the training split are used without labels, for penalties such as "
        f"mcc, and {trained} train; which ones depends on the seed"
    )
    yield Note(kind=UNLABELLED_SHARE, message=message, count=len(known))


def _least_and_most(sizes: Sequence[int]) -> str:
    least, most = min(sizes), max(sizes)
    return counted(least, "image") if least == most else f"{least} to {most} images"


def _parted_groups(
    loaded: LoadedSuite,
    plans: Sequence[tuple[Trial, Plan, int]],
    dataset: Dataset,
    facts: _Facts,
) -> Iterator[Note]:
    """Groups on both sides of a split: a network may know a patient instead of the illness."""
    parted: dict[object, tuple[str, ...]] = {}
    count = 0
    for trial, _, _ in plans:
        key = splits_key(trial)
        if key not in parted:
            splits = facts.splits(trial)
            parted[key] = () if splits is None else groups_on_both_sides(dataset.groups, splits)
        count += bool(parted[key])
    if not count:
        return
    most = max(parted.values(), key=len)
    rule = loaded.suite.dataset.options.get("split")
    if rule is None and any(_own_splits(dataset)):
        why = "the data set has splits of its own"
    elif rule is None:
        why = "images are drawn one by one; split: {by: group} of the data set keeps groups whole"
    else:
        why = "times part them" if rule["by"] == "time" else "the data set's own splits part them"
    yield Note(
        kind=PARTED,
        message=(
            f"{len(most):,} of {counted(len(set(dataset.groups or ())), 'group')} have images on "
            f"both sides of the test or validation split, such as {naming(list(most), at_most=3)}, "
            f"which makes an accuracy too good for new groups: {why}"
        ),
        count=count,
    )


# Validation -----------------------------------------------------------------------------------


def _small_validation(
    loaded: LoadedSuite, plans: Sequence[tuple[Trial, Plan, int]], facts: _Facts
) -> Iterator[Note]:
    """Validation splits of so few images that much of what they choose is chosen by chance."""
    (choose,) = loaded.suite.settings["choose"]
    chosen = ["epochs"] if choose == "best" else []
    if loaded.suite.tune is not None or _several_configs([trial for trial, _, _ in plans]):
        chosen.append("configs")
    if not chosen:
        return
    drawn = (facts.splits(trial) for trial, plan, _ in plans if plan.stages)
    sizes = [len(splits.val) for splits in drawn if splits is not None]
    small = [size for size in sizes if size and _standard_error(size) > KNOWN_WELL]
    if small:
        classes = loaded.suite.settings["task"] == (CLASSIFICATION.name,)
        message = _by_chance(small, chosen, classes=classes)
        yield Note(kind=BY_CHANCE, message=message, count=len(small))
    if 0 in sizes and "configs" in chosen:
        message = (
            "there is no validation split, and strategies have several configs, so nothing can "
            "choose among them; give each strategy one config"
        )
        yield Note(kind=BY_CHANCE, message=message, count=sizes.count(0))


def _standard_error(size: int) -> float:
    """Of an accuracy of 50 % on so many images: the largest that it can have."""
    return float(0.5 / np.sqrt(size))


def _by_chance(sizes: Sequence[int], chosen: Sequence[str], *, classes: bool) -> str:
    images = _least_and_most(sizes)
    error = 100 * _standard_error(min(sizes))
    mends = ["choose: last takes the last epoch"] if "epochs" in chosen else []
    if "configs" in chosen:
        mends.append("one config for each strategy leaves nothing else to choose")
    known = (
        f"its accuracy is known to ± {error:.0f} points (one standard error at 50 %), and "
        f"{' and '.join(chosen)} that differ by less"
        if classes
        else f"{' and '.join(chosen)} that differ by little"
    )
    return (
        f"validation has {images}: {known} are chosen by chance; {', '.join(mends)}, more "
        "validation images choose better"
    )


def _several_configs(trials: Sequence[Trial]) -> bool:
    """Whether validation chooses which config stands for a value of the axis that is compared."""
    configs: dict[str, set[str]] = {}
    axes = [[_on_axis(trial, axis) for trial in trials] for axis in LEADING]
    compared = next((values for values in axes if len(set(values)) > 1), axes[0])
    for trial, value in zip(trials, compared, strict=True):
        configs.setdefault(value, set()).add(trial.config)
    return any(len(own) > 1 for own in configs.values())


def _on_axis(trial: Trial, axis: str) -> str:
    value = getattr(trial, axis) if axis in AXES else getattr(trial.settings, axis)
    return value.label if isinstance(value, Entry) else str(value)


def _failing(
    loaded: LoadedSuite,
    written: Sequence[WrittenTrial],
    plans: Sequence[tuple[Trial, Plan, int]],
) -> Iterator[Note]:
    """Trials with batches of one image that a batch norm cannot train on."""
    places = {id(each.trial): each.places["batch_size"] for each in written}
    failing: dict[str, int] = {}
    for trial, plan, size in plans:
        if trial.settings.batch_size > 1 or trial.settings.devices > 1:
            continue
        if any(
            stage.rule_for(address).norm_mode == "update"
            for address in single_value_norms(trial.backbone.name, size, plan.adapter)
            for stage in plan.stages
        ):
            named = loaded.yaml_file.problem(places[id(trial)], "batch_size 1")
            message = (
                f"{named}: strategy {trial.strategy.name!r} trains batch norms of "
                f"{trial.backbone.name} that have one value per channel of an image of {size} px, "
                "and one value has no variance; give batch_size 2 or larger images"
            )
            failing[message] = failing.get(message, 0) + 1
    for message, count in failing.items():
        yield Note(kind=WILL_FAIL, message=message, count=count)


# What finished trials are made into -----------------------------------------------------------


def _children(loaded: LoadedSuite, trials: Sequence[Trial], facts: _Facts) -> Iterator[Note]:
    """What no trial of the suite can be made into, as far as trainings need not show it."""
    for index, entry in enumerate(loaded.suite.after):
        reason = _cannot_be(recipe(entry.name, dict(entry.options)), trials, facts)
        if reason is not None:
            named = loaded.yaml_file.problem(("after", index), f"after {entry.label!r}")
            message = f"{named}: cannot be made, {reason}"
            yield Note(kind=NO_EFFECT, message=message, count=len(trials))


def _cannot_be(found: Recipe, trials: Sequence[Trial], facts: _Facts) -> str | None:
    splits = [facts.splits(trial) for trial in trials]
    if chooses(found) and splits and all(each is not None and not len(each.val) for each in splits):
        return "validation chooses it, and there is no validation split"
    if found == Ensemble(greedy=False) and len({trial.settings.seed for trial in trials}) < 2:
        return "it joins the seeds of a config, and there is one seed"
    if isinstance(found, Vote) and not _have_rates(trials):
        return "it joins the learning rates of a config, and none has two"
    if isinstance(found, Interpolation) and not any(
        trial.strategy.name == PROBE for trial in trials
    ):
        return f"it starts from the {PROBE} of each seed, which is no strategy of the suite"
    if isinstance(found, TargetStatistics):
        if all(each is not None and not len(each.unlabelled) for each in splits):
            return (
                "it looks at target data without labels, and the suite has no target_data or "
                "unlabelled_fraction"
            )
        heads = {trial.backbone.name: trial.settings.head for trial in trials}
        if not any(outline(name, head).norms for name, head in heads.items()):
            return "it changes statistics of batch norms, and no backbone of the suite has any"
    return None


def _have_rates(trials: Sequence[Trial]) -> bool:
    """Whether two of them differ in the learning rate alone."""
    configs = {trial.config for trial in trials}
    return len({trial.with_settings(lr=1.0).config for trial in trials}) < len(configs)
