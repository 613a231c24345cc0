"""Centres and intervals of one sample of figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.results.analysis.distributions import student_quantile, wilson

CONFIDENCE = 0.95
Z = 1.959963984540054
"""The normal quantile of 0.975."""

Values = Sequence[float] | npt.NDArray[np.float64]
Interval = tuple[float, float]

UNKNOWN: Interval = (float("nan"), float("nan"))


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure over all seeds, with where it lies for others (95 %); NaN of nothing."""

    value: float
    interval: Interval


def interquartile_mean(values: Values) -> float:
    """The mean of the middle half; of fewer than four values all count.

    Agarwal et al., Deep RL at the Edge of the Statistical Precipice, 2021. NaN of nothing.
    """
    number = len(values)
    if not number:
        return float("nan")
    cut = number // 4
    # Parted as scipy's `trim_mean` does it: the order of a sum decides its last bits.
    parted = np.partition(np.asarray(values, dtype=np.float64), (cut, number - cut - 1))
    return float(parted[cut : number - cut].mean())


def mean_interval(values: Values) -> Interval:
    """95 % interval of the mean over seeds, Student's.

    It says what other seeds would give on the same samples. Bootstrap intervals of a handful of
    values are far too narrow. NaN for fewer than two values.
    """
    sample = np.asarray(values, dtype=np.float64)
    if len(sample) < 2:
        return UNKNOWN
    mean = float(sample.mean())
    error = float(sample.std(ddof=1)) / math.sqrt(len(sample))
    half = float(student_quantile(0.5 + CONFIDENCE / 2, len(sample) - 1)) * error
    return mean - half, mean + half


def wilson_interval(successes: int, trials: int) -> Interval:
    """95 % interval of a probability after `successes` of `trials` (Wilson, 1927).

    For one trial's accuracy on its test split: it says what another test split of that size would
    give, not what another seed would. NaN for no trials.
    """
    if not trials:
        return UNKNOWN
    return wilson(successes, trials, CONFIDENCE)


def wilson_of_share(share: float, half: float, samples: int) -> Interval:
    """95 % interval of a share whose plain interval is `share` ± `half`: it stays within 0 and 1.

    Wilson's, for so many samples as would give that width (Korn and Graubard, 1998); of 0 or 1 for
    the number of `samples`.
    """
    spread = share * (1 - share)
    number = spread * (Z / half) ** 2 if spread > 0 and half > 0 else float(samples)
    middle = (share + Z**2 / (2 * number)) / (1 + Z**2 / number)
    reach = Z * math.sqrt(spread / number + Z**2 / (4 * number**2)) / (1 + Z**2 / number)
    return max(0.0, middle - reach), min(1.0, middle + reach)
