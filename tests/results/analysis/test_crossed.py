"""The test of seeds × samples, against other ways to the same numbers and on simulated runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.integrate import quad
from scipy.stats import binom, chi2, norm, ttest_1samp

from bench.results.analysis.crossed import (
    MOST_PRIOR,
    CrossedTables,
    crossed_p,
    crossed_table,
    half_widths,
    joined,
)

Numbers = npt.NDArray[np.float64]

DESIGNS = (
    # Seeds of each table of a family, samples, sd of seeds, of samples, of the rest; rounded to
    # right and wrong or not.
    ((3,), 20, 0.0, 0.5, 0.5, True),
    ((3,), 40, 0.3, 0.3, 0.3, False),
    ((3, 3, 3), 30, 0.1, 0.5, 0.5, True),
    ((3, 3, 3), 30, 0.5, 0.1, 0.2, False),
    ((5,), 25, 0.2, 0.0, 0.4, False),
    ((5, 5, 5), 60, 0.05, 0.4, 0.4, True),
    ((3, 5, 5), 25, 0.2, 0.3, 0.4, True),
    ((8, 8, 8, 8, 8, 8), 15, 0.4, 0.4, 0.4, False),
    ((3, 4, 16), 12, 0.4, 0.2, 0.4, True),
    ((16,), 12, 0.2, 0.2, 0.6, True),
)


def _family(design: int) -> list[Numbers]:
    seeds, samples, *spreads, counts = DESIGNS[design]
    rng = np.random.default_rng(design)
    of_seeds, of_samples, rest = spreads
    family = []
    for number in seeds:
        values = 0.1 + of_seeds * rng.normal(size=(number, 1))
        values = values + of_samples * rng.normal(size=(1, samples))
        values = values + rest * rng.normal(size=(number, samples))
        family.append(np.clip(values.round(), -1, 1) if counts else values)
    return family


def _tables(family: Sequence[Numbers]) -> CrossedTables:
    return joined([crossed_table(values) for values in family])


def _left_over(values: Numbers, *columns: Numbers) -> float:
    """The sum of squares that least squares leave."""
    inputs = np.column_stack([np.ones(values.size), *columns])
    fitted = inputs @ np.linalg.lstsq(inputs, values.ravel(), rcond=None)[0]
    return float(np.square(values.ravel() - fitted).sum())


def _by_regression(values: Numbers) -> tuple[float, float, float]:
    """Mean squares of seeds, samples and the rest, by leaving the factors out in turn."""
    seeds, samples = values.shape
    of_seeds = np.kron(np.eye(seeds), np.ones((samples, 1)))[:, 1:]
    of_samples = np.kron(np.ones((seeds, 1)), np.eye(samples))[:, 1:]
    rest = _left_over(values, of_seeds, of_samples)
    return (
        (_left_over(values, of_samples) - rest) / (seeds - 1),
        (_left_over(values, of_seeds) - rest) / (samples - 1),
        rest / (seeds - 1) / (samples - 1),
    )


def _by_integral(family: Sequence[Numbers], independent: int, distance: float | None) -> Numbers:
    """p of each table, or of a mean that is `distance` off, by numerical integration."""
    squares = [_by_regression(values) for values in family]
    ratio = sum(each[0] for each in squares) / sum(each[2] for each in squares)
    share = min(1.0, 1 / ratio)
    found = []
    for values, (of_seeds, of_samples, rest) in zip(family, squares, strict=True):
        seeds, samples = values.shape
        prior = round(2 * share * min(MOST_PRIOR, (independent - 1) * (seeds - 1))) / 2
        freedom = seeds - 1 + prior
        spread = ((seeds - 1) * of_seeds + prior * ratio * rest) / freedom
        far = abs(values.mean()) if distance is None else distance

        def outside(
            z: float,
            freedom: float = freedom,
            spread: float = spread,
            rest: float = rest,
            more: float = max(of_samples - rest, 0),
            size: int = values.size,
            samples: int = samples,
            far: float = far,
        ) -> float:
            scaled = chi2.ppf(norm.cdf(z), freedom) / freedom
            variance = (max(spread / scaled, rest) + more) / size
            error = max(variance**0.5, 1 / (samples + 2))
            return float(2 * norm.sf(far / error) * norm.pdf(z))

        found.append(quad(outside, -6, 6, limit=200, points=[-2, 0, 2])[0])
    return np.array(found)


@pytest.mark.parametrize("design", range(len(DESIGNS)))
def test_mean_squares_are_those_of_least_squares(design: int) -> None:
    for values in _family(design):
        table = crossed_table(values)
        assert float(table.effect) == pytest.approx(values.mean())
        found = [float(each) for each in (table.ms_seeds, table.ms_samples, table.ms_rest)]
        assert found == pytest.approx(list(_by_regression(values)), abs=1e-12)
        assert (int(table.seeds), int(table.samples)) == values.shape


@pytest.mark.parametrize("design", range(len(DESIGNS)))
def test_p_is_the_integral_over_what_the_seeds_variance_may_be(design: int) -> None:
    family = _family(design)
    for independent in (1, 2, len(family)):
        if independent > len(family):
            continue
        found = crossed_p(_tables(family), independent=independent)
        assert found == pytest.approx(_by_integral(family, independent, None), rel=0.01, abs=1e-7)


@pytest.mark.parametrize("design", range(len(DESIGNS)))
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 6, 0.5])
def test_interval_and_p_never_contradict_each_other(design: int, alpha: float) -> None:
    family = _family(design)
    tables = _tables(family)
    independent = min(2, len(family))
    half = half_widths(tables, independent=independent, alpha=alpha)
    p = crossed_p(tables, independent=independent)
    assert ((half < np.abs(tables.effect)) == (p < alpha)).all()
    at_the_end = crossed_p(replace(tables, effect=half), independent=independent)
    assert at_the_end == pytest.approx(np.full(len(family), alpha))


def test_without_any_luck_of_samples_it_is_students_t() -> None:
    rng = np.random.default_rng(1)
    for seeds in (3, 4, 5, 8, 16):
        by_seed = 3 + 4 * rng.normal(size=seeds)
        values = np.repeat(by_seed[:, None], 50, axis=1)
        found = crossed_p(crossed_table(values), independent=1)
        assert float(found) == pytest.approx(float(ttest_1samp(by_seed, 0).pvalue), rel=1e-3)


def test_what_others_show_counts_for_nothing_where_all_is_luck_of_training() -> None:
    rng = np.random.default_rng(8)
    by_seed = 3 + 4 * rng.normal(size=(6, 4))
    family = [np.repeat(row[:, None], 50, axis=1) for row in by_seed]
    found = crossed_p(_tables(family), independent=3)
    assert found == pytest.approx(ttest_1samp(by_seed, 0, axis=1).pvalue, rel=1e-3)


def test_without_any_luck_of_training_it_is_a_normal_test_over_samples() -> None:
    rng = np.random.default_rng(2)
    for seeds in (3, 8):
        by_sample = rng.integers(-1, 2, 400).astype(float)
        values = np.repeat(by_sample[None], seeds, axis=0)
        error = by_sample.std(ddof=1) / 20
        wanted = 2 * norm.sf(abs(by_sample.mean()) / error)
        found = float(crossed_p(crossed_table(values), independent=1))
        assert found == pytest.approx(wanted, rel=1e-6)


def test_equal_models_are_equal_within_two_samples() -> None:
    for seeds, samples in ((3, 60), (5, 400)):
        table = crossed_table(np.zeros((seeds, samples)))
        assert float(crossed_p(table, independent=1)) == pytest.approx(1)
        half = float(half_widths(table, independent=1, alpha=0.05))
        assert half * samples == pytest.approx(2, rel=0.06)


@pytest.mark.parametrize(("seeds", "samples", "differing"), [(3, 60, 20), (5, 400, 30), (3, 60, 1)])
def test_p_is_above_0_where_all_seeds_agree(seeds: int, samples: int, differing: int) -> None:
    values = np.zeros((seeds, samples))
    values[:, :differing] = 1
    assert 0 < float(crossed_p(crossed_table(values), independent=1)) <= 1


def test_neither_order_nor_sides_matter() -> None:
    rng = np.random.default_rng(3)
    family = _family(6)
    shuffled = [
        rng.permutation(rng.permutation(values, axis=0), axis=1) * side
        for values, side in zip(family, (1, -1, -1), strict=True)
    ]
    tables, others = _tables(family), _tables(shuffled)
    wanted = crossed_p(tables, independent=2)
    assert crossed_p(others, independent=2) == pytest.approx(wanted)
    assert np.abs(others.effect) == pytest.approx(np.abs(tables.effect))
    order = [2, 0, 1]
    turned = _tables([family[index] for index in order])
    assert crossed_p(turned, independent=2) == pytest.approx(wanted[order])


def test_pairs_may_have_other_numbers_of_seeds() -> None:
    rng = np.random.default_rng(4)
    family = [rng.integers(-1, 2, (seeds, 40)).astype(float) for seeds in (3, 5, 16)]
    tables = _tables(family)
    assert tables.seeds.tolist() == [3, 5, 16]
    found = crossed_p(tables, independent=3)
    assert found == pytest.approx(_by_integral(family, 3, None), rel=0.01)
    half = half_widths(tables, independent=3, alpha=0.05)
    for index, each in enumerate(half):
        outside = _by_integral(family, 3, float(each))
        assert outside[index] == pytest.approx(0.05, rel=0.01)


def test_a_whole_array_of_tables_is_judged_run_by_run() -> None:
    rng = np.random.default_rng(5)
    differences = rng.integers(-1, 2, (7, 3, 4, 30)).astype(float)
    together = crossed_p(crossed_table(differences), independent=2)
    alone = [crossed_p(_tables(list(run)), independent=2) for run in differences]
    assert together == pytest.approx(np.array(alone))


def _right(rng: np.random.Generator, runs: int, seeds: int, samples: int) -> Numbers:
    """Three equal strategies `[runs, 3, seeds, samples]`: images of all degrees of difficulty.

    Trainings spoil a share of the images that is exponentially distributed: no normal in it.
    """
    chance = rng.beta(1.8, 0.2, (runs, 1, 1, samples))
    own = rng.random((runs, 3, 1, samples)) < 0.3
    chance = np.where(own, rng.beta(1.8, 0.2, own.shape), chance)
    kept = 1 - np.minimum(rng.exponential(0.02, (runs, 3, seeds, 1)), 1)
    return (rng.random((runs, 3, seeds, samples)) < chance * kept).astype(float)


@pytest.mark.parametrize(("seeds", "samples"), [(3, 60), (3, 300), (5, 100), (8, 150)])
def test_of_equals_few_are_told_apart(seeds: int, samples: int) -> None:
    runs, claimed = 1_000, 0
    for part in range(10):
        right = _right(np.random.default_rng([seeds, samples, part]), runs // 10, seeds, samples)
        differences = np.stack([right[:, a] - right[:, b] for a, b in combinations(range(3), 2)], 1)
        p = crossed_p(crossed_table(differences), independent=2)
        claimed += int((3 * p.min(axis=1) < 0.05).sum())
    # A test that claims at most 5 % exceeds this once in a thousand times.
    assert claimed <= binom.ppf(0.999, runs, 0.05)


def test_a_clear_difference_is_claimed_with_three_seeds() -> None:
    right = _right(np.random.default_rng(6), 200, 3, 400)
    # The first is ahead by some ten points: it gets nine in ten of its mistakes right.
    mended = np.random.default_rng(7).random(right[:, 0].shape) < 0.9
    right[:, 0] = np.maximum(right[:, 0], mended)
    differences = np.stack([right[:, a] - right[:, b] for a, b in combinations(range(3), 2)], 1)
    p = crossed_p(crossed_table(differences), independent=2)
    assert (3 * p[:, :2] < 0.05).mean() > 0.8


def test_every_figure_of_a_table_is_joined() -> None:
    family = _family(6)
    tables = _tables(family)
    for each in fields(CrossedTables):
        alone = [float(getattr(crossed_table(values), each.name)) for values in family]
        assert getattr(tables, each.name).tolist() == alone
