"""Things compared on the same seeds and test samples, and what may be claimed of them.

Every claim of a report is made here, from what was scored on each test sample by each seed. The
test is that of `crossed`; all pairs that are spoken of are one family, and an interval that is
shown is the one that decides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from bench.results.analysis.crossed import (
    LARGEST_GROUP,
    LEAST_GROUPS,
    LEAST_SEEDS,
    CrossedTables,
    Numbers,
    crossed_p,
    crossed_table,
    half_widths,
    joined,
)
from bench.results.analysis.distributions import student_above, student_upper_quantile
from bench.results.analysis.folds import folded_half_widths, folded_p, folded_table
from bench.results.analysis.intervals import UNKNOWN, Interval
from bench.results.analysis.scores import Scores

T = TypeVar("T", int, str)

ALPHA = 0.05
MARGIN = 0.01

MIDDLE = 1.28
"""Standard errors around a figure that hold the middle 80 % of what it may be."""

Verdict = Literal["better", "worse", "as_good", "open"]

BlockScores = Mapping[str, Scores]
"""What one thing scored in each block (backbone)."""

Pair = tuple[str, str, BlockScores, BlockScores]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`first` against `second`; figures are first − second, of the metric.

    `seeds` are those that both have, `by_seed` the difference in each. `p` is that of one test;
    `corrected` is it after Bonferroni's correction over all `comparisons` and over the times that
    this pair was looked at: below 0.05 there is a difference, and `interval`, whose level is
    corrected in the same way, leaves out 0. With fewer than three seeds both speak of the trained
    models only (`of_models`). `blocks` are the backbones on which both were trained.

    Of a run with `folds`, `samples` are the images that all of them test, and the test is the
    corrected resampled t test: it speaks of strategies from one seed on.

    Where it is `grouped`, `samples` are groups of images. Nothing is claimed with `few_groups`: too
    few of them, or one that has more than half of all images.

    `seed_variance`, `sample_variance` and `rest_variance` are those of one seed, one sample and
    what is left of one of each; NaN where they are not known.
    """

    first: str
    second: str
    seeds: tuple[int, ...]
    by_seed: tuple[float, ...]
    samples: int
    blocks: tuple[str, ...]
    difference: float
    interval: Interval
    p: float
    corrected: float
    comparisons: int
    level: float
    margin: float = MARGIN
    higher_is_better: bool = True
    seed_variance: float = math.nan
    sample_variance: float = math.nan
    rest_variance: float = math.nan
    folds: int = 0
    grouped: bool = False
    few_groups: bool = False

    def turned(self) -> Comparison:
        """The same from the other side."""
        low, high = self.interval
        return replace(
            self,
            first=self.second,
            second=self.first,
            by_seed=tuple(0.0 - difference for difference in self.by_seed),
            difference=0.0 - self.difference,
            interval=(-high, -low),
        )

    @property
    def lead(self) -> float:
        """By how much `first` is ahead."""
        return self.difference if self.higher_is_better else 0.0 - self.difference

    @property
    def lead_interval(self) -> Interval:
        """The interval of the lead."""
        low, high = self.interval
        return (low, high) if self.higher_is_better else (-high, -low)

    @property
    def of_models(self) -> bool:
        """Whether it speaks of the trained models alone, not of the strategies."""
        return not self.folds and len(self.seeds) < LEAST_SEEDS

    @property
    def verdict(self) -> Verdict:
        """What may be claimed of the strategies."""
        return "open" if self.of_models else self._seen

    @property
    def models_verdict(self) -> Verdict:
        """What may be claimed of the trained models, where nothing may be of the strategies."""
        return self._seen if self.of_models else "open"

    @property
    def _seen(self) -> Verdict:
        if self.few_groups:
            return "open"
        low, high = self.lead_interval
        if low > 0:
            return "better"
        if high < 0:
            return "worse"
        return "as_good" if -self.margin < low and high < self.margin else "open"

    @property
    def not_worse(self) -> bool:
        """Whether `first` is shown to be behind by less than the margin, if it is behind at all."""
        shown = not self.of_models and not self.few_groups
        return shown and self.lead_interval[0] > -self.margin

    def error(self, seeds: npt.NDArray[Any] | int) -> Numbers:
        """The standard error of the difference with so many seeds; NaN where it is not known."""
        of_samples = self.sample_variance + self.rest_variance / np.asarray(seeds)
        return np.sqrt(self.seed_variance / seeds + of_samples / self.samples)

    @property
    def likely_size(self) -> Interval:
        """The least and the most of the middle 80 % of what the two may differ by."""
        size, reach = abs(self.difference), MIDDLE * float(self.error(len(self.seeds)))
        return max(0.0, size - reach), size + reach

    @property
    def improvement(self) -> float:
        """The share of seeds in which `first` is ahead, ties counted half; NaN without seeds."""
        if not self.by_seed:
            return math.nan
        leads = np.array(self.by_seed) if self.higher_is_better else -np.array(self.by_seed)
        return float(((leads > 0) + 0.5 * (leads == 0)).mean())


def look_level(look: int) -> float:
    """The share of 0.05 that a look may spend, the first being 1: all together spend 0.05."""
    return ALPHA * 6 / (math.pi * look) ** 2


def compare(
    scores: Mapping[str, BlockScores],
    *,
    looks: Mapping[frozenset[str], int] | None = None,
    margin: float = MARGIN,
    higher_is_better: bool = True,
    families: int = 1,
) -> list[Comparison]:
    """Every two things of `scores` against each other, in their order.

    `looks` says the how-manyeth look at a pair this is; by default the first at all. With so many
    `families` of the same pairs all of them are corrected as one.
    """
    names = list(scores)
    return compare_pairs(
        [(one, other, scores[one], scores[other]) for one, other in combinations(names, 2)],
        independent=max(1, len(names) - 1),
        looks=looks,
        margin=margin,
        higher_is_better=higher_is_better,
        families=families,
    )


def compare_pairs(
    pairs: Sequence[Pair],
    *,
    independent: int | None = None,
    looks: Mapping[frozenset[str], int] | None = None,
    margin: float = MARGIN,
    higher_is_better: bool = True,
    families: int = 1,
) -> list[Comparison]:
    """Each pair against each other, as one family; `independent` as for `crossed_p`.

    A pair with no common seed, block or sample has NaN for all that is not known, and p = 1.
    """
    number = families * len(pairs)
    levels = [
        look_level((looks or {}).get(frozenset((one, other)), 1)) / number
        for one, other, _, _ in pairs
    ]
    found = [
        _measured(pair, level, number, margin, higher_is_better)
        for pair, level in zip(pairs, levels, strict=True)
    ]
    grains = [_grain(pair) for pair in pairs]
    tables = {
        index: crossed_table(differences, grain=grains[index], grouped=comparison.grouped)
        for index, (comparison, differences) in enumerate(found)
        if not comparison.of_models and not comparison.folds and min(differences.shape) > 1
    }
    comparisons = [
        comparison
        if index in tables or comparison.samples < 2
        else _of_folds(comparison, differences, pairs[index])
        if comparison.folds
        else _of_models(comparison, differences, grains[index] is None)
        for index, (comparison, differences) in enumerate(found)
    ]
    if tables:
        family = joined(list(tables.values()))
        alone = min(len(tables), independent or len(tables))
        ps = crossed_p(family, independent=alone)
        halves = half_widths(
            family, independent=alone, alpha=np.array([levels[index] for index in tables])
        )
        for place, index in enumerate(tables):
            comparisons[index] = _decided(
                comparisons[index], float(ps[place]), float(halves[place]), tables[index]
            )
    return comparisons


def _grain(pair: Pair) -> float | None:
    """That of the differences: None for that of samples that are right or wrong."""
    grains = [scores.grain for side in pair[2:] for scores in side.values()]
    if all(grain is None for grain in grains):
        return None
    return min(grain or 0.0 for grain in grains)


def _measured(
    pair: Pair, level: float, comparisons: int, margin: float, higher_is_better: bool
) -> tuple[Comparison, Numbers]:
    """What is seen of a pair, before any test, with the differences by seed and sample."""
    first, second, one, other = pair
    blocks = tuple(block for block in one if block in other)
    sides = [scores[block] for block in blocks for scores in (one, other)]
    seeds = common([side.seeds for side in sides])
    samples = common([side.samples for side in sides])
    differences = np.zeros((len(seeds), len(samples)))
    for block in blocks:
        differences += one[block].at(seeds, samples) - other[block].at(seeds, samples)
    if differences.size:
        differences /= len(blocks)
    known = differences.size > 0
    comparison = Comparison(
        first=first,
        second=second,
        seeds=seeds if known else (),
        by_seed=tuple(map(float, differences.mean(axis=1).round(12))) if known else (),
        samples=len(samples),
        blocks=blocks,
        # Sums of the same figures in another order differ in the last digit: that is no lead.
        difference=round(float(differences.mean()), 12) if known else math.nan,
        interval=UNKNOWN,
        p=1.0,
        corrected=1.0,
        comparisons=comparisons,
        level=level,
        margin=margin,
        higher_is_better=higher_is_better,
        folds=len(samples) if known and any(side.folds is not None for side in sides) else 0,
        grouped=any(side.grouping is not None for side in sides),
        few_groups=any(
            side.grouping is not None
            and (len(samples) < LEAST_GROUPS or side.grouping.largest > LARGEST_GROUP)
            for side in sides
        ),
    )
    return comparison, differences


def common(each: Sequence[tuple[T, ...]]) -> tuple[T, ...]:
    """What all have, in the order of the first."""
    if not each:
        return ()
    first, *others = each
    if all(other == first for other in others):
        return first
    sets = [set(other) for other in others]
    return tuple(value for value in first if all(value in own for own in sets))


def _decided(comparison: Comparison, p: float, half: float, table: CrossedTables) -> Comparison:
    difference = comparison.difference
    return replace(
        comparison,
        interval=(difference - half, difference + half) if math.isfinite(half) else UNKNOWN,
        p=p,
        corrected=min(1.0, p * ALPHA / comparison.level),
        seed_variance=max(0.0, float(table.ms_seeds - table.ms_rest)) / comparison.samples,
        sample_variance=max(0.0, float(table.ms_samples - table.ms_rest)) / len(comparison.seeds),
        rest_variance=float(table.ms_rest),
    )


def _of_folds(comparison: Comparison, differences: Numbers, pair: Pair) -> Comparison:
    first = next(iter(pair[2].values()))
    folds = first.folds
    if folds is None or min(differences.shape[1], differences.size) < 2:
        return comparison
    table = folded_table(
        differences, test=folds.test, train=folds.train, grain=0.0 if first.in_units else None
    )
    if not table.variance and not table.grain:
        return comparison
    p, half = float(folded_p(table)), float(folded_half_widths(table, alpha=comparison.level))
    return replace(
        comparison,
        samples=folds.test * comparison.folds,
        interval=(comparison.difference - half, comparison.difference + half),
        p=p,
        corrected=min(1.0, p * ALPHA / comparison.level),
    )


def _of_models(comparison: Comparison, differences: Numbers, counts: bool) -> Comparison:
    """What the test samples tell of the very models that were trained.

    Student's t over the samples; of right and wrong with half a sample added to each of the four
    counts of their table (Agresti and Min, 2005), and of one seed p is at least that of McNemar's
    exact test (1947).
    """
    if not differences.size:
        return comparison
    samples = differences.shape[1]
    means = differences.mean(axis=0)
    added = 2 if counts else 0
    spread = np.square(means).sum() + added / 2 - means.sum() ** 2 / (samples + added)
    error = math.sqrt(max(0.0, spread)) / (samples + added)
    if comparison.grouped:  # of which there may be few
        error *= math.sqrt(samples / max(1, samples - 1))
    if not error:
        return comparison
    p = float(2 * student_above(abs(comparison.difference) / error, samples - 1))
    half = error * float(student_upper_quantile(comparison.level / 2, samples - 1))
    ahead, differing = int((means > 0).sum()), int((means != 0).sum())
    if counts and differing and np.isin(means, (-1.0, 0.0, 1.0)).all():
        from scipy.stats import binomtest

        p = max(p, float(binomtest(ahead, differing, 0.5).pvalue))
    if p >= comparison.level:  # what the exact test does not claim, the interval does not either
        half = max(half, abs(comparison.difference))
    return replace(
        comparison,
        interval=(comparison.difference - half, comparison.difference + half),
        p=p,
        corrected=min(1.0, p * ALPHA / comparison.level),
    )
