"""Centres and intervals against closed forms and a second implementation."""

from __future__ import annotations

import math
from itertools import product
from statistics import NormalDist

import numpy as np
import pytest

from bench.results.analysis import bca_interval, interquartile_mean, wilson_interval

NORMAL = NormalDist()


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (143, 153), (153, 153), (77, 153)])
def test_wilson_in_closed_form(successes: int, trials: int) -> None:
    z, p = NORMAL.inv_cdf(0.975), successes / trials
    centre = (p + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(p * (1 - p) / trials + (z / (2 * trials)) ** 2)
    assert wilson_interval(successes, trials) == pytest.approx((centre - half, centre + half))


def test_two_accuracies_of_153_images_are_the_same_number() -> None:
    low, high = wilson_interval(143, 153)
    assert low < 145 / 153 < high


def test_nothing_has_no_interval() -> None:
    assert all(math.isnan(end) for end in wilson_interval(0, 0))
    assert all(math.isnan(end) for end in bca_interval([0.9]))
    assert math.isnan(interquartile_mean([]))


def test_the_interquartile_mean_is_that_of_the_middle_half() -> None:
    values = [0.9, 0.1, 0.5, 0.7, 0.6, 0.4, 1.0, 0.0]
    assert interquartile_mean(values) == pytest.approx(np.mean([0.4, 0.5, 0.6, 0.7]))
    assert interquartile_mean([0.1, 0.2, 0.9]) == pytest.approx(0.4)


def _textbook_bca(values: list[float]) -> tuple[float, float]:
    """Efron's definition over all nⁿ resamples, ties counted half in the bias correction."""
    n, mean = len(values), np.mean(values)
    means = np.sort([np.mean(chosen) for chosen in product(values, repeat=n)])
    below = (np.sum(means < mean - 1e-12) + np.sum(means <= mean + 1e-12)) / 2 / len(means)
    z0 = NORMAL.inv_cdf(below)
    left_out = np.array([np.mean(np.delete(values, i)) for i in range(n)])
    gaps = left_out.mean() - left_out
    acceleration = (gaps**3).sum() / (6 * (gaps**2).sum() ** 1.5)

    def end(probability: float) -> float:
        z = z0 + NORMAL.inv_cdf(probability)
        return float(np.quantile(means, NORMAL.cdf(z0 + z / (1 - acceleration * z))))

    return end(0.025), end(0.975)


@pytest.mark.parametrize(
    "values",
    [
        [0.91, 0.93, 0.94, 0.945, 0.97],
        [0.71, 0.92, 0.935, 0.94, 0.95, 0.955],
        [-0.02, 0.013, 0.03, 0.031, 0.07, 0.2],
    ],
)
def test_bca_against_the_textbook(values: list[float]) -> None:
    spread = np.ptp(values)
    # The resamples are drawn, those of the textbook are all there are: 3 % of the range apart.
    assert bca_interval(values) == pytest.approx(_textbook_bca(values), abs=0.03 * spread)


def test_bca_covers_the_mean_of_skewed_samples() -> None:
    rng = np.random.default_rng(0)
    covered = [
        low <= 1.0 <= high
        for low, high in (bca_interval(rng.exponential(size=20)) for _ in range(200))
    ]
    # A 95 % interval covers about 92 % at this size (Efron and Tibshirani, 1993): 3 sd below.
    assert np.mean(covered) > 0.86


def test_equal_values_and_equal_calls() -> None:
    assert bca_interval([0.9, 0.9, 0.9]) == (0.9, 0.9)
    values = [0.9, 0.92, 0.95, 0.96]
    assert bca_interval(values) == bca_interval(values)
