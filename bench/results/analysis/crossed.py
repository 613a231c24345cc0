"""Seeds × samples: how sure a difference is that was measured on the same seeds and test samples.

All seeds of a run are tested on the same samples, so two kinds of luck stand between a measured
difference and one that holds: that of the trainings, and that of the samples. Both are seen in the
table of the differences `d[seed, sample]`, a two-way layout without replication. With `MS` its
mean squares, the variance of its mean is estimated by

    (MS_seeds + max(MS_samples − MS_rest, 0)) / (seeds · samples)

as in the analysis of many readers and many cases in radiology (Dorfman, Berbaum and Metz, 1992;
Obuchowski and Rockette, 1995), the seeds being the readers. Of the two parts the first is known
badly, from a handful of seeds, so p is a mean over what it may be (a generalised p value: Tsui and
Weerahandi, 1989), and it is never taken for less than the rest, which is what it is without any
luck of training. A single number of degrees of freedom for the sum (Hillis, 2007) gives too small
p values far out in the tail, where many comparisons are judged: with 3 seeds and 8 strategies it
claims a difference of equals in a third of all runs.

What the seeds vary is judged from all comparisons together: the part of each is drawn towards what
the others show, relative to the rest (as moderated t statistics: Smyth, 2004). That makes 3 seeds
enough for claims about strategies. But only the rest is much the same for all; the luck of training
may be one strategy's own. So others count for less, the more of what the seeds vary is luck: as
much as the share that the rest has in it. With a fixed weight, one strategy with six times the luck
of seven others is told apart from its equals in 8 % of all runs of 3 seeds and 2,000 samples.

Where images come in groups (patients, sites), a sample is a group. There may be a handful of them,
and then their part of the variance is known as badly as that of the seeds: p is a mean over what
both may be. With one seed or many that come out the same it is Student's t over groups, as is usual
for few clusters (Cameron and Miller, A Practitioner's Guide to Cluster-Robust Inference, 2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.results.analysis.distributions import chi2_quantile, normal_below

Numbers = npt.NDArray[np.float64]

MOST_PRIOR = 8
"""What other comparisons show of the seeds' variance counts at most as so many further seeds."""

LEAST_SEEDS = 3
"""From so many on the luck of training is known well enough to speak of strategies."""

LEAST_GROUPS = 8
"""Of fewer groups of test images nothing is claimed, whatever they show."""

LARGEST_GROUP = 0.5
"""Nor where one of them has a larger share of all images: what it shows is what counts then."""

_STEPS = np.linspace(-5.5, 5.5, 67)
"""The normal quantiles over which p is a mean; their tails lie below 1e-7."""

_WEIGHTS = np.exp(-np.square(_STEPS) / 2)
_WEIGHTS /= _WEIGHTS.sum()

_COARSE = slice(None, None, 3)
_OF_BOTH = np.outer(_WEIGHTS[_COARSE], _WEIGHTS[_COARSE]).ravel()
_OF_BOTH /= _OF_BOTH.sum()
"""Weights of every two of the coarse steps, of seeds and of groups."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CrossedTables:
    """Tables of differences by seed and sample, as their mean squares; arrays `[..., tables]`.

    `effect` is the mean difference. `seeds` and `samples` count the rows and the columns. `grain`
    is about what one sample more or less makes: no mean is known better, whatever its table shows.
    Where samples are `grouped` (1, else 0) each is a group of images.
    """

    effect: Numbers
    ms_seeds: Numbers
    ms_samples: Numbers
    ms_rest: Numbers
    seeds: Numbers
    samples: Numbers
    grain: Numbers
    grouped: Numbers


def crossed_table(
    differences: npt.NDArray[Any], *, grain: float | None = None, grouped: bool = False
) -> CrossedTables:
    """The mean squares of `differences` `[..., seeds, samples]`, two of each or more.

    By default the grain is that of right and wrong.
    """
    seeds, samples = differences.shape[-2:]
    values = differences.astype(np.float64)
    effect = values.mean(axis=(-2, -1))
    by_seed, by_sample = values.mean(axis=-1), values.mean(axis=-2)
    of_seeds = samples * _squares(by_seed - effect[..., None])
    of_samples = seeds * _squares(by_sample - effect[..., None])
    fitted = by_seed[..., None] + by_sample[..., None, :] - effect[..., None, None]
    of_rest = np.square(values - fitted).sum(axis=(-2, -1))
    return CrossedTables(
        effect=effect,
        ms_seeds=of_seeds / (seeds - 1),
        ms_samples=of_samples / (samples - 1),
        ms_rest=of_rest / ((seeds - 1) * (samples - 1)),
        seeds=np.full_like(effect, seeds),
        samples=np.full_like(effect, samples),
        grain=np.full_like(effect, 1 / (samples + 2) if grain is None else grain),
        grouped=np.full_like(effect, grouped),
    )


def joined(tables: list[CrossedTables]) -> CrossedTables:
    """Single tables in one array `[tables]`."""
    names = CrossedTables.__dataclass_fields__
    return CrossedTables(
        **{name: np.array([float(getattr(table, name)) for table in tables]) for name in names}
    )


def crossed_p(tables: CrossedTables, *, independent: int) -> Numbers:
    """Two-sided p of "no difference" of each table, before any correction.

    `independent` says how many of the tables are independent of each other: of all pairs of k
    strategies k − 1.
    """
    return _outside(np.abs(tables.effect), _variances(tables, independent))


def half_widths(tables: CrossedTables, *, independent: int, alpha: float | Numbers) -> Numbers:
    """Half the width of the interval of each effect that leaves out `alpha`; infinite if unknown.

    It leaves out 0 exactly where `crossed_p` is below `alpha`.
    """
    variances = _variances(tables, independent)
    low = np.zeros_like(tables.effect)
    widest = np.sqrt(variances.max(axis=-1))
    high = np.where(np.isfinite(widest), 40 * widest, 0.0)
    for _ in range(60):
        middle = (low + high) / 2
        outside = _outside(middle, variances) > alpha
        low, high = np.where(outside, middle, low), np.where(outside, high, middle)
    return np.where(np.isfinite(widest), high, np.inf)


def _variances(tables: CrossedTables, independent: int) -> Numbers:
    """The variances that each effect may have `[..., tables, steps]`.

    Where nothing varies and there is no grain, nothing is known. If there are groups, there is one
    for every two steps, of seeds and of groups.
    """
    own = tables.seeds - 1
    rest = tables.ms_rest.sum(axis=-1, keepdims=True)
    seeds = tables.ms_seeds.sum(axis=-1, keepdims=True)
    share = np.where(seeds > rest, rest / np.where(seeds > rest, seeds, 1.0), 1.0)
    # Of tables with fewer seeds than others, the prior has fewer degrees of freedom as well. In
    # halves, few quantiles are needed.
    prior = np.round(2 * share * np.minimum(MOST_PRIOR, (independent - 1) * own)) / 2
    ratio = np.where(rest > 0, seeds / np.where(rest > 0, rest, 1.0), 0.0)
    freedom = own + prior
    of_seeds = (own * tables.ms_seeds + prior * ratio * tables.ms_rest) / freedom
    scaled = _scaled(freedom)
    if tables.grouped.any():
        steps = len(_WEIGHTS[_COARSE])
        scaled = np.repeat(scaled[..., _COARSE], steps, axis=-1)
        of_groups = np.tile(_scaled(tables.samples - 1)[..., _COARSE], steps)
        of_groups = np.where(tables.grouped[..., None] > 0, of_groups, 1.0)
    else:
        of_groups = np.ones(1)
    ms_rest = tables.ms_rest[..., None]
    of_samples = np.maximum(tables.ms_samples[..., None] / of_groups - ms_rest, 0.0)
    sums = np.maximum(of_seeds[..., None] / scaled, ms_rest)
    counts = tables.seeds * tables.samples
    variances = (sums + of_samples) / counts[..., None]
    variances = np.maximum(variances, np.square(tables.grain)[..., None])
    return np.where(variances > 0, variances, np.inf)


def _scaled(freedom: Numbers) -> Numbers:
    """Quantiles of χ² / degrees of freedom for each of them `[..., steps]`."""
    different, which = np.unique(freedom, return_inverse=True)
    quantiles = np.stack([_quantiles(float(each)) for each in different])
    return np.asarray(quantiles[which.reshape(freedom.shape)])


@lru_cache(maxsize=1024)
def _quantiles(freedom: float) -> Numbers:
    """Quantiles of χ² / degrees of freedom `[steps]`."""
    return np.asarray(chi2_quantile(normal_below(_STEPS), freedom) / freedom)


def _outside(distance: Numbers, variances: Numbers) -> Numbers:
    """The probability of an effect at least as far from 0 as `distance` if there is none."""
    weights = _WEIGHTS if variances.shape[-1] == len(_WEIGHTS) else _OF_BOTH
    outside = (2 * normal_below(-distance[..., None] / np.sqrt(variances))) @ weights
    # Far out in the tail it is rounded to 0, which no p is.
    outside = np.clip(outside, np.finfo(np.float64).tiny, 1.0)
    return np.where(distance == 0, 1.0, outside)


def _squares(deviations: Numbers) -> Numbers:
    return np.asarray(np.square(deviations).sum(axis=-1))
