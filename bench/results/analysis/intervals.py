"""Centres and intervals of one sample of figures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
RESAMPLES = 9_999

Values = Sequence[float] | npt.NDArray[np.float64]
Interval = tuple[float, float]

UNKNOWN: Interval = (float("nan"), float("nan"))


def interquartile_mean(values: Values) -> float:
    """The mean of the middle half; of fewer than four values all count.

    Agarwal et al., Deep RL at the Edge of the Statistical Precipice, 2021. NaN of nothing.
    """
    from scipy.stats import trim_mean

    return float(trim_mean(values, 0.25)) if len(values) else float("nan")


def bca_interval(values: Values) -> Interval:
    """95 % interval of the mean: bias-corrected and accelerated bootstrap (Efron, 1987).

    The draws are fixed, so equal values give equal intervals. NaN for fewer than two values; with a
    handful of values it is too narrow, which no bootstrap can help.
    """
    sample = np.asarray(values, dtype=np.float64)
    if len(sample) < 2:
        return UNKNOWN
    if np.ptp(sample) == 0:
        return float(sample[0]), float(sample[0])
    return _bca_interval(tuple(sample.tolist()))


@lru_cache(maxsize=4096)  # figures, tables and the page of one report show the same intervals
def _bca_interval(values: tuple[float, ...]) -> Interval:
    from scipy.stats import bootstrap

    found = bootstrap(
        (np.array(values),),
        rounded_mean,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        method="BCa",
        vectorized=True,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def rounded_mean(values: npt.NDArray[np.float64], axis: int = -1) -> npt.NDArray[np.float64]:
    """Means that are equal but for the last bits are equal: resampling counts ties."""
    return np.asarray(np.round(values.mean(axis=axis), 12))


def wilson_interval(successes: int, trials: int) -> Interval:
    """95 % interval of a probability after `successes` of `trials` (Wilson, 1927).

    For one trial's accuracy on its test split: it says what another test split of that size would
    give, not what another seed would. NaN for no trials.
    """
    from scipy.stats import binomtest

    if not trials:
        return UNKNOWN
    found: Any = binomtest(successes, trials).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)
