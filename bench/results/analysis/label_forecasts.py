"""What more training images are likely to bring: a power law, where it has shown that it predicts.

The error of many learners falls about as error = a·n^(−b) + c with the number n of training images
(Cortes et al., 1994; Hestness et al., 2017), and that of many others does not. So the law has to
earn its place: fitted to the first sizes it predicts the next, which it has not seen, for every
number of first sizes from three on. Only where it missed by at most half as much as the last value
did, at the largest size and on average over all, and promises more still, is a forecast given, and
no further on than was tried.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from bench.results.analysis.comparison import ALPHA, BlockScores, common
from bench.results.analysis.crossed import (
    LEAST_SEEDS,
    Numbers,
    crossed_table,
    half_widths,
    joined,
)
from bench.results.analysis.intervals import UNKNOWN, Interval

if TYPE_CHECKING:
    from bench.results.metric import Metric

LEAST_FITTED = 3
"""A law of two numbers is fitted to so many sizes at least."""

LEAST_WITH_FLOOR = 5
"""With so many sizes there may be an error that no number of images removes."""

MOST = 2.0
"""No forecast goes beyond so many times the largest size."""

NEARER = 0.5
"""A law predicts that misses by at most so much of what the last value misses by."""

MAX_EXPONENT = 3.0
_GRID = 301


@dataclass(frozen=True, kw_only=True)
class Law:
    """error = `scale` · n^(−`exponent`) + `floor`, n in images of a class."""

    scale: float
    exponent: float
    floor: float

    def at(self, images: float) -> float:
        """The error with so many images."""
        return self.scale * math.pow(images, -self.exponent) + self.floor


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What `images` of a class are likely to reach, in figures of the metric; `last` is reached.

    `interval` (95 %) covers seeds, test samples, and as much as the law was off where it was tried;
    NaN where the luck of seeds is not known. At the largest size the law was `off_law` off, the
    last value `off_last`.
    """

    images: float
    figure: float
    interval: Interval
    last: float
    law: Law
    off_law: float
    off_last: float


@dataclass(frozen=True, kw_only=True)
class NoForecast:
    """Why there is none: too few `sizes`, a metric that is no `error`, or the `last` value was
    about as near to what followed; then it is known how far off the law and the last value were."""

    why: Literal["sizes", "error", "last"]
    off_law: float = math.nan
    off_last: float = math.nan


def forecast(
    images: Sequence[float], scores: Sequence[BlockScores | None], metric: Metric
) -> Forecast | NoForecast:
    """The forecast from the scores at each size, ascending, or why there is none."""
    known = [(n, own) for n, own in zip(images, scores, strict=True) if own]
    numbers = [n for n, _ in known]
    tables = _errors([own for _, own in known], metric)
    grouped = any(side.grouping is not None for _, own in known for side in own.values())
    if metric.higher_is_better and not metric.percent:  # no figure is known to be the best
        return NoForecast(why="error")
    if len(tables) <= LEAST_FITTED:
        return NoForecast(why="sizes")
    errors = np.array([table.mean() for table in tables]).round(12)
    if not (errors > 0).all():  # nothing is left to gain
        return NoForecast(why="error")
    off_law, off_last = held_out(numbers, errors)
    off = {"off_law": float(off_law[-1]), "off_last": float(off_last[-1])}
    law = fit_law(numbers, errors)
    ahead = numbers[-1] * min(MOST, numbers[-1] / numbers[-2])
    predicts = all(
        miss <= NEARER * last
        for miss, last in ((off_law[-1], off_last[-1]), (off_law.mean(), off_last.mean()))
    )
    if not predicts or law.at(ahead) >= errors[-1]:
        return NoForecast(why="last", **off)
    half = math.hypot(_half_width(numbers, tables, ahead, grouped=grouped), float(off_law.max()))
    turned = metric.percent and metric.higher_is_better

    def figure(error: float) -> float:
        return 1 - error if turned else error

    ends = sorted(figure(law.at(ahead) + side * half) for side in (-1, 1))
    bounds = (0.0, 1.0) if metric.percent else (0.0, math.inf)
    low, high = (float(np.clip(end, *bounds)) for end in ends)
    return Forecast(
        images=ahead,
        figure=figure(law.at(ahead)),
        interval=(low, high) if math.isfinite(half) else UNKNOWN,
        last=figure(float(errors[-1])),
        law=law,
        **off,
    )


def held_out(images: Sequence[float], errors: Numbers) -> tuple[Numbers, Numbers]:
    """How far off the law of all sizes before it is at a size, and the value before: both ≥ 0.

    For each size that has at least `LEAST_FITTED` before it.
    """
    places = range(LEAST_FITTED, len(images))
    laws = [fit_law(images[:place], errors[:place]).at(images[place]) for place in places]
    measured = errors[LEAST_FITTED:]
    return np.abs(np.array(laws) - measured), np.abs(np.diff(errors)[LEAST_FITTED - 1 :])


def fit_law(images: Sequence[float], errors: Numbers) -> Law:
    """The law with the least squares of relative errors; all of its numbers are ≥ 0.

    For every exponent the two others follow from linear least squares.
    """
    numbers = np.asarray(images, dtype=np.float64)
    weights = 1 / np.maximum(errors, 1e-3 * errors.max())
    with_floor = len(numbers) >= LEAST_WITH_FLOOR
    low, high = 0.0, MAX_EXPONENT
    for _ in range(3):
        exponents = np.linspace(low, high, _GRID)
        fitted = [_linear(numbers**-each, errors, weights, with_floor) for each in exponents]
        best = int(np.argmin([squares for *_, squares in fitted]))
        step = (high - low) / (_GRID - 1)
        low, high = (
            max(0.0, float(exponents[best]) - step),
            min(MAX_EXPONENT, float(exponents[best]) + step),
        )
    scale, floor, _ = fitted[best]
    return Law(scale=scale, exponent=float(exponents[best]), floor=floor)


def _linear(
    powers: Numbers, errors: Numbers, weights: Numbers, with_floor: bool
) -> tuple[float, float, float]:
    """(scale, floor, sum of squares) of scale · powers + floor, neither negative."""
    x, one, y = weights * powers, weights, weights * errors
    scale, floor = float(x @ y / (x @ x)), 0.0
    if with_floor:
        determinant = (x @ x) * (one @ one) - (x @ one) ** 2
        if determinant > 1e-12 * (x @ x) * (one @ one):
            free = float(((x @ y) * (one @ one) - (one @ y) * (x @ one)) / determinant)
            left = float(((one @ y) * (x @ x) - (x @ y) * (x @ one)) / determinant)
            if free >= 0 and left >= 0:
                scale, floor = free, left
            elif free < 0:
                scale, floor = 0.0, float(one @ y / (one @ one))
    residual = scale * x + floor * one - y
    return scale, floor, float(residual @ residual)


def _errors(sides: Sequence[BlockScores], metric: Metric) -> list[Numbers]:
    """What is left to the best figure at each size, by seed and sample `[seeds, samples]`."""
    blocks = common([tuple(side) for side in sides])
    every = [side[block] for side in sides for block in blocks]
    seeds, samples = (common([getattr(own, of) for own in every]) for of in ("seeds", "samples"))
    if not seeds or not samples:
        return []
    means = [np.mean([side[b].at(seeds, samples) for b in blocks], axis=0) for side in sides]
    return [1 - mean if metric.higher_is_better else mean for mean in means]


def _half_width(
    images: Sequence[float], tables: Sequence[Numbers], ahead: float, *, grouped: bool
) -> float:
    """Half the interval (95 %) of the law's error there, by seeds and samples (delta method)."""
    seeds, samples = tables[0].shape
    if seeds < LEAST_SEEDS or samples < 2:
        return math.inf
    errors = np.array([table.mean() for table in tables])
    step = 1e-3 * errors.min()
    slopes = [
        (
            fit_law(images, errors + step * moved).at(ahead)
            - fit_law(images, errors - step * moved).at(ahead)
        )
        / (2 * step)
        for moved in np.eye(len(errors))
    ]
    table = np.tensordot(np.array(slopes), np.array(tables), axes=1)
    crossed = joined([crossed_table(table, grain=0.0, grouped=grouped)])
    return float(half_widths(crossed, independent=1, alpha=ALPHA)[0])
