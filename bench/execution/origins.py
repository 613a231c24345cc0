"""What of a trial comes from outside the package: the digests of the plugins that it uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.data import AUGMENTATIONS, DATASETS, MIXES
from bench.methods.metrics import METRICS
from bench.methods.objectives import OBJECTIVES
from bench.methods.penalties import PENALTIES
from bench.methods.plan import Plan
from bench.methods.schedules import SCHEDULES
from bench.methods.strategies import STRATEGIES
from bench.models import HEADS, OUTSIDE_BACKBONES
from bench.suite import Trial
from bench.suite.plugins import Plugin, loaded_plugins
from bench.suite.registry import Registry

REGISTRIES: Mapping[str, Registry[Any, Any]] = {
    registry.kind: registry
    for registry in (
        STRATEGIES,
        SCHEDULES,
        AUGMENTATIONS,
        MIXES,
        HEADS,
        DATASETS,
        OUTSIDE_BACKBONES,
        METRICS,
        OBJECTIVES,
        PENALTIES,
    )
}
"""Everything that can be registered from outside, by kind."""

OF_INPUTS = ("backbone", "dataset", "augmentation", "mix")
"""What decides about the activations of a frozen trunk."""


OF_VIEWS = ("dataset", "augmentation")
"""What decides about views of samples; mixing comes after it."""


def used_plugins(trial: Trial, plan: Plan) -> dict[str, str]:
    """Digest of the plugin by what the trial uses of it, such as `strategy mine`.

    Raises `PluginError` for what is registered neither by this package nor by a plugin.
    """
    used = {}
    for kind, name in _named(trial, plan):
        registry = REGISTRIES[kind]
        if name in registry and (origin := registry.get(name).checked_origin) is not None:
            used[f"{kind} {name}"] = origin
    return used


def sent_with(used: Mapping[str, str]) -> tuple[Plugin, ...]:
    """The plugins that a process needs for what is used."""
    return tuple(plugin for plugin in loaded_plugins() if plugin.digest in used.values())


def of_inputs(plugins: Mapping[str, str]) -> dict[str, str]:
    """Those that decide about what a frozen trunk gives."""
    return _of(OF_INPUTS, plugins)


def of_views(plugins: Mapping[str, str]) -> dict[str, str]:
    """Those that decide about views of training samples."""
    return _of(OF_VIEWS, plugins)


def of_training(plugins: Mapping[str, str]) -> dict[str, str]:
    """Those whose code runs while a trial trains.

    What a strategy decides is in the plan, what most schedules do in their factors: keys have both.
    """
    return {
        what: digest
        for what, digest in plugins.items()
        if not what.startswith("strategy ")
        and not (what.startswith("schedule ") and not _looks_at_losses(what))
    }


def _of(kinds: Sequence[str], plugins: Mapping[str, str]) -> dict[str, str]:
    return {what: digest for what, digest in plugins.items() if what.split(" ")[0] in kinds}


def _looks_at_losses(schedule: str) -> bool:
    return SCHEDULES.get(schedule.partition(" ")[2]).traits.uses_validation


def _named(trial: Trial, plan: Plan) -> Iterator[tuple[str, str]]:
    """(kind, name) of everything that the trial and its plan name."""
    for kind in ("strategy", "schedule", "augmentation", "dataset", "backbone"):
        yield kind, getattr(trial, kind).name
    yield "head", trial.settings.head.name
    yield "metric", trial.settings.metric
    mix = trial.augmentation.options.get("mix")
    if mix is not None:
        yield "mix", mix
    if plan.objective is not None:
        yield "objective", plan.objective.name
    yield from (("penalty", term.name) for term in plan.penalties)
