"""Where the luck lies in stored predictions, in the terms of the probit simulator.

Of two trainings, how often both are right on the same image tells how closely the sums behind them
go together (the tetrachoric correlation; Pearson, 1900). Trainings that share neither strategy nor
seed share the image only; those that share the strategy, or the seed, share more.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Shares of the variance of the sums on one image; `luck` is in points of accuracy."""

    accuracy: float
    image: float
    strategy_image: float
    seed_image: float
    rest: float
    luck: float
    trainings: int
    samples: int


def calibrate(folder: Path) -> Parts:
    """The parts of the trainings of a run folder, those near the best accuracy.

    Trainings that are ten points behind the best are another world and left out.
    """
    trials = pd.read_parquet(folder / "trials.parquet")
    trials = trials[trials["test_accuracy"] > trials["test_accuracy"].max() - 0.1]
    predictions = pd.read_parquet(folder / "predictions.parquet")
    if "split" in predictions:
        predictions = predictions[predictions["split"] == "test"]
    correct = predictions["label"] == predictions["predicted"]
    table = correct.groupby([predictions["trial"], predictions["sample"]]).first().unstack()
    right = table.loc[list(trials["trial"])].to_numpy(dtype=bool)
    return shares_of(right, list(trials["config"]), list(trials["seed"]))


def shares_of(right: npt.NDArray[np.bool_], configs: list[str], seeds: list[int]) -> Parts:
    """The parts of `right[trainings, samples]`."""
    together: dict[tuple[bool, bool], list[float]] = defaultdict(list)
    for one, other in combinations(range(len(right)), 2):
        kind = (configs[one] == configs[other], seeds[one] == seeds[other])
        both = float((right[one] & right[other]).mean())
        together[kind].append(tetrachoric(both, right[one].mean(), right[other].mean()))
    neither, strategy, seed = (
        float(np.mean(together[kind])) for kind in ((False, False), (True, False), (False, True))
    )
    accuracies = pd.Series(right.mean(axis=1)).groupby(configs)
    rest = max(0.0, 1 - strategy - seed + neither)
    # Half of what two seeds of a config differ in is the binomial part of the luck.
    binomial = np.mean(
        [
            (right[one] != right[other]).mean() / 2 / right.shape[1]
            for one, other in combinations(range(len(right)), 2)
            if configs[one] == configs[other]
        ]
    )
    luck = max(0.0, float(accuracies.var(ddof=1).mean() - binomial))
    return Parts(
        accuracy=float(right.mean()),
        image=neither,
        strategy_image=strategy - neither,
        seed_image=seed - neither,
        rest=rest,
        luck=100 * luck**0.5,
        trainings=len(right),
        samples=right.shape[1],
    )


def tetrachoric(both: float, one: float, other: float) -> float:
    """The correlation of two normal sums that are above 0 with these probabilities."""
    from scipy.optimize import brentq
    from scipy.stats import multivariate_normal, norm

    limits = [float(norm.ppf(np.clip(share, 1e-4, 1 - 1e-4))) for share in (one, other)]

    def off(correlation: float) -> float:
        covariance = [[1.0, correlation], [correlation, 1.0]]
        return float(multivariate_normal.cdf(limits, cov=covariance) - both)

    low, high = -0.99, 0.999
    if off(low) >= 0:
        return low
    return high if off(high) <= 0 else float(brentq(off, low, high, xtol=1e-4))
