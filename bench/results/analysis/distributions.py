"""Tails and quantiles of the distributions that claims rest on, with the bits of `scipy.stats`.

Importing `scipy.stats` takes half a second, and every report needs these few functions alone.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
Given = float | npt.NDArray[np.float64]


def normal_quantile(p: Given) -> Numbers:
    """Where so much of the normal distribution lies below."""
    from scipy.special import ndtri

    return np.asarray(ndtri(p))


def normal_upper_quantile(p: Given) -> Numbers:
    """Where so much of the normal distribution lies above."""
    return -normal_quantile(p)


def normal_below(x: Given) -> Numbers:
    """How much of the normal distribution lies below `x`."""
    from scipy.special import ndtr

    return np.asarray(ndtr(x))


def student_quantile(p: Given, freedom: Given) -> Numbers:
    """Where so much of Student's t with so many degrees of freedom lies below."""
    from scipy.special import stdtrit

    return np.asarray(stdtrit(freedom, p))


def student_upper_quantile(p: Given, freedom: Given) -> Numbers:
    """Where so much of Student's t with so many degrees of freedom lies above."""
    return -student_quantile(p, freedom)


def student_above(x: Given, freedom: Given) -> Numbers:
    """How much of Student's t with so many degrees of freedom lies above `x`."""
    from scipy.special import stdtr

    return np.asarray(stdtr(freedom, np.negative(x)))


def chi2_quantile(p: Given, freedom: Given) -> Numbers:
    """Where so much of χ² with so many degrees of freedom lies below."""
    from scipy.special import gammaincinv

    return np.asarray(2 * gammaincinv(np.asarray(freedom) / 2, p))


def chi2_above(x: Given, freedom: Given) -> Numbers:
    """How much of χ² with so many degrees of freedom lies above `x`."""
    from scipy.special import chdtrc

    return np.asarray(chdtrc(freedom, x))


def f_above(x: Given, upper: Given, lower: Given) -> Numbers:
    """How much of Fisher's F with so many degrees of freedom above and below lies above `x`."""
    from scipy.special import fdtrc

    return np.asarray(fdtrc(upper, lower, x))


def wilson(successes: int, trials: int, confidence: float) -> tuple[float, float]:
    """The interval of a probability after `successes` of `trials`, one or more (Wilson, 1927)."""
    share, z = successes / trials, float(normal_quantile(0.5 + 0.5 * confidence))
    width = 2 * (trials + z**2)
    centre = (2 * trials * share + z**2) / width
    half = z / width * math.sqrt(4 * trials * share * (1 - share) + z**2)
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return low, high
