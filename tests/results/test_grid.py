from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.results.grid import rank_configs, read_grid, spread, value_text
from tests.made_up_run import made_up_run


def test_keys_are_the_axes_that_tell_configs_apart(tmp_path: Path) -> None:
    grid = read_grid(made_up_run(tmp_path, seeds=1, epochs=1).trials)
    assert grid.keys == ("strategy", "schedule")
    assert grid.varying == ("strategy", "schedule", "lr")  # each strategy brings its own LR
    assert grid.lead == "strategy"
    assert grid.axes["schedule"] == ("cosine", "step(step_size=7)")
    assert grid.axes["grad_clip_norm"] == ("none",)
    assert "full_finetune · cosine" in grid.labels.values()


def test_settings_are_axes_too(tmp_path: Path) -> None:
    def decay(row: dict[str, Any], _: dict[str, Any]) -> None:
        value = {"name": "l2", "beta": 0.5} if row["schedule"] == "cosine" else None
        row["settings"] = json.dumps({"penalty": value, "lr": 7})
        row["schedule"] = "constant"

    grid = read_grid(made_up_run(tmp_path, seeds=1, epochs=1, change=decay).trials)
    assert grid.keys == ("strategy", "penalty")
    assert grid.axes["penalty"] == ("l2(beta=0.5)", "none")
    assert grid.axes["lr"] == ("0.001", "0.01")


@pytest.mark.parametrize("rates", [{2: 0.1, 5: 0.2, None: 0.3}, {2: 0.3, 5: 0.3, None: 0.2}])
def test_sizes_do_not_follow_from_rates_that_were_searched_for_each(
    tmp_path: Path, rates: dict[int | None, float]
) -> None:
    sizes = dict(zip(("cosine", "step(step_size=7)", "constant"), rates, strict=True))

    def sized(row: dict[str, Any], _: dict[str, Any]) -> None:
        shots = sizes[row["schedule"]]
        row["settings"] = json.dumps({"shots": shots})
        row["lr"] = rates[shots] + (0.01 if row["strategy"] == "from_scratch" else 0.0)
        row["schedule"] = "constant"

    run = made_up_run(tmp_path, schedules=tuple(sizes), seeds=1, epochs=1, change=sized)
    grid = read_grid(run.trials)
    assert (grid.lead, grid.keys) == ("strategy", ("strategy", "shots"))
    assert "full_finetune · all" in grid.labels.values()
    alone = read_grid(run.trials[run.trials["strategy"] == "full_finetune"])
    assert (alone.lead, alone.keys) == ("strategy", ("shots",))


def test_a_size_may_follow_from_the_strategy(tmp_path: Path) -> None:
    def sized(row: dict[str, Any], _: dict[str, Any]) -> None:
        row["settings"] = json.dumps({"shots": len(row["strategy"])})

    run = made_up_run(tmp_path, schedules=["cosine"], seeds=1, epochs=1, change=sized)
    assert read_grid(run.trials).keys == ("strategy",)


def test_what_a_trial_never_learned_is_no_value_of_an_axis(tmp_path: Path) -> None:
    def skip(row: dict[str, Any], _: dict[str, Any]) -> None:
        if row["strategy"] == "from_scratch":
            row.update(status="skipped", precision=None)

    grid = read_grid(made_up_run(tmp_path, seeds=1, epochs=1, change=skip).trials)
    assert grid.axes["precision"] == ("fp32",)


def test_configs_that_look_alike_keep_labels_of_their_own(tmp_path: Path) -> None:
    def same(row: dict[str, Any], _: dict[str, Any]) -> None:
        row.update(strategy="s", schedule="c", lr=0.1)

    grid = read_grid(made_up_run(tmp_path, seeds=1, epochs=1, change=same).trials)
    assert len(set(grid.labels.values())) == len(grid.cells) == 8


def test_equal_means_share_a_rank(tmp_path: Path) -> None:
    accuracies = {
        "from_scratch": [0.1, 0.2, 0.3],
        "full_finetune": [0.3, 0.2, 0.1],  # the same up to the last digit of a float sum
        "freeze_backbone": [None, 0.9, None],
        "gradual_unfreeze(every=2)": [None, None, None],
    }

    def given(row: dict[str, Any], _: dict[str, Any]) -> None:
        row["test_accuracy"] = accuracies[row["strategy"]][row["seed"]]

    run = made_up_run(tmp_path, schedules=["cosine"], epochs=1, change=given)
    results = rank_configs(run.trials, read_grid(run.trials))
    assert [(r.label, r.rank, r.test.n) for r in results] == [
        ("freeze_backbone", 1, 1),
        ("from_scratch", 2, 3),
        ("full_finetune", 2, 3),
        ("gradual_unfreeze(every=2)", None, 0),
    ]


def test_only_complete_trials_count(tmp_path: Path) -> None:
    def fail(row: dict[str, Any], _: dict[str, Any]) -> None:
        if row["seed"] == 1 or row["strategy"] == "from_scratch":
            row["status"] = "failed"

    run = made_up_run(tmp_path, schedules=["cosine"], epochs=2, change=fail)
    results = rank_configs(run.trials, read_grid(run.trials))
    assert {r.label for r in results} == {
        "full_finetune",
        "freeze_backbone",
        "gradual_unfreeze(every=2)",
    }
    assert {r.seeds for r in results} == {(0, 2)}


def test_spread_agrees_with_numpy() -> None:
    values = [0.5, 0.75, 0.25, 0.9]
    measured = spread([*values, None, float("nan")])
    assert measured.n == 4
    assert measured.mean == pytest.approx(np.mean(values))
    assert measured.sd == pytest.approx(np.std(values, ddof=1))
    assert math.isnan(spread([0.5]).sd)
    assert math.isnan(spread([]).mean)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.001, "0.001"),
        (1e-05, "1e-05"),
        (True, "yes"),
        (None, "none"),
        (float("nan"), "none"),
        (16, "16"),
        ({"name": "step", "gamma": 0.5}, "step(gamma=0.5)"),
        ({"name": "linear"}, "linear"),
        ([1, 2], "[1, 2]"),
    ],
)
def test_values_in_words(value: Any, shown: str) -> None:
    assert value_text(value) == shown
