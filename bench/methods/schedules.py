"""Learning-rate schedules: pure functions from training progress to a factor.

The learning rate of a parameter group is `lr × multiplier of its rule × factor`, so that a group
with multiplier 0 stays at 0 under every schedule, and unfreezing does not restart anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from bench.suite import Entry
from bench.suite.registry import Registry
from bench.suite.rules import Count


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where training stands: `step` counts optimiser steps from 0 over the whole trial.

    `val_losses` holds the validation loss of every finished epoch, in order.
    """

    step: int
    steps_per_epoch: int
    num_epochs: int
    val_losses: tuple[float, ...] = ()

    @property
    def epoch(self) -> int:
        """The current epoch, from 0."""
        return self.step // self.steps_per_epoch

    @property
    def num_steps(self) -> int:
        """All optimiser steps of the trial."""
        return self.steps_per_epoch * self.num_epochs

    @property
    def fraction(self) -> float:
        """The share of all steps that is done, in [0, 1)."""
        return self.step / self.num_steps


Schedule = Callable[..., float]
Gamma = Annotated[
    float, Field(gt=0, le=1, description="Factor of each drop of the rate.", examples=[0.1])
]
End = Annotated[
    float,
    Field(ge=0, le=1, description="Share of the rate that remains at the end.", examples=[0.01]),
]
WarmupEpochs = Annotated[
    float,
    Field(
        ge=0,
        allow_inf_nan=False,
        description="Epochs (fractions allowed) in which the rate grows linearly to that of the "
        "schedule: the factor is min(1, (step + 1) / warm-up steps).",
        examples=[1, 0.5],
    ),
]


@dataclass(frozen=True, kw_only=True)
class ScheduleTraits:
    """Whether the factor depends on the validation losses of the epochs before."""

    uses_validation: bool = False


SCHEDULES: Registry[Schedule, ScheduleTraits] = Registry(
    "schedule",
    ScheduleTraits,
    takes=("progress",),
    shared_options={"warmup_epochs": (WarmupEpochs, 0.0)},
)


def lr_factor(schedule: Entry, progress: Progress) -> float:
    """The factor of `schedule` at `progress`, its warm-up included.

    Warm-up multiplies the schedule's own factor by a linear ramp that reaches 1 at the last step
    of `warmup_epochs` (`torch.optim.lr_scheduler.ChainedScheduler` of `LinearLR` and the schedule).
    """
    options = dict(schedule.options)
    warmup_steps = round(options.pop("warmup_epochs", 0.0) * progress.steps_per_epoch)
    ramp = min(1.0, (progress.step + 1) / warmup_steps) if warmup_steps else 1.0
    return ramp * SCHEDULES.get(schedule.name).function(progress, **options)


@SCHEDULES.register("constant")
def constant(progress: Progress) -> float:
    """The learning rate stays as it is."""
    return 1.0


@SCHEDULES.register("step")
def step(
    progress: Progress,
    *,
    step_size: Annotated[Count, Field(description="Epochs between drops.", examples=[7])] = 7,
    gamma: Gamma = 0.1,
) -> float:
    """Multiply the rate by `gamma` after every `step_size` epochs."""
    return float(gamma ** (progress.epoch // step_size))


@SCHEDULES.register("multistep")
def multistep(
    progress: Progress,
    *,
    milestones: Annotated[
        tuple[Count, ...],
        Field(
            min_length=1,
            description="The rate drops after these numbers of epochs.",
            examples=[[6, 9]],
        ),
    ],
    gamma: Gamma = 0.1,
) -> float:
    """Multiply the rate by `gamma` after each of the epochs in `milestones`."""
    return float(gamma ** sum(progress.epoch >= milestone for milestone in milestones))


@SCHEDULES.register("exponential")
def exponential(progress: Progress, *, gamma: Gamma = 0.9) -> float:
    """Multiply the rate by `gamma` after every epoch."""
    return float(gamma**progress.epoch)


@SCHEDULES.register("linear")
def linear(progress: Progress, *, end: End = 0.0) -> float:
    """A straight line from 1 to `end` over all steps."""
    return 1 + (end - 1) * progress.fraction


@SCHEDULES.register("cosine")
def cosine(progress: Progress, *, end: End = 0.0) -> float:
    """Half a cosine from 1 to `end` over all steps (Loshchilov and Hutter, SGDR, 2017)."""
    return end + (1 - end) * (1 + math.cos(math.pi * progress.fraction)) / 2


@SCHEDULES.register("one_cycle")
def one_cycle(
    progress: Progress,
    *,
    warm_fraction: Annotated[
        float,
        Field(gt=0, lt=1, description="Share of the steps before the peak.", examples=[0.3]),
    ] = 0.3,
    start_divisor: Annotated[
        float, Field(ge=1, description="The rate starts at lr / start_divisor.", examples=[25])
    ] = 25.0,
    final_divisor: Annotated[
        float,
        Field(
            ge=1,
            description="The rate ends at lr / (start_divisor × final_divisor).",
            examples=[10_000],
        ),
    ] = 1e4,
) -> float:
    """Up to 1 and down again along two cosines (Smith and Topin, Super-Convergence, 2018).

    Starts at `1 / start_divisor`, peaks after `warm_fraction` of the steps, ends at
    `1 / (start_divisor × final_divisor)`: the factors of `torch.optim.lr_scheduler.OneCycleLR`.
    """
    start = 1 / start_divisor
    end = start / final_divisor
    peak, last = warm_fraction * progress.num_steps - 1, progress.num_steps - 1
    if progress.step <= peak:
        return _cosine_between(start, 1.0, progress.step / peak if peak else 1.0)
    return _cosine_between(1.0, end, (progress.step - peak) / (last - peak))


def _cosine_between(start: float, end: float, fraction: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * fraction))


@SCHEDULES.register("plateau", uses_validation=True)
def plateau(
    progress: Progress,
    *,
    gamma: Gamma = 0.1,
    patience: Annotated[
        int,
        Field(
            ge=0,
            description="Epochs in a row without a fall of the validation loss that are tolerated.",
            examples=[3],
        ),
    ] = 3,
    threshold: Annotated[
        float,
        Field(
            ge=0,
            description="Least fall that counts, as a share of the best loss.",
            examples=[0.0001],
        ),
    ] = 1e-4,
) -> float:
    """Multiply the rate by `gamma` if validation loss has not fallen for over `patience` epochs.

    A fall counts if it is larger than the share `threshold` of the best loss so far:
    `torch.optim.lr_scheduler.ReduceLROnPlateau`.
    """
    factor, best, bad_epochs = 1.0, math.inf, 0
    for loss in progress.val_losses:
        if loss < best * (1 - threshold):
            best, bad_epochs = loss, 0
        else:
            bad_epochs += 1
        if bad_epochs > patience:
            factor, bad_epochs = factor * gamma, 0
    return factor
