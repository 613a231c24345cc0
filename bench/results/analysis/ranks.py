"""How strategies rank over blocks: data sets and backbones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bench.results.analysis.comparison import ALPHA
from bench.results.analysis.distributions import chi2_above, f_above, normal_below
from bench.results.analysis.label_sizes import at_size, size_compared
from bench.results.grid import Grid, complete_trials

if TYPE_CHECKING:
    import pandas as pd

Numbers = npt.NDArray[np.float64]

BLOCKS = ("dataset", "backbone")
"""Axes whose values are blocks: what holds over all of them holds more widely."""

LEAST_BLOCKS = 6
"""Of fewer blocks Wilcoxon's test cannot tell two apart, whatever they show."""

MAX_EXACT = 50
"""Of more blocks the signed-rank distribution is taken for normal, as scipy takes it."""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Average ranks over blocks (1 the best), whether they differ, and which do not.

    Ranks describe these blocks. Only where `tested` do they speak of others like them: six or more
    blocks, no two of the same data set, as blocks that share their images are not independent. `p`
    is that of Iman and Davenport's test (1980), NaN where nothing is tested; `cliques` are groups
    of strategies of which no two differ by Wilcoxon's signed-rank test with Holm's correction
    (Benavoli, Corani and Mangili, 2016).
    """

    blocks: tuple[str, ...]
    ranks: dict[str, float]
    p: float = math.nan
    cliques: tuple[tuple[str, ...], ...] = ()
    shares_images: bool = False

    @property
    def tested(self) -> bool:
        """Whether the ranks say anything of other blocks."""
        return not math.isnan(self.p)


def rank_over_blocks(trials: pd.DataFrame, grid: Grid) -> Ranking | None:
    """The leading axis' values ranked within each block, test figures averaged over the rest.

    None unless three values or more are known in two blocks or more.
    """
    complete = complete_trials(trials).dropna(subset=[grid.metric.test])
    complete = at_size(complete, grid, size_compared(complete, grid))
    names = [axis for axis in BLOCKS if complete[axis].nunique() > 1 and axis != grid.lead]
    if not names:
        return None
    value = complete["config"].map(lambda config: grid.cells[config][grid.lead])
    block = complete[names].agg(" · ".join, axis=1)
    table = complete[grid.metric.test].groupby([block, value]).mean().unstack().dropna(axis=1)
    if table.shape[0] < 2 or table.shape[1] < 3:
        return None
    figures = -grid.metric.sign * table.to_numpy(float).round(12)
    ranks = block_ranks(figures)
    average = dict(zip(map(str, table.columns), map(float, ranks.mean(axis=0)), strict=True))
    ordered = sorted(average, key=lambda name: average[name])
    shares = complete["dataset"].nunique() < len(table)
    tested = not shares and len(table) >= LEAST_BLOCKS
    return Ranking(
        blocks=tuple(map(str, table.index)),
        ranks={name: average[name] for name in ordered},
        p=iman_davenport(ranks)[1] if tested else math.nan,
        cliques=_cliques(ordered, _different(figures, list(average))) if tested else (),
        shares_images=shares,
    )


def block_ranks(figures: Numbers) -> Numbers:
    """Ranks within each row, 1 the smallest; equal ones share the mean of their ranks."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(figures, axis=1), dtype=np.float64)


def friedman(ranks: Numbers, *, ties: bool = True) -> tuple[float, float]:
    """Friedman's χ² (1937) of ranks `[blocks, names]`, and its p; corrected for ties or not."""
    blocks, names = ranks.shape
    squares = float(np.square(ranks.sum(axis=0)).sum())
    statistic = 12 / (blocks * names * (names + 1)) * squares - 3 * blocks * (names + 1)
    if ties:
        whole = blocks * names * (names**2 - 1) / 12
        left = float(np.square(ranks - (names + 1) / 2).sum())
        statistic = statistic * whole / left if left else 0.0
    return statistic, float(chi2_above(statistic, names - 1))


def iman_davenport(ranks: Numbers) -> tuple[float, float]:
    """Iman and Davenport's F (1980) of ranks `[blocks, names]`, and its p.

    From Friedman's χ² without correction for ties, as Demšar (2006) has it: of many ties it claims
    less. Where all blocks agree, p is the probability that they do so by chance.
    """
    blocks, names = ranks.shape
    statistic, _ = friedman(ranks, ties=False)
    left = blocks * (names - 1) - statistic
    if left < 1e-9:
        return math.inf, math.exp(-(blocks - 1) * math.lgamma(names + 1))
    value = (blocks - 1) * statistic / left
    return value, float(f_above(value, names - 1, (names - 1) * (blocks - 1)))


def signed_rank_p(differences: Numbers) -> Numbers:
    """Wilcoxon's two-sided p of each row of `differences` `[pairs, blocks]`.

    Zeros are dropped and equal ones share their ranks. Exact up to `MAX_EXACT` blocks, from the
    distribution of the sum of positive ranks; 1 where all are zero.
    """
    magnitudes = np.abs(differences)
    known = magnitudes > 0
    # Zeros are ranked last, where they move no other rank. Doubled, shared ranks are whole.
    ranks = np.where(known, block_ranks(np.where(known, magnitudes, np.inf)), 0.0)
    doubled = np.rint(2 * ranks).astype(np.int64)
    above = np.where(differences > 0, doubled, 0).sum(axis=1)
    smaller = np.minimum(above, doubled.sum(axis=1) - above)
    if differences.shape[1] > MAX_EXACT:
        return _normal_p(doubled / 2, smaller / 2)
    # Most pairs have the same ranks: without ties there is one table for all of them.
    rows: npt.NDArray[np.int64]
    rows, table = np.unique(np.sort(doubled, axis=1), axis=0, return_inverse=True)
    below = np.cumsum(_sums(rows), axis=1)
    return np.asarray(np.minimum(1.0, 2 * below[table.reshape(-1), smaller]))


def _sums(ranks: npt.NDArray[np.int64]) -> Numbers:
    """The probability of each sum of a random half of the ranks, a row for each of `ranks`."""
    most = int(ranks.sum(axis=1).max(initial=0))
    places = np.arange(most + 1)
    found = np.zeros((len(ranks), most + 1))
    found[:, 0] = 1.0
    for rank in ranks.T:
        source = places - rank[:, None]
        moved = np.take_along_axis(found, np.maximum(source, 0), axis=1)
        found = (found + np.where(source >= 0, moved, 0.0)) / 2
    return found


def _normal_p(ranks: Numbers, smaller: Numbers) -> Numbers:
    variance = np.square(ranks).sum(axis=1) / 4
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (smaller - ranks.sum(axis=1) / 2) / np.sqrt(variance)
    return np.asarray(np.where(variance > 0, np.minimum(1.0, 2 * normal_below(z)), 1.0))


def holm(ps: Sequence[float] | Numbers) -> list[float]:
    """p values corrected for being many (Holm, A Simple Sequentially Rejective …, 1979)."""
    corrected = [0.0] * len(ps)
    highest = 0.0
    for rank, index in enumerate(np.argsort(ps, kind="stable")):
        highest = max(highest, min(1.0, (len(ps) - rank) * float(ps[index])))
        corrected[index] = highest
    return corrected


def _different(figures: Numbers, names: Sequence[str]) -> set[frozenset[str]]:
    """The pairs of columns that Wilcoxon's signed-rank test tells apart, after Holm."""
    first, second = np.triu_indices(len(names), k=1)
    ps = signed_rank_p((figures[:, first] - figures[:, second]).T.round(12))
    pairs = combinations(names, 2)
    return {frozenset(pair) for pair, p in zip(pairs, holm(ps), strict=True) if p < ALPHA}


def _cliques(ordered: list[str], different: set[frozenset[str]]) -> tuple[tuple[str, ...], ...]:
    """The largest runs of neighbours in rank of which no two differ."""
    runs: list[tuple[int, int]] = []
    for start in range(len(ordered)):
        end = start + 1
        while end < len(ordered) and not any(
            frozenset((other, ordered[end])) in different for other in ordered[start:end]
        ):
            end += 1
        if end - start > 1 and not (runs and runs[-1][1] >= end):
            runs.append((start, end))
    return tuple(tuple(ordered[start:end]) for start, end in runs)
