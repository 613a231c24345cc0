"""What a suite writes down that changes nothing: told, never corrected in silence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from bench.errors import counted
from bench.suite.grid import UNTRAINED_KEEPS, WrittenTrial
from bench.suite.load import Catalogue, LoadedSuite
from bench.suite.schema import AXES, AxisEntry, Settings, Trial
from bench.suite.yaml_file import Location, YamlFile

NO_EFFECT, CORRECTED_TWICE = "no effect", "corrected twice"
SHOWN_PLACES = 5

DEPENDS_ON = {
    "momentum": "optimizer",
    "micro_batch": "batch_size",
    "weight_decay_on": "weight_decay",
}
"""Settings whose effect depends on another: where that is searched, they have one."""

OF_IMAGES, OF_TEXTS = ("image_size", "resize"), ("max_length", "pooling")
"""Settings of inputs of one kind."""


@dataclass(frozen=True, kw_only=True)
class Note:
    """What is told before training: a kind, one sentence, and how many trials it concerns."""

    kind: str
    message: str
    count: int


@dataclass(kw_only=True)
class _Use:
    """What became of a value in the trials that have it: `reasons` why not, by their trials."""

    name: str
    used: bool = False
    reasons: dict[str, None] = field(default_factory=dict)
    trials: set[int] = field(default_factory=set)


class Uses:
    """Gathers for each value that a suite writes down whether any trial uses it."""

    def __init__(self, yaml_file: YamlFile) -> None:
        self._yaml_file = yaml_file
        self._uses: dict[Location, _Use] = {}

    def is_written(self, place: Location) -> bool:
        """Whether somebody wrote the value there, so that it is no default."""
        prefixes = [place[:end] for end in range(1, len(place) + 1)]
        overrides = self._yaml_file.overrides
        return place in self._yaml_file.lines or any(each in overrides for each in prefixes)

    def used(self, name: str, place: Location) -> None:
        """A trial uses the value of `name` that stands at `place`."""
        self._uses.setdefault(place, _Use(name=name)).used = True

    def unused(self, name: str, place: Location, trial: Trial, reason: str) -> None:
        """The trial does not use it."""
        use = self._uses.setdefault(place, _Use(name=name))
        use.reasons[reason] = None
        use.trials.add(id(trial))

    def notes(self) -> Iterator[Note]:
        """A note for each reason, on the values that no trial uses."""
        together: dict[tuple[tuple[str, ...], int], list[str]] = {}
        for place, use in self._uses.items():
            if not use.used:
                key = (tuple(use.reasons), len(use.trials))
                named = str(self._yaml_file.problem(place, use.name))
                together.setdefault(key, []).append(named)
        for (reasons, count), names in together.items():
            message = f"{', '.join(names)}: {'; '.join(reasons)}"
            yield Note(kind=NO_EFFECT, message=message, count=count)


def no_effect(
    loaded: LoadedSuite, written: Sequence[WrittenTrial], catalogue: Catalogue
) -> list[Note]:
    """Notes on what has no effect in any trial, or less than an override on the command line means.

    Of settings that stand in the file and hold where an entry has none of its own, nothing is said
    as long as one trial uses them.
    """
    uses = Uses(loaded.yaml_file)
    tune = loaded.suite.tune
    searched = {item.key for item in tune.space} if tune is not None else set()
    for each in written:
        for key, place in each.places.items():
            if uses.is_written(place) and DEPENDS_ON.get(key) not in searched:
                _tell(uses, key, place, each, catalogue)
        _tell_mix_alpha(uses, each)
        _tell_shared_options(uses, each, catalogue)
    return [
        *_overridden(loaded, written, uses),
        *uses.notes(),
        *_class_map(loaded, written, uses),
        *_corrected_twice(loaded, written),
    ]


def _tell(uses: Uses, key: str, place: Location, each: WrittenTrial, catalogue: Catalogue) -> None:
    reason = _why_unused(key, each.written, catalogue)
    if reason is None:
        uses.used(key, place)
    elif not _is_neutral(key, each):
        uses.unused(key, place, each.trial, f"no effect, {reason}")


def _why_unused(key: str, written: Trial, catalogue: Catalogue) -> str | None:
    """Why the trial does not use its value of an axis or setting; None if it does."""
    settings, strategy = written.settings, written.strategy.name
    traits = catalogue.strategy.get(strategy).traits
    if not traits.trains and key not in (*UNTRAINED_KEEPS, "backbone", "strategy"):
        if traits.fits:
            return "strategies that fit a head at once have no epochs"
        return f"strategy {strategy!r} trains nothing"
    if traits.fits and key in ("class_weights", "label_smoothing", "sampler"):
        return f"strategy {strategy!r} compares pairs of samples"
    if key == "weights" and traits.weights == "ignored":
        return f"strategy {strategy!r} starts at random"
    if (
        key == "head"
        and traits.head is not None
        and not _has_layers(written, traits.head, catalogue)
    ):
        return f"strategy {strategy!r} always has the head {traits.head!r}"
    if key == "momentum" and settings.optimizer != "sgd":
        return f"optimizer {settings.optimizer!r} has no momentum"
    of_texts = catalogue.is_text_backbone(written.backbone.name)
    if key in OF_TEXTS and not of_texts:
        return f"backbone {written.backbone.name!r} takes no texts"
    if key in OF_IMAGES and of_texts:
        return f"backbone {written.backbone.name!r} takes texts"
    if key == "weight_decay_on" and settings.weight_decay == 0:
        return "weight_decay is 0"
    if key == "micro_batch" and (settings.micro_batch or settings.batch_size) >= (
        settings.batch_size
    ):
        return "batches are no larger"
    return None


def _has_layers(written: Trial, head: str, catalogue: Catalogue) -> bool:
    """Whether the head has the layers of the one called `head`, and another start."""
    name = written.settings.head.name
    return name in catalogue.head and catalogue.head.get(name).traits.layers_of == head


def _is_neutral(key: str, each: WrittenTrial) -> bool:
    """Whether the value says what would hold without it."""
    if key == "momentum":
        return each.written.settings.momentum == 0
    if key == "micro_batch":
        return each.written.settings.micro_batch is None
    if key == "weight_decay_on":
        return each.written.settings.weight_decay_on == "all"
    if key in (*OF_IMAGES, *OF_TEXTS):
        return bool(getattr(each.written.settings, key) == getattr(Settings(), key))
    if key in ("weights", "head"):
        written, kept = (getattr(trial.settings, key) for trial in (each.written, each.trial))
        return bool(written.name == kept.name)
    return False


def _tell_mix_alpha(uses: Uses, each: WrittenTrial) -> None:
    entry, location = each.written.augmentation, each.places["augmentation"]
    if "mix_alpha" in entry.given:
        name, place = f"mix_alpha of augmentation {entry.name!r}", (*location, "mix_alpha")
        if entry.options["mix"] is None:
            uses.unused(name, place, each.trial, "no effect, nothing is mixed")
        else:
            uses.used(name, place)


def _tell_shared_options(uses: Uses, each: WrittenTrial, catalogue: Catalogue) -> None:
    """What a strategy that trains nothing is to minimise."""
    entry, location = each.written.strategy, each.places["strategy"]
    traits = catalogue.strategy.get(entry.name).traits
    if traits.trains:
        return
    for option in entry.given:
        if option in catalogue.strategy.shared_options and entry.options[option] is not None:
            name, place = f"{option} of strategy {entry.name!r}", (*location, option)
            what = "minimises what it is made for" if traits.fits else "trains nothing"
            uses.unused(name, place, each.trial, f"no effect, the strategy {what}")


# Overriding -----------------------------------------------------------------------------------


def _overridden(loaded: LoadedSuite, written: Sequence[WrittenTrial], uses: Uses) -> Iterator[Note]:
    """Settings for which all trials have values from elsewhere; of `--set`, also if some have."""
    for key in Settings.model_fields:
        if uses.is_written((key,)):
            yield from _elsewhere(loaded, key, (key,), written)
    for axis in AXES:
        for item in loaded.suite.axes[axis]:
            cells = [each for each in written if each.places[axis] == item.location]
            for key in item.settings:
                if cells:
                    yield from _elsewhere(loaded, key, (*item.location, key), cells)


def _elsewhere(
    loaded: LoadedSuite, key: str, place: Location, among: Sequence[WrittenTrial]
) -> Iterator[Note]:
    values = _values_at(loaded, key, place)
    others = [
        each
        for each in among
        if each.places[key] != place and getattr(each.written.settings, key) not in values
    ]
    by_hand = any(given[: len(place)] == place for given in loaded.yaml_file.overrides)
    if not others or not (by_hand or all(each.places[key] != place for each in among)):
        return
    count, whole = len({id(e.trial) for e in others}), len({id(e.trial) for e in among})
    reach = (
        "reaches no trial"
        if count == whole
        else f"does not reach {count} of {counted(whole, 'trial')}"
    )
    named = loaded.yaml_file.problem(place, key)
    message = f"{named}: {reach}, {_owners(loaded, key, others)} own {key}"
    yield Note(kind=NO_EFFECT, message=message, count=count)


def _values_at(loaded: LoadedSuite, key: str, place: Location) -> tuple[object, ...]:
    if place == (key,):
        return loaded.suite.settings[key]
    items: Iterable[AxisEntry] = loaded.suite.axes[str(place[0])]
    return next(item.settings[key] for item in items if (*item.location, key) == place)


def _owners(loaded: LoadedSuite, key: str, others: Sequence[WrittenTrial]) -> str:
    """The entries and rules that the trials have their values from, with their places."""
    owners: dict[str, None] = {}
    for each in others:
        place = each.places[key][:-1]
        axis = str(place[0])
        name = f"{axis} {getattr(each.written, axis).label!r}" if axis in AXES else f"{axis} rule"
        owners[str(loaded.yaml_file.problem(place, name))] = None
    shown = list(owners)[:SHOWN_PLACES]
    rest = len(owners) - len(shown)
    more = f" and {rest} more" if rest else ""
    return f"{', '.join(shown)}{more} {'has its' if len(owners) == 1 else 'have their'}"


# What else --------------------------------------------------------------------------------------


def _class_map(loaded: LoadedSuite, written: Sequence[WrittenTrial], uses: Uses) -> Iterator[Note]:
    place = ("dataset", "class_map")
    if not uses.is_written(place) or loaded.suite.dataset.options.get("class_map") is None:
        return
    if all(each.trial.settings.head.name != "pretrained" for each in written):
        named = loaded.yaml_file.problem(place, "class_map of the data set")
        message = f"{named}: no effect, no strategy uses the classifier that comes with the weights"
        yield Note(kind=NO_EFFECT, message=message, count=len({id(e.trial) for e in written}))


def _corrected_twice(loaded: LoadedSuite, written: Sequence[WrittenTrial]) -> Iterator[Note]:
    both = {
        id(each.trial): each
        for each in written
        if each.trial.settings.class_weights == each.trial.settings.sampler == "balanced"
    }
    if both:
        place = next(iter(both.values())).places["class_weights"]
        named = loaded.yaml_file.problem(place, "class_weights and sampler")
        message = f"{named}: both are balanced and correct the same imbalance twice; give one"
        yield Note(kind=CORRECTED_TWICE, message=message, count=len(both))
