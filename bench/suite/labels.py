"""What the cells of a grid are called: their axes, and the settings that tell equal ones apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bench.suite.schema import Settings, Trial, value_label

REPEATED = ("seed", "folds")
"""Settings that make trials of a cell, and no cells."""


def cell_labels(trials: Iterable[Trial]) -> dict[str, str]:
    """Config → its label; where labels would be equal, with the settings in which they differ."""
    firsts: dict[str, Trial] = {}
    for trial in trials:
        firsts.setdefault(trial.config, trial)
    alike: dict[str, dict[str, Trial]] = {}
    for config, trial in firsts.items():
        alike.setdefault(trial.label, {})[config] = trial
    found: dict[str, str] = {}
    for label, own in alike.items():
        found |= dict.fromkeys(own, label) if len(own) == 1 else _told_apart(label, own)
    return {config: found[config] for config in firsts}


def trial_label(trial: Trial, labels: Mapping[str, str]) -> str:
    """The trial in words: what `labels` call its cell, its seed, and its fold if it has one."""
    return f"{labels.get(trial.config, trial.label)} · {trial.repetition}"


def _value(name: str, settings: Settings) -> str:
    value = getattr(settings, name)
    return "all" if name == "shots" and value is None else value_label(value)


def _told_apart(label: str, trials: Mapping[str, Trial]) -> dict[str, str]:
    settings = {config: trial.settings for config, trial in trials.items()}
    telling = [
        name
        for name in Settings.model_fields
        if name not in REPEATED and len({repr(getattr(s, name)) for s in settings.values()}) > 1
    ]
    found = {}
    for config, own in settings.items():
        values = (f"{name} {_value(name, own)}" for name in telling)
        found[config] = " · ".join([label, *values])
    alike = len(set(found.values())) < len(found)  # such as weights from files of the same name
    return {config: f"{text} · {config[:8]}" if alike else text for config, text in found.items()}
