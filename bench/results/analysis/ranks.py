"""How strategies rank over blocks: data sets and backbones."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from bench.results.analysis.comparison import ALPHA
from bench.results.analysis.paired import holm
from bench.results.grid import Grid, complete_trials

if TYPE_CHECKING:
    import pandas as pd

BLOCKS = ("dataset", "backbone")
"""Axes whose values are blocks: what holds over all of them holds more widely."""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Average ranks over blocks (1 the best), whether they differ, and which do not.

    `p` is that of Friedman's test; `cliques` are groups of strategies of which no two differ by
    Wilcoxon's signed-rank test with Holm's correction (Benavoli, Corani and Mangili, 2016).
    """

    blocks: tuple[str, ...]
    ranks: dict[str, float]
    p: float
    cliques: tuple[tuple[str, ...], ...]


def rank_over_blocks(trials: pd.DataFrame, grid: Grid) -> Ranking | None:
    """The leading axis' values ranked within each block, test figures averaged over the rest.

    None unless three values or more are known in two blocks or more.
    """
    from scipy.stats import friedmanchisquare, rankdata

    complete = complete_trials(trials).dropna(subset=[grid.metric.test])
    names = [axis for axis in BLOCKS if complete[axis].nunique() > 1 and axis != grid.lead]
    if not names:
        return None
    value = complete["config"].map(lambda config: grid.cells[config][grid.lead])
    block = complete[names].agg(" · ".join, axis=1)
    table = complete[grid.metric.test].groupby([block, value]).mean().unstack().dropna(axis=1)
    if table.shape[0] < 2 or table.shape[1] < 3:
        return None
    ranks = rankdata(-grid.metric.sign * table.to_numpy().round(12), axis=1).mean(axis=0)
    average = dict(zip(table.columns, map(float, ranks), strict=True))
    ordered = sorted(average, key=lambda name: average[name])
    return Ranking(
        blocks=tuple(table.index),
        ranks={name: average[name] for name in ordered},
        p=float(friedmanchisquare(*table.to_numpy().T).pvalue),
        cliques=_cliques(ordered, _different(table)),
    )


def _different(table: pd.DataFrame) -> set[frozenset[str]]:
    """The pairs of columns that Wilcoxon's signed-rank test tells apart, after Holm."""
    from scipy.stats import wilcoxon

    pairs = list(combinations(table.columns, 2))
    ps = []
    for first, second in pairs:
        differences = (table[first] - table[second]).to_numpy().round(12)
        ps.append(float(wilcoxon(differences).pvalue) if differences.any() else 1.0)
    corrected = holm(ps)
    return {frozenset(pair) for pair, p in zip(pairs, corrected, strict=True) if p < ALPHA}


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
