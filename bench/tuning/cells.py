"""Cells: what has a study of its own, and how found values become trials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.errors import counted
from bench.keys import content_hash
from bench.methods.strategies import STRATEGIES
from bench.results.grid import ALL, SHOTS
from bench.runs.catalogue import catalogue
from bench.suite import (
    AXES,
    Entry,
    Searched,
    Settings,
    Trial,
    Tune,
    normal_form,
)

Params = Mapping[str, Any]
"""Values of searched settings by name, such as `lr` and `strategy.backbone_multiplier`."""

ONLY_WITH_SGD = ("momentum", "nesterov")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Trials of a suite that differ in searched settings and seeds only.

    `own` are the suite's own trials of it, one for each config; `space` is what is searched, by
    name; `key` names the cell whatever the suite gives the searched settings.
    """

    label: str
    key: str
    own: tuple[Trial, ...]
    space: Mapping[str, Searched]

    def trial(self, params: Params, *, seed: int) -> Trial:
        """The cell's trial with these values and this seed."""
        trial = with_params(self.own[0], params).with_settings(seed=seed)
        return normal_form(trial, catalogue())


def cells_of(trials: Sequence[Trial], tune: Tune) -> list[Cell]:
    """The cells of a suite's trials, in the order of the grid."""
    grouped: dict[str, dict[str, Trial]] = {}
    spaces: dict[str, Mapping[str, Searched]] = {}
    for trial in trials:
        space = space_of(trial, tune)
        key = _key(trial, space.values())
        grouped.setdefault(key, {}).setdefault(trial.config, trial)
        spaces[key] = space
    groups = {key: tuple(configs.values()) for key, configs in grouped.items()}
    labels = _labels({key: own[0] for key, own in groups.items()}, spaces)
    return [
        Cell(label=labels[key], key=key, own=own, space=spaces[key]) for key, own in groups.items()
    ]


def search_in_words(trials: Sequence[Trial], tune: Tune) -> str:
    """What `bench tune` would search for a suite's trials, and what that costs."""
    method = tune.method
    searched = [cell for cell in cells_of(trials, tune) if cell.space]
    seeds = counted(len(method.seeds), "tuning seed")
    if method.trials is None:
        budget = (
            counted(method.images, "image")
            if method.images is not None
            else f"{method.seconds:g} s"
        )
        return f"bench tune searches {counted(len(searched), 'cell')}, {budget} each, on {seeds}"
    epochs = sum(cell.own[0].settings.epochs for cell in searched)
    total = epochs * method.trials * len(method.seeds)
    return (
        f"bench tune searches {counted(len(searched), 'cell')}, {counted(method.trials, 'trial')} "
        f"each, on {seeds}: {counted(total, 'trial-epoch')}"
        f"{' at most' if method.pruner != 'none' else ''}"
    )


def space_of(trial: Trial, tune: Tune) -> dict[str, Searched]:
    """What is searched of the trial's cell; what is said of its entries goes before the general."""
    if not STRATEGIES.get(trial.strategy.name).traits.trains:
        return {}
    found: dict[str, Searched] = {}
    for item in sorted(tune.space, key=lambda item: item.axis is not None):
        if item.axis is None or _entry(trial, item.axis).name == item.entry:
            found[item.name] = item
    return found


def own_params(trial: Trial, space: Mapping[str, Searched]) -> dict[str, Any]:
    """The values that a trial has of the searched settings."""
    return {
        name: _entry(trial, item.axis).options[item.key]
        if item.option and item.axis is not None
        else getattr(trial.settings, item.key)
        for name, item in space.items()
    }


def has_entry(trial: Trial, item: Searched) -> bool:
    """Whether the trial has the setting: an option is one of its own entry only."""
    if not item.option:
        return True
    assert item.axis is not None
    return _entry(trial, item.axis).name == item.entry


def with_params(trial: Trial, params: Params) -> Trial:
    """The trial with these values."""
    for name, value in params.items():
        axis, dot, key = name.partition(".")
        if not dot:
            trial = trial.with_settings(**{name: value})
            continue
        entry = _entry(trial, axis)
        given = tuple(dict.fromkeys([*entry.given, key]))
        entry = entry.model_copy(update={"options": {**entry.options, key: value}, "given": given})
        if axis in AXES:
            trial = trial.model_copy(update={axis: entry})
        else:
            trial = trial.with_settings(**{axis: entry})
    return trial


def _entry(trial: Trial, axis: str) -> Entry:
    found = getattr(trial, axis) if axis in AXES else getattr(trial.settings, axis)
    assert isinstance(found, Entry)
    return found


def _key(trial: Trial, space: Iterable[Searched]) -> str:
    identity = trial.identity()
    del identity["seed"]
    for item in space:
        if item.option:
            assert item.axis is not None
            identity[item.axis] = {k: v for k, v in identity[item.axis].items() if k != item.key}
        else:
            del identity[item.key]
    return content_hash(identity)


def _labels(
    firsts: Mapping[str, Trial], spaces: Mapping[str, Mapping[str, Searched]]
) -> dict[str, str]:
    """For each cell its strategy, and what else it takes to tell it from the others."""
    texts = {key: _texts(trial, spaces[key]) for key, trial in firsts.items()}
    telling: list[str] = []
    for name in dict.fromkeys(["strategy", *(name for each in texts.values() for name in each)]):
        if not telling or _distinct(texts, [*telling, name]) > _distinct(texts, telling):
            telling.append(name)
    labels = {key: " · ".join(each[name] for name in telling) for key, each in texts.items()}
    twice = len(set(labels.values())) < len(labels)
    return {key: f"{label} · {key[:6]}" if twice else label for key, label in labels.items()}


def _distinct(texts: Mapping[str, Mapping[str, str]], names: Sequence[str]) -> int:
    return len({tuple(each[name] for name in names) for each in texts.values()})


def _texts(trial: Trial, space: Mapping[str, Searched]) -> dict[str, str]:
    """What the cell is on every axis and setting that is not searched, in words."""
    searched = {(item.axis, item.key) for item in space.values() if item.option}
    names = [*AXES, *(name for name in Settings.model_fields if name != "seed")]
    texts = {}
    for name in names:
        value = getattr(trial, name) if name in AXES else getattr(trial.settings, name)
        if isinstance(value, Entry):
            given = tuple(key for key in value.given if (name, key) not in searched)
            texts[name] = value.model_copy(update={"given": given}).label
        else:
            shown = ALL if (name, value) == (SHOTS, None) else value
            texts[name] = "searched" if name in space else f"{name} {shown}"
    return texts
