"""Strategies and configs of whole runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.results.analysis import (
    natural_target,
    representatives,
    sample_of,
    trial_measures,
)
from bench.results.folder import Run
from bench.results.grid import complete_trials, read_grid
from tests.made_up_run import made_up_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made_up_run(tmp_path_factory.mktemp("run") / "made_up", seeds=8)


def test_validation_chooses_who_stands_for_a_strategy(run: Run) -> None:
    grid = read_grid(run.trials)
    chosen = representatives(run.trials, grid)
    assert tuple(chosen) == grid.axes["strategy"]
    complete = complete_trials(run.trials)
    for strategy, config in chosen.items():
        own = complete[complete["strategy"] == strategy]
        assert config == own.groupby("config")["val_accuracy"].mean().idxmax()


def test_the_test_split_has_no_say(run: Run) -> None:
    grid = read_grid(run.trials)
    upside_down = run.trials.assign(test_accuracy=1 - run.trials["test_accuracy"])
    assert representatives(upside_down, grid) == representatives(run.trials, grid)


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
