"""What single configs reached, and how they trained."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.results.analysis import (
    natural_target,
    reached_target,
    sample_of,
    trial_measures,
)
from bench.results.folder import Run
from tests.made_up_run import made_up_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made_up_run(tmp_path_factory.mktemp("run") / "made_up", seeds=8)


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


def test_a_config_that_seldom_gets_there_is_not_flattered(tmp_path: Path) -> None:
    """Of three seeds `quick` gets there in 1, 2 and 3 epochs, `rare` once in 1 epoch."""

    def curves_of(row: dict[str, Any], curves: dict[str, Any]) -> None:
        epoch = row["seed"] + 1 if row["strategy"] == "quick" or row["seed"] == 0 else 9
        val = [0.9 if step >= epoch else 0.5 for step in (1, 2, 3)]
        curves["accuracy"] = np.array([0.5, 0.5, 0.5, *val])
        curves["seconds"] = np.ones(6)

    run = made_up_run(
        tmp_path / "r",
        strategies=["quick", "rare"],
        schedules=["s"],
        epochs=3,
        seeds=3,
        change=curves_of,
    )
    found = reached_target(trial_measures(run, target=0.9))
    config = run.trials.drop_duplicates("config").set_index("strategy")["config"]
    quick, rare = found.loc[config["quick"]], found.loc[config["rare"]]
    assert (quick["reached"], quick["trials"], quick["epochs"]) == (3, 3, 2)
    assert (quick["images"], quick["seconds"]) == (2 * 196, 4)
    assert (rare["reached"], rare["trials"]) == (1, 3)
    assert rare[["epochs", "images", "seconds"]].tolist() == [math.inf] * 3
    # One more that got there: the median is that of a trial that did.
    measures = trial_measures(run, target=0.9)
    more = measures[measures["config"] == config["rare"]].copy()
    more.iloc[1, more.columns.get_loc("epochs_to_target")] = 3
    assert reached_target(more)["epochs"].tolist() == [3]


def test_of_no_curves_no_target_is_reached(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "r", strategies=["pretrained_head"], schedules=["s"])
    found = reached_target(trial_measures(run, target=0.9))
    assert found[["reached", "trials"]].to_numpy().tolist() == [[0, 0]]
    assert found[["epochs", "images", "seconds"]].isna().all(axis=None)


def test_trials_that_train_nothing_have_no_curves(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "r", strategies=["pretrained_head"])
    found = trial_measures(run, target=natural_target(run.trials))
    assert len(found) == 6
    assert found[["epochs_to_target", "area", "overfitting"]].isna().all(axis=None)
