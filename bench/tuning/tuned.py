"""The tuned suite: a plain suite with the values that were found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.methods.plan import FITTED
from bench.suite import AXES, AxisEntry, Entry, GridRule, Settings, Suite, Trial
from bench.suite.target_tasks import PRETRAINED_HEAD

SUFFIX = "_tuned"


def tuned_suite(suite: Suite, trials: Sequence[Trial]) -> Suite:
    """A suite whose grid is `trials`, whatever seeds they have, with the seeds of `suite`.

    What all trials share stands in the suite's settings. The rest goes with the strategy: an entry
    for each strategy with its values; combinations that were not asked for are excluded.
    """
    shared: dict[str, tuple[Any, ...]] = {}
    own = []
    for name in (each for each in Settings.model_fields if each != "seed"):
        given = [getattr(trial.settings, name) for trial in trials if _gives(trial, name)]
        if len({*map(repr, given)}) == 1:
            shared[name] = (given[0],)
        elif given:
            own.append(name)
    strategies = [_with_settings(trial, own) for trial in trials]
    entries: dict[str, tuple[AxisEntry, ...]] = {
        axis: _distinct([AxisEntry(entry=getattr(trial, axis)) for trial in trials])
        for axis in AXES
        if axis != "strategy"
    }
    entries["strategy"] = _distinct(strategies)
    defaults = {name: (value,) for name, value in dict(Settings()).items() if name in own}
    return Suite(
        name=suite.name + SUFFIX,
        dataset=suite.dataset,
        axes={axis: entries[axis] for axis in AXES},
        settings={**defaults, **shared, "seed": suite.settings["seed"]},
        exclude=tuple(_excluded(entries, trials, strategies)),
        claims=suite.claims,
        resources=suite.resources,
        limits=suite.limits,
        checkpoints=suite.checkpoints,
        after=suite.after,
    )


def _gives(trial: Trial, setting: str) -> bool:
    """Whether a suite can give the setting: some heads come with their strategies alone."""
    return setting != "head" or trial.settings.head.name not in (FITTED, PRETRAINED_HEAD)


def _with_settings(trial: Trial, names: Sequence[str]) -> AxisEntry:
    settings = {n: (getattr(trial.settings, n),) for n in names if _gives(trial, n)}
    return AxisEntry(entry=trial.strategy, settings=settings)


def _distinct(entries: Sequence[AxisEntry]) -> tuple[AxisEntry, ...]:
    return tuple({_identity(entry): entry for entry in entries}.values())


def _identity(entry: AxisEntry) -> str:
    settings = {name: repr(values) for name, values in entry.settings.items()}
    return repr((entry.entry.identity(), settings))


def _excluded(
    entries: Mapping[str, Sequence[AxisEntry]],
    trials: Sequence[Trial],
    strategies: Sequence[AxisEntry],
) -> list[GridRule]:
    """A rule for each combination of a strategy with the others that is none of `trials`."""
    others = [axis for axis in AXES if axis != "strategy" and len(entries[axis]) > 1]
    wanted = {
        (_identity(strategy), *(_name(getattr(trial, axis)) for axis in others))
        for trial, strategy in zip(trials, strategies, strict=True)
    }
    rules = []
    for strategy in entries["strategy"]:
        for chosen in _product([entries[axis] for axis in others]):
            cell = (_identity(strategy), *(_name(entry.entry) for entry in chosen))
            if cell in wanted:
                continue
            named = {"strategy": _exact(strategy)}
            named |= {axis: _exact(entry) for axis, entry in zip(others, chosen, strict=True)}
            rules.append(GridRule(entries=named, settings={}, location=("exclude",)))
    return rules


def _product(axes: Sequence[Sequence[AxisEntry]]) -> list[tuple[AxisEntry, ...]]:
    found: list[tuple[AxisEntry, ...]] = [()]
    for entries in axes:
        found = [(*chosen, entry) for chosen in found for entry in entries]
    return found


def _name(entry: Entry) -> str:
    return repr(entry.identity())


def _exact(entry: AxisEntry) -> AxisEntry:
    """The entry so that a rule matches it alone: all of its options count."""
    whole: Any = entry.entry.model_copy(update={"given": tuple(entry.entry.options)})
    return entry.model_copy(update={"entry": whole})
