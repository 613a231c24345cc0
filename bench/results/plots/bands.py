"""The band around a mean over seeds: the same in every figure and on the page."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from bench.results.analysis.distributions import student_quantile
from bench.results.analysis.intervals import CONFIDENCE
from bench.results.folder.columns import FRACTION, REAL, TASK_METRICS
from bench.results.metric import Metric

LEAST_BANDED = 3
"""Of two seeds the 95 % interval is nine standard deviations to each side: they are drawn
themselves."""

BAND = "band: 95 % interval of the mean over seeds (Student's t)"


@cache
def reach(n: int) -> float | None:
    """Half of the 95 % interval of a mean over `n` seeds, in their standard deviations.

    Student's, as `mean_interval` has it. None of fewer than `LEAST_BANDED`.
    """
    if n < LEAST_BANDED:
        return None
    return float(student_quantile(0.5 + CONFIDENCE / 2, n - 1)) / math.sqrt(n)


def band(values: np.ndarray, metric: Metric) -> tuple[np.ndarray, np.ndarray] | None:
    """The ends of the band of `values` [seeds, epochs]; None of too few seeds."""
    half = reach(len(values))
    if half is None:
        return None
    mean, sd = values.mean(axis=0), values.std(axis=0, ddof=1)
    return ends(mean, half * sd, metric)


def ends(mean: np.ndarray, half: np.ndarray, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
    """`mean` ± `half`, of fractions within 0 and 1, of others within what they can be."""
    kind = FRACTION if metric.percent else TASK_METRICS.get(metric.name, REAL)
    low, high = np.clip([mean - half, mean + half], kind.low, kind.high)
    return low, high
