"""The LR range test: a short training whose learning rate grows, and what its losses suggest.

Smith, "Cyclical Learning Rates for Training Neural Networks", 2017, with the exponential growth
and the smoothing of Gugger, "How Do You Find A Good Learning Rate", 2018.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import numpy.typing as npt

from bench.errors import BenchError, PlanError
from bench.methods.objectives import recorded_loss
from bench.training.loop import isolated, train_step, trainable_parameters
from bench.training.trial import (
    EpochInputs,
    Step,
    Training,
    apply_stage,
    batch_order,
    set_group_lrs,
    start_of,
)

LOW, HIGH, STEPS = 1e-6, 10.0, 100
"""A test that suits most networks, and what the command line does unless told otherwise."""

MIN_STEPS = 20
"""Fewer losses say nothing once they are smoothed."""

SMOOTHING = 0.9
"""What an exponential mean keeps of the losses before each."""

_MEMORY = round(1 / (1 - SMOOTHING))

DIVERGED = 4.0
"""The test ends when the mean loss is that many times its least value."""

_LEAST_FALL = 1e-6  # of the loss: below, rounding may be all there is

Curve = npt.NDArray[np.float64]
Losses = Sequence[float] | Curve


@dataclass(frozen=True, kw_only=True)
class LrRange:
    """The training loss (cross-entropy, nats) of each step, and the `lr` that it was made with.

    `lr` stands for the setting of that name: a group trains at `lr` times its multiplier. The last
    loss is not finite where training broke down.
    """

    lrs: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def smoothed(self) -> tuple[float, ...]:
        """The losses without the noise of single steps; NaN where a loss is not finite."""
        finite = _finite(self.losses)
        missing = [math.nan] * (len(self.losses) - len(finite))
        return (*smoothed(finite).tolist(), *missing)

    @property
    def steepest(self) -> float | None:
        """Where the loss falls fastest, see `steepest`."""
        return steepest(self.lrs, self.losses)

    @property
    def valley(self) -> float | None:
        """A learning rate to start from, see `valley`."""
        return valley(self.lrs, self.losses)


def lr_range_test(training: Training, *, low: float, high: float, steps: int) -> LrRange:
    """Train `steps` mini-batches in the plan's first stage while `lr` grows from `low` to `high`.

    It grows by one factor a step; every group keeps its multiplier. Batches, augmentation and
    dropout are those of the trial's epochs, one after the other. Ends early when the loss diverges.
    Network and optimiser of `training` are as before any training afterwards, and so are the
    caller's random state and count of threads. Raises `BenchError` for an impossible range and
    `PlanError` for a plan whose first stage trains nothing.
    """
    check_range(low=low, high=high, steps=steps)
    _check_plan(training)
    lrs = np.geomspace(low, high, steps).tolist()
    losses: list[float] = []
    with isolated(training.settings.threads, training.device):
        training.load({})  # an earlier trial may have left the network in another state
        try:
            # A copy has an optimiser of its own: momentum must not reach a later training.
            for loss in _losses(replace(training), lrs):
                losses.append(loss)
                if diverged(losses):
                    break
        finally:
            training.load({})
            training.network.zero_grad()
    return LrRange(lrs=tuple(lrs[: len(losses)]), losses=tuple(losses))


def check_range(*, low: float, high: float, steps: int) -> None:
    """Raise `BenchError` unless 0 < `low` < `high` < ∞ and `steps` suffice."""
    if not 0 < low < high < math.inf:
        raise BenchError(f"low must be above 0 and below high, got low {low:g} and high {high:g}")
    if steps < MIN_STEPS:
        raise BenchError(f"steps must be at least {MIN_STEPS}, got {steps}")


def _check_plan(training: Training) -> None:
    first = replace(training.plan, stages=training.plan.stages[:1])
    if not trainable_parameters(training.network, first):
        raise PlanError("an LR range test needs a plan that trains something in its first stage")


def _losses(training: Training, lrs: Sequence[float]) -> Iterator[float]:
    """The loss of one step at each of `lrs`, before the step."""
    capture = apply_stage(training.network, training.plan.stages[0])
    for lr, step in zip(lrs, _steps(training, capture), strict=False):
        set_group_lrs(training, 0, lr)
        logits, targets = train_step(training, step)
        yield recorded_loss(logits, targets).item()


def _steps(training: Training, capture: tuple[str, ...]) -> Iterator[Step]:
    """The steps of epoch after epoch, without end."""
    boundary, pristine = start_of(training, 0)
    for epoch in count():
        inputs = EpochInputs(
            training,
            boundary,
            training.views,
            epoch,
            among=training.splits.train,
            pristine=pristine,
        )
        for number, samples in enumerate(batch_order(training, epoch)):
            yield Step(inputs=inputs, samples=samples, number=number, capture=capture)


# Losses ---------------------------------------------------------------------------------------


def exponential_means(losses: Losses) -> Curve:
    """For each loss, the mean of it and those before with weights that fall by `SMOOTHING` a step.

    Weights add up to 1 from the first loss on (the bias correction of Kingma and Ba, Adam, 2015).
    """
    values = np.asarray(losses, dtype=np.float64)
    return _fading_sums(values) / _fading_sums(np.ones_like(values))


def diverged(losses: Losses) -> bool:
    """Whether the last loss is not finite, or the mean `DIVERGED` times its least value."""
    means = exponential_means(losses)
    return not math.isfinite(losses[-1]) or bool(means[-1] > DIVERGED * means.min())


def smoothed(losses: Losses) -> Curve:
    """The finite `losses` without the noise of single steps.

    Each is the mean of all up to where the loss diverges, with weights that fall by `SMOOTHING` a
    step to both sides: means of earlier steps alone lag by nine steps, in a hundred steps over
    seven decades a factor of four in the learning rate. From there on, where steps ahead would show
    a divergence before it happens, it is the exponential mean.
    """
    values = np.asarray(losses, dtype=np.float64)
    if not len(values):
        return values
    means = exponential_means(values)
    before = values[: _divergence(values, means)]
    centred = _sums_of_both_sides(before) / _sums_of_both_sides(np.ones_like(before))
    return np.concatenate([centred, means[len(before) :]])


def _divergence(losses: Curve, means: Curve) -> int:
    """The first step behind the least mean whose loss is above all in front; else the end."""
    settled = min(_MEMORY, len(losses)) - 1  # the first means are of few losses
    least = settled + int(means[settled:].argmin())
    above = np.flatnonzero(losses[least + 1 :] > losses[: least + 1].max())
    return least + 1 + int(above[0]) if len(above) else len(losses)


def _sums_of_both_sides(values: Curve) -> Curve:
    return _fading_sums(values) + _fading_sums(values[::-1])[::-1] - values


def _fading_sums(values: Curve) -> Curve:
    sums = np.empty_like(values)
    total = 0.0
    for index, value in enumerate(values):
        total = sums[index] = SMOOTHING * total + value
    return sums


# Suggestions ----------------------------------------------------------------------------------


def steepest(lrs: Sequence[float], losses: Sequence[float]) -> float | None:
    """The learning rate at which the smoothed loss falls fastest over the logarithm of the LR.

    Gugger, "How Do You Find A Good Learning Rate", 2018. What comes after the least loss is left
    out. None where the loss does not fall by more than it scatters.
    """
    values = _descent(losses)
    if values is None:
        return None
    slopes = np.gradient(values, np.log(lrs[: len(values)]))
    return float(lrs[int(slopes.argmin())])


def valley(lrs: Sequence[float], losses: Sequence[float]) -> float | None:
    """The learning rate two thirds into the longest fall of the smoothed loss.

    `valley` of fastai's `Learner.lr_find`: the fall is the longest decreasing subsequence, taken
    as that many steps up to its last, so that a noisy plateau in front adds little. What comes
    after the least loss is left out. None where the loss does not fall by more than it scatters.
    """
    values = _descent(losses)
    if values is None:
        return None
    last, length = _longest_fall(values.tolist())
    return float(lrs[last - (length - 1) + round(2 / 3 * (length - 1))])


def _descent(losses: Sequence[float]) -> Curve | None:
    """The smoothed losses up to the least of them; None if they do not fall."""
    finite = _finite(losses)
    values = smoothed(finite)
    if not len(values):
        return None
    values = values[: int(values.argmin()) + 1]
    scatter = float(np.std(finite[: len(values)] - values))
    fall = float(values.max() - values[-1])
    return values if fall > max(scatter, _LEAST_FALL * float(values.max())) else None


def _longest_fall(values: Sequence[float]) -> tuple[int, int]:
    """Where the longest decreasing subsequence ends, and its length."""
    # ends[n] is the least negative end of any that has n + 1 members (patience sorting).
    ends: list[float] = []
    last = length = 0
    for index, value in enumerate(values):
        position = bisect_left(ends, -value)
        ends[position : position + 1] = [-value]
        if position + 1 > length:
            last, length = index, position + 1
    return last, length


def _finite(losses: Sequence[float]) -> Curve:
    """The losses up to the first that is not finite."""
    values = np.asarray(losses, dtype=np.float64)
    broken = np.flatnonzero(~np.isfinite(values))
    return values[: broken[0]] if len(broken) else values
