"""Two or more things compared on the same seeds, and what the comparison supports.

All strategies see the same splits, batches and draws for one seed, so their figures are compared
seed by seed: what a seed does to all of them cancels out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from bench.results.analysis.intervals import Interval, Values, mean_interval, rounded_mean
from bench.results.grid import complete_trials
from bench.results.metric import ACCURACY, Metric

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.05
POWER = 0.8
EXACT_PAIRS = 16
"""Up to so many pairs all 2ⁿ sign flips are counted; of more, 99,999 are drawn."""

MANY_SEEDS = 1_000
"""Where more would be needed, no run will tell the two apart."""

Verdict = Literal["better", "worse", "undecided", "too few seeds"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`first` against `second` over the seeds that both have.

    `differences` (first − second) stand in the order of `seeds`. `p` is that of the exact sign-flip
    test, two-sided; `corrected` is it after Holm's correction over all `comparisons` made together.
    Who is ahead follows from `higher_is_better`.
    """

    first: str
    second: str
    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    p: float
    corrected: float
    comparisons: int
    higher_is_better: bool = True

    def turned(self) -> Comparison:
        """The same from the other side."""
        return replace(
            self,
            first=self.second,
            second=self.first,
            differences=tuple(-difference for difference in self.differences),
        )

    @property
    def leads(self) -> tuple[float, ...]:
        """By how much `first` is ahead in each seed: the differences, or minus them."""
        return self.differences if self.higher_is_better else tuple(-d for d in self.differences)

    @property
    def effect(self) -> float:
        """The mean difference; NaN without seeds."""
        return float(np.mean(self.differences)) if self.differences else math.nan

    @cached_property
    def interval(self) -> Interval:
        """95 % interval of the effect over seeds."""
        return mean_interval(self.differences)

    @property
    def improvement(self) -> float:
        """The share of seeds in which `first` is ahead, ties counted half; NaN without seeds."""
        return probability_of_improvement(self.leads)

    @property
    def attainable(self) -> float:
        """The smallest corrected p that so many seeds can give."""
        return min(1.0, self.comparisons * smallest_p(len(self.differences)))

    @property
    def more_seeds(self) -> int | None:
        """How many more seeds would tell the two apart, if they differ as much as it seems."""
        return more_seeds(self.differences, comparisons=self.comparisons)

    @property
    def verdict(self) -> Verdict:
        """What may be claimed: a corrected p below 0.05 and an interval without 0, or nothing."""
        if self.attainable >= ALPHA:
            return "too few seeds"
        if self.corrected >= ALPHA or self.interval[0] <= 0 <= self.interval[1]:
            return "undecided"
        return "better" if (self.effect > 0) == self.higher_is_better else "worse"


def compare(figures: pd.DataFrame, *, higher_is_better: bool = True) -> list[Comparison]:
    """Every two columns of `figures` (rows: seeds; NaN where one is missing) against each other.

    In the order of the columns. The differences of a pair are of the seeds that both have.
    """
    return compare_pairs(
        [
            (str(first), str(second), figures[[first, second]])
            for first, second in combinations(figures.columns, 2)
        ],
        higher_is_better=higher_is_better,
    )


def compare_pairs(
    pairs: Sequence[tuple[str, str, pd.DataFrame]], *, higher_is_better: bool = True
) -> list[Comparison]:
    """The two columns of each frame (rows: seeds) against each other, under the names before it.

    In the order of the pairs. The differences of a pair are of the seeds that both have.
    """
    known = [(first, second, figures.dropna()) for first, second, figures in pairs]
    # Figures that differ in the last bit only are equal.
    differences = [
        (both.iloc[:, 0] - both.iloc[:, 1]).to_numpy(float).round(12) for _, _, both in known
    ]
    ps = [sign_flip_p(difference) for difference in differences]
    return [
        Comparison(
            first=first,
            second=second,
            seeds=tuple(int(seed) for seed in both.index),
            differences=tuple(map(float, difference)),
            p=p,
            corrected=corrected,
            comparisons=len(pairs),
            higher_is_better=higher_is_better,
        )
        for (first, second, both), difference, p, corrected in zip(
            known, differences, ps, holm(ps), strict=True
        )
    ]


def sign_flip_p(differences: Values) -> float:
    """Two-sided p of "the differences are symmetric about 0", by flipping their signs.

    Exact for up to `EXACT_PAIRS` differences (Fisher, The Design of Experiments, 1935). 1 for fewer
    than two.
    """
    sample = np.asarray(differences, dtype=np.float64)
    if len(sample) < 2 or not sample.any():
        return 1.0
    if len(sample) <= EXACT_PAIRS:
        # The other half of the flips are these with all signs turned.
        flips = np.arange(2 ** (len(sample) - 1))[:, None] >> np.arange(len(sample)) & 1
        means = rounded_mean((1 - 2 * flips) * sample)
        return float((np.abs(means) >= abs(means[0])).mean())
    from scipy.stats import permutation_test

    found = permutation_test(
        (sample,),
        rounded_mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=99_999,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def smallest_p(pairs: int) -> float:
    """The smallest p that `sign_flip_p` can give: all differences of one sign."""
    return min(1.0, 2.0 ** (1 - pairs))


def seeds_to_decide(comparisons: int) -> int:
    """The smallest number of seeds with which a difference can be significant at all.

    Holm's correction multiplies the smallest of `comparisons` p values by their number.
    """
    return 1 + math.floor(math.log2(comparisons / ALPHA)) + 1


def outlook(strategies: int, seeds: int) -> str:
    """Whether so many seeds can tell so many strategies apart; to be said before training them."""
    pairs = strategies * (strategies - 1) // 2
    smallest = min(1.0, pairs * smallest_p(seeds))
    sentence = (
        f"{strategies} strategies, {pairs} pair{'s' if pairs > 1 else ''}, {seeds} "
        f"seed{'s' if seeds > 1 else ''}: the smallest attainable p is {smallest:.2g}"
    )
    if smallest < ALPHA:
        return sentence
    least = seeds_to_decide(pairs)
    return f"{sentence}, so no difference can be significant; it takes {least} seeds"


def holm(ps: Sequence[float]) -> list[float]:
    """p values corrected for being many (Holm, A Simple Sequentially Rejective …, 1979)."""
    corrected = [0.0] * len(ps)
    highest = 0.0
    for rank, index in enumerate(np.argsort(ps, kind="stable")):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        corrected[index] = highest
    return corrected


def probability_of_improvement(differences: Values) -> float:
    """The share of positive differences, zeros counted half; NaN without differences."""
    sample = np.asarray(differences)
    if not len(sample):
        return math.nan
    return float(((sample > 0) + 0.5 * (sample == 0)).mean())


def more_seeds(differences: Values, *, comparisons: int) -> int | None:
    """How many more seeds a paired test needs to find a difference as large as this one.

    With power 0.8 at 0.05 over the number of comparisons, by the t test's sample size (Guenther,
    1981), and at least as many as can be significant at all. None if it is more than `MANY_SEEDS`
    or not known: from fewer than two differences, or where they are all 0.
    """
    from scipy.stats import norm

    sample = np.asarray(differences, dtype=np.float64)
    if len(sample) < 2 or not sample.any():
        return None
    z_alpha, z_power = norm.ppf(1 - ALPHA / comparisons / 2), norm.ppf(POWER)
    ratio = sample.std(ddof=1) / abs(sample.mean()) if sample.mean() else math.inf
    needed = ((z_alpha + z_power) * ratio) ** 2 + z_alpha**2 / 2
    if needed > MANY_SEEDS:
        return None
    wanted: int = max(math.ceil(needed), seeds_to_decide(comparisons))
    return max(1, wanted - len(sample))


def seed_table(
    trials: pd.DataFrame, configs: dict[str, str], metric: Metric = ACCURACY
) -> pd.DataFrame:
    """Test figures by seed (rows) of `configs` (name → config; columns in this order)."""
    complete = complete_trials(trials)
    table = complete.pivot_table(index="seed", columns="config", values=metric.test)
    table = table.reindex(columns=list(configs.values()))
    table.columns = list(configs)
    return table


def mcnemar_p(first_right: npt.NDArray[np.bool_], second_right: npt.NDArray[np.bool_]) -> float:
    """Exact two-sided p of "both are right equally often" on the same samples (McNemar, 1947)."""
    from scipy.stats import binomtest

    only_first = int((first_right & ~second_right).sum())
    only_second = int((second_right & ~first_right).sum())
    if not only_first + only_second:
        return 1.0
    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)
