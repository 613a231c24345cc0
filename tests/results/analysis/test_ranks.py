"""Ranks over blocks, and what single configs reached."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.results.analysis import natural_target, rank_over_blocks, sample_of, trial_measures
from bench.results.folder import Run
from bench.results.grid import Grid, read_grid
from tests.made_up_run import made_up_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made_up_run(tmp_path_factory.mktemp("run") / "made_up", seeds=8)


def _blocks(values: dict[str, list[float]]) -> tuple[pd.DataFrame, Grid]:
    """Strategy → accuracy on each of several data sets."""
    rows = [
        {
            "config": f"{name}{block}",
            "dataset": f"data{block}",
            "backbone": "resnet18",
            "seed": 0,
            "status": "complete",
            "test_accuracy": accuracy,
        }
        for name, accuracies in values.items()
        for block, accuracy in enumerate(accuracies)
    ]
    cells = {str(row["config"]): {"strategy": str(row["config"])[0]} for row in rows}
    grid = Grid(axes={"strategy": tuple(values)}, keys=("strategy",), cells=cells, labels={})
    return pd.DataFrame(rows), grid


def test_ranks_over_blocks() -> None:
    noise = np.linspace(-0.02, 0.02, 10)
    values = {
        "a": list(0.7 + noise),
        "b": list(0.9 + noise + 0.001 * (-1.0) ** np.arange(10)),
        "c": list(0.9 + noise),
    }
    ranking = rank_over_blocks(*_blocks(values))
    assert ranking is not None
    assert ranking.ranks == {"b": 1.5, "c": 1.5, "a": 3.0}
    # Friedman's statistic in closed form: n blocks, k strategies, no ties.
    n, k = 10, 3
    sums = sum((n * rank) ** 2 for rank in ranking.ranks.values())
    statistic = 12 / (n * k * (k + 1)) * sums - 3 * n * (k + 1)
    assert ranking.p == pytest.approx(math.exp(-statistic / 2))  # chi-square, two degrees
    assert ranking.cliques == (("b", "c"),)


def test_no_ranks_of_one_block_or_two_strategies(run: Run) -> None:
    assert rank_over_blocks(run.trials, read_grid(run.trials)) is None
    assert rank_over_blocks(*_blocks({"a": [0.1, 0.2], "b": [0.3, 0.4]})) is None


def test_a_sample_in_closed_form() -> None:
    sample = sample_of(pd.Series([0.9, 0.8, None, 0.95, 0.7, 0.85]))
    assert sample.n == 5
    assert sample.mean == pytest.approx(0.84)
    assert sample.median == pytest.approx(0.85)
    assert sample.sd == pytest.approx(np.std([0.9, 0.8, 0.95, 0.7, 0.85], ddof=1))
    assert sample.interquartile_mean == pytest.approx(0.85)
    assert sample.interval[0] < 0.84 < sample.interval[1]
    empty = sample_of(pd.Series([], dtype=float))
    assert empty.n == 0
    assert math.isnan(empty.mean)


def _with_curves(row: dict[str, Any], curves: dict[str, Any]) -> None:
    curves["accuracy"] = np.array([0.6, 0.8, 0.99, 0.5, 0.9, 0.7])
    curves["seconds"] = np.array([2.0, 2.0, 2.0, 0.5, 0.5, 0.5])
    row.update(val_accuracy=0.9, test_accuracy=0.88, last_test_accuracy=0.8)


def test_how_trials_trained(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "r", strategies=["a"], epochs=3, seeds=2, change=_with_curves)
    assert natural_target(run.trials) == 0.9
    found = trial_measures(run, target=0.9)
    assert set(found.index) == set(run.trials["trial"])
    for _, row in found.iterrows():
        assert row["epochs_to_target"] == 2
        assert row["images_to_target"] == 2 * 196
        assert row["seconds_to_target"] == 5.0
        assert row["area"] == pytest.approx(0.7)
        assert row["overfitting"] == pytest.approx(0.29)
        assert row["late_loss"] == pytest.approx(0.08)
    never = trial_measures(run, target=0.95)
    assert (
        never[["epochs_to_target", "images_to_target", "seconds_to_target"]].isna().all(axis=None)
    )


def test_trials_that_train_nothing_have_no_curves(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "r", strategies=["pretrained_head"])
    found = trial_measures(run, target=natural_target(run.trials))
    assert len(found) == 6
    assert found[["epochs_to_target", "area", "overfitting"]].isna().all(axis=None)
