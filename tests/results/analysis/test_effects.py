"""Shares of variance against regression; Pareto fronts and calibration against definitions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.results.analysis import pareto_front, reliability, variance_shares
from bench.results.grid import Grid

STRATEGIES, SCHEDULES, SEEDS = ("a", "b", "c"), ("x", "y"), (0, 1, 2, 3)


def _grid_of(cells: list[tuple[str, str]]) -> Grid:
    return Grid(
        axes={"strategy": STRATEGIES, "schedule": SCHEDULES},
        keys=("strategy", "schedule"),
        cells={f"{a}{b}": {"strategy": a, "schedule": b} for a, b in cells},
        labels={f"{a}{b}": f"{a} {b}" for a, b in cells},
    )


def _trials(values: np.ndarray[Any, Any]) -> tuple[pd.DataFrame, Grid]:
    cells = list(product(STRATEGIES, SCHEDULES))
    rows = [
        {"config": f"{a}{b}", "seed": seed, "status": "complete", "test_accuracy": values[i, k]}
        for i, (a, b) in enumerate(cells)
        for k, seed in enumerate(SEEDS)
    ]
    return pd.DataFrame(rows), _grid_of(cells)


@dataclass(frozen=True)
class _Design:
    """Dummy variables of a balanced grid, to regress on."""

    trials: pd.DataFrame

    def residual(self, *terms: tuple[int, ...]) -> float:
        keys = np.array([[c[0], c[1], str(s)] for c, s in self.trials[["config", "seed"]].values])
        columns = [np.ones((len(keys), 1))]
        for term in terms:
            labels = pd.Series([" ".join(row[list(term)]) for row in keys])
            columns.append(pd.get_dummies(labels).to_numpy(float))
        design, y = np.hstack(columns), self.trials["test_accuracy"].to_numpy()
        fitted = design @ np.linalg.lstsq(design, y, rcond=None)[0]
        return float(((y - fitted) ** 2).sum())


def test_shares_are_those_of_regression() -> None:
    values = np.random.default_rng(0).normal(size=(6, 4))
    trials, grid = _trials(values)
    design = _Design(trials)
    total = design.residual()
    noise = design.residual((0, 1), (2,)) / (5 * 3)
    squares = {
        ("strategy",): (total - design.residual((0,)), 2),
        ("schedule",): (total - design.residual((1,)), 1),
        ("seed",): (total - design.residual((2,)), 3),
        ("strategy", "schedule"): (design.residual((0,), (1,)) - design.residual((0, 1)), 2),
    }
    found = {e.axes: e for e in variance_shares(trials, grid)}
    assert found.keys() == squares.keys()
    for axes, (explained, freedom) in squares.items():
        effect = found[axes]
        assert effect.share == pytest.approx((explained - freedom * noise) / (total + noise))
        assert effect.seen == pytest.approx(explained / total)
        assert effect.chance == pytest.approx(freedom * noise / total)


def _one_axis(values: Any) -> tuple[pd.DataFrame, Grid]:
    """Strategies × seeds."""
    names = [chr(ord("a") + row) for row in range(len(values))]
    rows = [
        {"config": name, "seed": seed, "status": "complete", "test_accuracy": value}
        for name, figures in zip(names, values, strict=True)
        for seed, value in enumerate(figures)
    ]
    grid = Grid(
        axes={"strategy": tuple(names)},
        keys=("strategy",),
        cells={name: {"strategy": name} for name in names},
        labels={name: name for name in names},
    )
    return pd.DataFrame(rows), grid


def test_shares_by_hand() -> None:
    # Squares: 29.5 in all, 13.5 of strategies, 13 of seeds, so 3 of noise, of 2 degrees.
    strategy, seed = variance_shares(*_one_axis([(1.0, 2.0, 3.0), (3.0, 4.0, 8.0)]))
    assert (strategy.axes, seed.axes) == (("strategy",), ("seed",))
    assert (strategy.share, seed.share) == pytest.approx((12 / 31, 10 / 31))
    assert (strategy.seen, seed.seen) == pytest.approx((13.5 / 29.5, 13 / 29.5))
    assert (strategy.chance, seed.chance) == pytest.approx((1.5 / 29.5, 3 / 29.5))


def test_equal_strategies_explain_nothing() -> None:
    """η² gives them a quarter of the variance."""
    rng = np.random.default_rng(1)
    found = [
        {e.axes: e for e in variance_shares(*_one_axis(rng.normal(0.9, 0.01, size=(4, 3))))}
        for _ in range(300)
    ]
    of_strategies = [effects["strategy",] for effects in found]
    assert abs(np.mean([effect.share for effect in of_strategies])) < 0.03
    assert np.mean([effect.seen for effect in of_strategies]) > 0.2
    assert np.mean([effect.chance for effect in of_strategies]) == pytest.approx(3 / 11, abs=0.03)


def test_one_axis_that_explains_all() -> None:
    trials, grid = _trials(np.repeat([0.7, 0.7, 0.8, 0.8, 0.9, 0.9], 4).reshape(6, 4))
    first, *rest = variance_shares(trials, grid)
    assert first.axes == ("strategy",)
    assert first.share == pytest.approx(1.0)
    assert [effect.share for effect in rest] == pytest.approx([0.0] * 3)


def test_no_shares_without_noise_to_compare_with() -> None:
    trials, grid = _trials(np.random.default_rng(0).normal(size=(6, 4)))
    assert variance_shares(trials.iloc[1:], grid) == []
    assert variance_shares(trials.iloc[:0], grid) == []
    assert variance_shares(trials[trials["seed"] == 0], grid) == []
    trials, grid = _trials(np.full((6, 4), 0.9))
    assert variance_shares(trials, grid) == []


POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12)


@given(POINTS)
def test_the_front_is_what_sorting_by_cost_finds(points: list[tuple[int, int]]) -> None:
    best: dict[int, int] = {}
    for accuracy, cost in points:
        best[cost] = max(accuracy, best.get(cost, -1))
    front, highest = set(), -1
    for cost in sorted(best):
        if best[cost] > highest:
            front.add((best[cost], cost))
            highest = best[cost]
    accuracies, costs = zip(*points, strict=True)
    assert pareto_front(accuracies, costs) == [point in front for point in points]


def test_calibration_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.92, 0.08], [0.4, 0.6], [0.35, 0.65], [1.0, 0.0]])
    found = reliability(probabilities, np.array([0, 1, 1, 1, 0]))
    assert found.counts.tolist() == [1, 1, 2, 1]
    assert found.confidence == pytest.approx([0.6, 0.65, 0.91, 1.0])
    assert found.accuracy == pytest.approx([1.0, 1.0, 0.5, 1.0])
    expected = (1 * 0.4 + 1 * 0.35 + 2 * 0.41 + 1 * 0.0) / 5
    assert found.expected_calibration_error == pytest.approx(expected)


def test_calibration_error_sample_by_sample() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), size=400)
    labels = rng.integers(0, 3, size=400)
    gaps = 0.0
    for low in range(15):
        chosen = [
            (p.max(), p.argmax() == y)
            for p, y in zip(probabilities, labels, strict=True)
            if low / 15 < p.max() <= (low + 1) / 15
        ]
        if chosen:
            confidence, right = map(np.mean, zip(*chosen, strict=True))
            gaps += len(chosen) * abs(confidence - right)
    error = reliability(probabilities, labels).expected_calibration_error
    assert error == pytest.approx(gaps / 400)
