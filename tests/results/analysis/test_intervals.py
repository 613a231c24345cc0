"""Centres and intervals against closed forms."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from bench.results.analysis import interquartile_mean, mean_interval, wilson_interval
from bench.results.analysis.intervals import wilson_of_share

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
    assert all(math.isnan(end) for end in mean_interval([0.9]))
    assert math.isnan(interquartile_mean([]))


def test_the_interquartile_mean_is_that_of_the_middle_half() -> None:
    values = [0.9, 0.1, 0.5, 0.7, 0.6, 0.4, 1.0, 0.0]
    assert interquartile_mean(values) == pytest.approx(np.mean([0.4, 0.5, 0.6, 0.7]))
    assert interquartile_mean([0.1, 0.2, 0.9]) == pytest.approx(0.4)


def test_students_interval_in_closed_form() -> None:
    values = [0.91, 0.93, 0.94, 0.97]
    half = 3.182446305284263 * float(np.std(values, ddof=1)) / 2  # t quantile of 3 degrees
    mean = float(np.mean(values))
    assert mean_interval(values) == pytest.approx((mean - half, mean + half))
    assert mean_interval([0.9, 0.9, 0.9]) == pytest.approx((0.9, 0.9))


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_students_interval_covers_with_a_handful_of_seeds(seeds: int) -> None:
    rng = np.random.default_rng(0)
    covered = [
        low <= 0 <= high
        for low, high in (mean_interval(rng.normal(size=seeds)) for _ in range(400))
    ]
    # Three standard errors of 400 draws around 95 %.
    assert abs(np.mean(covered) - 0.95) < 0.033


def test_the_interval_of_a_share_stays_within_0_and_1() -> None:
    low, high = wilson_of_share(0.9, 0.2, 100)
    assert 0 < low < 0.9 < high < 1
    assert wilson_of_share(1.0, 0.0, 100) == pytest.approx(wilson_interval(100, 100))
    half = 1.959963984540054 * math.sqrt(0.9 * 0.1 / 50)
    assert wilson_of_share(0.9, half, 1) == pytest.approx(wilson_interval(45, 50))
