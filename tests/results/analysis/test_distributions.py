"""Tails and quantiles against `scipy.stats`, to the last bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from bench.results.analysis import distributions as own
from bench.results.analysis.intervals import interquartile_mean
from tests.made_up_run import made_up_run

DRAWS = np.random.default_rng(0)
P = np.concatenate([DRAWS.uniform(size=500), [1e-300, 0.01, 0.5, 0.99, np.nan]])
X = np.concatenate([6 * DRAWS.normal(size=500), [0.0, 40.0, -np.inf, np.inf, np.nan]])
FREEDOM = np.concatenate([DRAWS.integers(0, 40, 250), DRAWS.uniform(0.5, 300, 255)])


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (own.normal_quantile(P), stats.norm.ppf(P)),
        (own.normal_upper_quantile(P), stats.norm.isf(P)),
        (own.normal_below(X), stats.norm.cdf(X)),
        (own.student_quantile(P, FREEDOM), stats.t.ppf(P, FREEDOM)),
        (own.student_upper_quantile(P, FREEDOM), stats.t.isf(P, FREEDOM)),
        (own.student_above(X, FREEDOM), stats.t.sf(X, FREEDOM)),
        (own.chi2_quantile(P, FREEDOM), stats.chi2.ppf(P, FREEDOM)),
        (own.chi2_above(abs(X), 1 + FREEDOM), stats.chi2.sf(abs(X), 1 + FREEDOM)),
        (own.f_above(abs(X), FREEDOM, 7.0), stats.f.sf(abs(X), FREEDOM, 7.0)),
    ],
)
def test_has_the_bits_of_scipy_stats(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(found, expected)


def test_wilson_has_the_bits_of_scipy_stats() -> None:
    for trials in (1, 2, 7, 49, 397):
        for successes in {0, 1, trials // 3, trials - 1, trials}:
            expected = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
            assert own.wilson(successes, trials, 0.95) == (expected.low, expected.high)


def test_interquartile_mean_has_the_bits_of_scipy_stats() -> None:
    for number in range(1, 40):
        values = DRAWS.normal(size=number)
        assert interquartile_mean(values) == stats.trim_mean(values, 0.25)


@pytest.mark.campaign
def test_a_report_does_not_import_scipy_stats(tmp_path: Path) -> None:
    """It takes half a second."""
    run = made_up_run(tmp_path / "run", seeds=3, epochs=2)
    code = "import sys, bench; bench.report(sys.argv[1]); sys.exit('scipy.stats' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(run.folder)], check=False, timeout=120)
    assert done.returncode == 0
