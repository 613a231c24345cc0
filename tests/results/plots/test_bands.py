"""The band around a mean is the interval that the tables give."""

from __future__ import annotations

import numpy as np
import pytest

from bench.results.analysis import mean_interval
from bench.results.metric import ACCURACY
from bench.results.plots.bands import band, reach


@pytest.mark.parametrize("seeds", [3, 8])
def test_bands_are_the_intervals_of_the_tables(seeds: int) -> None:
    values = np.random.default_rng(0).uniform(0.6, 0.7, size=(seeds, 4))
    ends = band(values, ACCURACY)
    assert ends is not None
    expected = np.array([mean_interval(column) for column in values.T]).T
    np.testing.assert_allclose(ends, expected)


def test_bands_of_fractions_stay_within_0_and_1() -> None:
    low, high = band(np.array([[0.9], [1.0], [1.0]]), ACCURACY) or (np.array([]), np.array([]))
    assert 0 < low < 1 == high


def test_two_seeds_have_no_band() -> None:
    assert reach(2) is None
    assert band(np.ones((2, 3)), ACCURACY) is None
