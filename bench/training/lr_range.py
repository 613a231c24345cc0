"""The LR range test: a short training whose learning rate grows, and what its losses suggest.

Smith, "Cyclical Learning Rates for Training Neural Networks", 2017, with the exponential growth
of Gugger, "How Do You Find A Good Learning Rate", 2018. His exponential mean of the losses lags
behind them and lies far above the bottom of a curve, so they are smoothed by local regression here.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count, islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.errors import BenchError, PlanError
from bench.training.feature_penalties import held_layers
from bench.training.loop import isolated, train_step, trainable_parameters
from bench.training.relative_gradients import relative_rates
from bench.training.trial import (
    EpochInputs,
    Step,
    Training,
    apply_stage,
    as_recorded,
    set_group_lrs,
    start_of,
    step_loss,
    steps_of,
)

LOW, HIGH, STEPS = 1e-6, 10.0, 100
"""A test that suits most networks, and what the command line does unless told otherwise."""

MIN_STEPS = 20
"""Fewer losses say nothing once they are smoothed."""

MEMORY = 0.9
"""What the exponential mean that tells a divergence keeps of the losses before each."""

READ_EVERY = 20
"""Steps on a GPU after which losses are read, and a test that has diverged ends."""

_SETTLED = round(1 / (1 - MEMORY))

BANDWIDTHS = (5.0, 7.0, 10.0, 14.0, 20.0, 28.0, 40.0)
"""In steps. Narrower ones follow the noise of batches; in a test of 100 steps over seven decades, 5
steps are a third of a decade."""

REACH = 4
"""Bandwidths: the weight of what is further away is below a thousandth of a loss's own."""

FALL = 2.0
"""How many times its scatter around the curve a loss must fall before something is suggested.

Of 100 losses that only scatter, fewer than one set in 100 falls so far.
"""

DIVERGED = 4.0
"""The test ends when the mean loss is that many times its least value."""

_LEAST_FALL = 1e-6  # of the loss: below, rounding may be all there is

Curve = npt.NDArray[np.float64]
Losses = Sequence[float] | Curve


@dataclass(frozen=True, kw_only=True)
class LrRange:
    """The training loss as it is recorded of each step, and the `lr` that it was made with.

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
    with isolated(training.settings.cpu_threads, training.device):
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
    """The loss of one step at each of `lrs`, before the step.

    They are read together after a few steps, where reading makes the host wait for a device.
    """
    capture = apply_stage(training.network, training.plan.stages[0])
    held = held_layers(training)
    most = 1 if training.device.type == "cpu" else READ_EVERY
    waiting: list[Tensor] = []
    steps = _steps(training, capture, held)
    if training.plan.gradient_batches is not None:
        first = list(islice(steps, training.plan.gradient_batches))
        training.rates = relative_rates(training, 0, first)
        steps = chain(first, steps)
    for lr, step in zip(lrs, steps, strict=False):
        set_group_lrs(training, 0, lr)
        logits, targets = train_step(training, step)
        recorded = as_recorded(training, targets)
        waiting.append(step_loss(training, logits, recorded))
        if len(waiting) == most:
            yield from torch.stack(waiting).tolist()
            waiting.clear()
    if waiting:
        yield from torch.stack(waiting).tolist()


def _steps(
    training: Training, capture: tuple[str, ...], held: Mapping[str, nn.Module] | None
) -> Iterator[Step]:
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
        yield from steps_of(training, inputs, capture, held)


# Losses ---------------------------------------------------------------------------------------


def exponential_means(losses: Losses) -> Curve:
    """For each loss, the mean of it and those before with weights that fall by `MEMORY` a step.

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

    Up to where the loss diverges, each is the value there of a line that is fitted to the losses
    around it (local linear regression: Cleveland, 1979; Fan and Gijbels, 1996), which neither lags
    nor bends away at the ends. From there on, the losses as they are.
    """
    values = np.asarray(losses, dtype=np.float64)
    before = values[: _divergence(values)]
    return np.concatenate([_fitted(before).values, values[len(before) :]])


def _divergence(losses: Curve) -> int:
    """Where the loss leaves for good; else the end.

    It is the first step behind the least mean whose loss is above all in front, and `DIVERGED`
    times that mean, or never comes down to the median in front again. A batch that is merely hard
    ends nothing.
    """
    if not len(losses):
        return 0
    means = exponential_means(losses)
    settled = min(_SETTLED, len(losses)) - 1  # the first means are of few losses
    least = settled + int(means[settled:].argmin())
    front = losses[: least + 1]
    fine = np.flatnonzero(losses <= np.median(front))
    last = int(fine[-1])
    steps = np.arange(len(losses))
    gone = (steps > last) | (losses > DIVERGED * means[least])
    left = np.flatnonzero((steps > least) & (losses > front.max()) & gone)
    return int(left[0]) if len(left) else len(losses)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Lines fitted around each of `[n]` losses: their values and slopes there, by step.

    `error` is the mean square by which they miss a loss that is left out of its own fit.
    """

    values: Curve
    slopes: Curve
    error: float


def _fitted(losses: Curve) -> Fit:
    """The fit with the bandwidth that predicts best a loss that is left out."""
    if len(losses) < 3:
        return Fit(values=losses, slopes=np.zeros_like(losses), error=0.0)
    first, *wider = BANDWIDTHS
    widths = (first, *(width for width in wider if width <= len(losses) / 4))
    return min((local_lines(losses, width) for width in widths), key=lambda fit: fit.error)


def local_lines(losses: Curve, bandwidth: float) -> Fit:
    """Lines around each loss by least squares, with Gaussian weights of `bandwidth` in steps."""
    reach = math.ceil(REACH * bandwidth)
    steps = np.arange(-reach, reach + 1, dtype=np.float64)
    weights = np.exp(-0.5 * (steps / bandwidth) ** 2)

    def sums(values: Curve, power: int) -> Curve:
        """Σ weight · stepᵖᵒʷᵉʳ · value over the losses around each."""
        kernel = (weights * steps**power)[::-1]
        return np.convolve(values, kernel)[reach : reach + len(values)]

    ones = np.ones_like(losses)
    mass, first, second = (sums(ones, power) for power in (0, 1, 2))
    value, product = sums(losses, 0), sums(losses, 1)
    determinant = mass * second - first**2
    values = (second * value - first * product) / determinant
    own = second / determinant  # the share of a loss in its own value
    return Fit(
        values=values,
        slopes=(mass * product - first * value) / determinant,
        error=float(np.mean(((losses - values) / (1 - own)) ** 2)),
    )


def _fading_sums(values: Curve) -> Curve:
    sums = np.empty_like(values)
    total = 0.0
    for index, value in enumerate(values):
        total = sums[index] = MEMORY * total + value
    return sums


# Suggestions ----------------------------------------------------------------------------------


def steepest(lrs: Sequence[float], losses: Sequence[float]) -> float | None:
    """The learning rate at which the smoothed loss falls fastest over the logarithm of the LR.

    Gugger, "How Do You Find A Good Learning Rate", 2018. What comes after the least loss is left
    out. None where the loss does not fall by `FALL` times its scatter.
    """
    descent = _descent(losses)
    return None if descent is None else float(lrs[int(descent.slopes.argmin())])


def valley(lrs: Sequence[float], losses: Sequence[float]) -> float | None:
    """The learning rate two thirds into the longest fall of the smoothed loss.

    `valley` of fastai's `Learner.lr_find`: the fall is the longest decreasing subsequence, taken
    as that many steps up to its last, so that a noisy plateau in front adds little. What comes
    after the least loss is left out. None where the loss does not fall by `FALL` times its scatter.
    """
    descent = _descent(losses)
    if descent is None:
        return None
    last, length = _longest_fall(descent.values.tolist())
    return float(lrs[last - (length - 1) + round(2 / 3 * (length - 1))])


def _descent(losses: Sequence[float]) -> Fit | None:
    """The fit up to the least smoothed loss; None if they do not fall."""
    finite = _finite(losses)
    before = finite[: _divergence(finite)]
    if not len(before):
        return None
    fit = _fitted(before)
    end = int(fit.values.argmin()) + 1
    scatter = float(np.std(before - fit.values))
    fall = float(fit.values[:end].max() - fit.values[end - 1])
    if fall <= max(FALL * scatter, _LEAST_FALL * float(np.abs(fit.values[:end]).max())):
        return None
    return replace(fit, values=fit.values[:end], slopes=fit.slopes[:end])


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
