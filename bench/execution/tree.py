"""The training tree: trials merged on equal epoch keys, so that each epoch is trained once.

A key names the state after an epoch: it hashes the key before it and everything that the epoch
uses. Equal keys mean equal state, bit by bit, so trials whose first epochs agree share them
whatever makes them part later: a milestone of the schedule, more epochs, another stage of the plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from bench.methods.plan import Plan, Stage
from bench.methods.schedules import SCHEDULES, Progress, lr_factor
from bench.models import Outline
from bench.suite import Entry, Settings, content_hash

EPOCH_SETTINGS = (
    "optimizer",
    "momentum",
    "nesterov",
    "weight_decay",
    "label_smoothing",
    "grad_clip_norm",
    "batch_size",
    "class_weights",
    "sampler",
)
"""The settings that every epoch uses as they stand; the LR is told apart step by step."""


def epoch_keys(
    start: Mapping[str, Any],
    *,
    plan: Plan,
    settings: Settings,
    schedule: Entry,
    augmentation: Entry,
    outline: Outline,
    steps_per_epoch: int,
) -> tuple[str, ...]:
    """The keys of a trial's states, from the start (hashed from `start`) to the last epoch.

    `start` must name all that fixes the starting state, the splits, the seed, and the arithmetic.
    """
    keys = [_key(start)]
    fixed = {name: getattr(settings, name) for name in EPOCH_SETTINGS}
    if settings.micro_batch is not None:
        fixed["micro_batch"] = settings.micro_batch
    if settings.devices > 1:
        fixed["devices_per_trial"] = settings.devices
    tables = {stage: _table(outline, stage, settings.lr) for stage in dict.fromkeys(plan.stages)}
    for epoch in range(plan.epochs):
        used = {
            **fixed,
            "augmentation": augmentation.identity(),
            "rates": tables[plan.stage_at(epoch)],
            "factors": _factors(schedule.model_dump_json(), plan.epochs, steps_per_epoch, epoch),
        }
        keys.append(_key([keys[-1], used]))
    return tuple(keys)


def _key(content: Any) -> str:
    return content_hash(content, digits=32)


@lru_cache(maxsize=4096)
def _table(outline: Outline, stage: Stage, lr: float) -> str:
    """What the stage does to every parameter (its LR before the schedule) and norm layer."""
    rates = []
    for address in outline.parameters:
        multiplier = stage.rule_for(address).lr
        rates.append(None if multiplier is None else lr * multiplier)
    norms = [stage.rule_for(address).norm_mode for address in outline.norms]
    return _key([rates, norms])


@lru_cache(maxsize=65536)
def _factors(schedule_json: str, epochs: int, steps_per_epoch: int, epoch: int) -> str:
    """The schedule's factor at every step of the epoch.

    A schedule that looks at validation losses is named instead: the key of the epoch before fixes
    those losses, so they and its options fix the factor.
    """
    schedule = Entry.model_validate_json(schedule_json)
    if SCHEDULES.get(schedule.name).traits.get("uses_validation"):
        return _key(schedule.identity())
    factors = (
        lr_factor(
            schedule,
            Progress(
                step=epoch * steps_per_epoch + step,
                steps_per_epoch=steps_per_epoch,
                num_epochs=epochs,
            ),
        )
        for step in range(steps_per_epoch)
    )
    return _key(list(factors))


@dataclass(kw_only=True)
class Segment:
    """Epochs `start` to `end` (from 0, end excluded) that the same trials train one after another.

    `trials` need it, of which `ending` are finished with it; `children` go on from its state.
    """

    start: int
    end: int
    trials: tuple[str, ...]
    ending: tuple[str, ...]
    children: list[Segment] = field(default_factory=list)

    def walk(self) -> Iterator[Segment]:
        """This segment and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()

    @property
    def longest(self) -> int:
        """Epochs from the start of this segment to the end of the deepest trial below it."""
        below = max((child.longest for child in self.children), default=0)
        return self.end - self.start + below


def grow(paths: Mapping[str, Sequence[str]], starts: Mapping[str, int]) -> list[Segment]:
    """The forest of the trials' epochs, in the order of `paths` (trial → epoch keys).

    `starts` says after how many epochs a trial enters it; trials that enter at equal keys share.
    """
    groups: dict[tuple[int, str, str | None], list[str]] = {}
    for trial, keys in paths.items():
        start = starts[trial]
        following = keys[start + 1] if len(keys) > start + 1 else None
        groups.setdefault((start, keys[start], following), []).append(trial)
    return [_grow(paths, trials, start) for (start, _, _), trials in groups.items()]


def _grow(paths: Mapping[str, Sequence[str]], trials: Sequence[str], start: int) -> Segment:
    end = min(start + 1, len(paths[trials[0]]) - 1)
    while True:
        following: dict[str, list[str]] = {}
        for trial in trials:
            if len(paths[trial]) > end + 1:
                following.setdefault(paths[trial][end + 1], []).append(trial)
        if len(following) != 1 or len(next(iter(following.values()))) != len(trials):
            break
        end += 1
    return Segment(
        start=start,
        end=end,
        trials=tuple(trials),
        ending=tuple(trial for trial in trials if len(paths[trial]) == end + 1),
        children=[_grow(paths, group, end) for group in following.values()],
    )


def reused_epochs(paths: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """For each trial, how many of its epochs an earlier trial of `paths` has as well."""
    seen: set[str] = set()
    reused = {}
    for trial, keys in paths.items():
        reused[trial] = sum(key in seen for key in keys[1:])
        seen.update(keys[1:])
    return reused
