"""Which config stands for a strategy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.results.analysis.choice import ONE_BLOCK, choices, representatives
from bench.results.analysis.verdict import Verdict, reach_verdict
from bench.results.folder import Run
from bench.results.grid import Grid, complete_trials, read_grid
from tests.made_up_run import made_up_run


def _trials(
    cells: Mapping[tuple[str, float], Sequence[float | None]],
    *,
    backbones: Mapping[tuple[str, float], str] | None = None,
) -> tuple[pd.DataFrame, Grid]:
    """(strategy, lr) → validation accuracy by seed; None where the trial failed."""
    rows = []
    for (strategy, lr), vals in cells.items():
        for seed, val in enumerate(vals):
            rows.append(
                {
                    "trial": f"{strategy}-{lr}-{seed}",
                    "config": f"{strategy}-{lr}",
                    "strategy": strategy,
                    "backbone": (backbones or {}).get((strategy, lr), "r18"),
                    "lr": lr,
                    "seed": seed,
                    "status": "failed" if val is None else "complete",
                    "settings": "{}",
                    "val_accuracy": math.nan if val is None else val,
                    "test_accuracy": math.nan if val is None else 0.5,
                }
            )
    frame = pd.DataFrame(rows)
    for axis in ("weights", "head", "schedule", "augmentation", "optimizer", "precision"):
        frame[axis] = "same"
    frame["batch_size"], frame["epochs"] = 16, 3
    return frame, read_grid(frame)


def test_the_other_seeds_choose() -> None:
    """Seed 2 alone makes the second config look best: in that seed the first one stands."""
    cells = {("a", 0.1): [0.80, 0.80, 0.80], ("a", 0.01): [0.78, 0.78, 0.90]}
    own = choices(*_trials({**cells, ("b", 0.1): [0.7, 0.7, 0.7]}))["a"][ONE_BLOCK]
    assert own.configs == {0: "a-0.01", 1: "a-0.01", 2: "a-0.1"}
    assert own.trials == {0: ("a-0.01-0",), 1: ("a-0.01-1",), 2: ("a-0.1-2",)}
    assert own.val == {0: 0.78, 1: 0.78, 2: 0.80}
    assert own.config == "a-0.01"
    assert (own.agreeing, own.candidates) == (2, 2)


def test_what_is_reported_was_not_chosen_on_its_own_luck() -> None:
    """30 equal configs: the best mean of 3 seeds is too good, the choice by the others is not."""
    rng = np.random.default_rng(11)
    reported, naive = [], []
    for _ in range(60):
        table = 0.8 + 0.02 * rng.normal(size=(30, 3))
        cells = {("a", float(lr)): list(row) for lr, row in enumerate(table)}
        own = choices(*_trials({**cells, ("b", 99.0): [0.1] * 3}))["a"][ONE_BLOCK]
        reported.append(np.mean(list(own.val.values())))
        naive.append(table.mean(axis=1).max())
    error = np.std(reported, ddof=1) / math.sqrt(len(reported))
    assert abs(np.mean(reported) - 0.8) < 4 * error
    assert np.mean(naive) > 0.8 + 0.015


def test_one_seed_chooses_by_itself() -> None:
    own = choices(*_trials({("a", 0.1): [0.7], ("a", 0.01): [0.9], ("b", 0.1): [0.5]}))["a"]
    assert own[ONE_BLOCK].configs == {0: "a-0.01"}


def test_a_failed_trial_does_not_stand_in_its_seed() -> None:
    cells = {("a", 0.1): [0.8, 0.8, 0.8], ("a", 0.01): [0.9, None, 0.9], ("b", 0.1): [0.5] * 3}
    own = choices(*_trials(cells))["a"][ONE_BLOCK]
    assert own.configs == {0: "a-0.01", 1: "a-0.1", 2: "a-0.01"}


def test_without_validation_the_first_stands() -> None:
    cells = {("a", 0.1): [math.nan] * 3, ("a", 0.01): [math.nan] * 3, ("b", 0.1): [math.nan] * 3}
    own = choices(*_trials(cells))["a"][ONE_BLOCK]
    assert set(own.configs.values()) == {"a-0.1"}
    assert math.isnan(own.val[0])


def test_without_validation_every_strategy_is_drawn() -> None:
    cells = {("a", 0.1): [math.nan] * 3, ("a", 0.01): [math.nan] * 3, ("b", 0.1): [math.nan] * 3}
    assert representatives(*_trials(cells)) == {"a": "a-0.1", "b": "b-0.1"}


def test_of_several_backbones_the_one_that_validation_prefers_is_drawn() -> None:
    cells = {("a", 1.0): [0.9] * 3, ("a", 2.0): [0.8] * 3, ("a", 3.0): [0.7] * 3}
    cells |= {("b", 1.0): [math.nan] * 3, ("b", 2.0): [0.1, 0.2, 0.3]}
    backbones = {("a", 1.0): "r18", ("a", 2.0): "r50", ("a", 3.0): "r18"}
    backbones |= {("b", 1.0): "r18", ("b", 2.0): "r50"}
    trials, grid = _trials(cells, backbones=backbones)
    assert representatives(trials, grid) == {"a": "a-1.0", "b": "b-2.0"}


def test_strategies_stand_on_each_backbone() -> None:
    cells = {(s, lr): [0.8, 0.8] for s in "ab" for lr in (1.0, 2.0)}
    trials, grid = _trials(cells, backbones={(s, 2.0): "r50" for s in "ab"})
    found = choices(trials, grid)
    assert {name: set(own) for name, own in found.items()} == {
        "a": {"r18", "r50"},
        "b": {"r18", "r50"},
    }
    assert found["a"]["r50"].trials == {0: ("a-2.0-0",), 1: ("a-2.0-1",)}


@pytest.mark.parametrize("lone", ["a", "c"])
def test_a_backbone_with_one_strategy_competes_as_a_pipeline(lone: str) -> None:
    """As TF-IDF does, whose logistic regression other backbones may have too, or may not."""
    cells = {("a", 1.0): [0.7, 0.7], ("b", 1.0): [0.8, 0.8], (lone, 2.0): [0.9, 0.9]}
    trials, grid = _trials(cells, backbones={(lone, 2.0): "tfidf"})
    assert (grid.lead, grid.keys) == ("pipeline", ("pipeline",))
    assert grid.varying == ("pipeline", "lr")
    best = f"{lone} on tfidf"
    assert {name: set(own) for name, own in choices(trials, grid).items()} == {
        name: {ONE_BLOCK} for name in ("a on r18", "b on r18", best)
    }
    assert representatives(trials, grid)[best] == f"{lone}-2.0"


def test_pipelines_are_compared_though_they_share_no_backbone(tmp_path: Path) -> None:
    def moved(row: dict[str, Any], _: dict[str, Any]) -> None:
        if row["strategy"] == "full_finetune":
            row["backbone"] = "other"

    def compared(run: Run) -> Verdict:
        return reach_verdict(run.trials, read_grid(run.trials), run.predictions)

    moved_run = compared(made_up_run(tmp_path / "moved", change=moved))
    plain = compared(made_up_run(tmp_path / "plain"))
    assert (plain.axis, moved_run.axis) == ("strategy", "pipeline")
    assert moved_run.recommended == f"{plain.recommended} on resnet18"
    figures = [
        [(each.difference, each.interval) for each in run.comparisons] for run in (plain, moved_run)
    ]
    assert figures[0] == figures[1]


def test_strategies_without_a_common_backbone_compete_as_pipelines() -> None:
    pairs = [("a", "r18"), ("b", "r18"), ("b", "r50"), ("c", "r50")]
    cells = {(name, lr): [0.8, 0.8] for lr, (name, _) in enumerate(pairs)}
    backbones = {(name, lr): backbone for lr, (name, backbone) in enumerate(pairs)}
    assert _trials(cells, backbones=backbones)[1].lead == "pipeline"
    # A strategy that one of the backbones cannot have leaves the others comparable.
    cells |= {("c", 4.0): [0.8, 0.8]}
    assert _trials(cells, backbones={**backbones, ("c", 4.0): "r18"})[1].lead == "strategy"


def test_the_test_split_has_no_say(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "run", seeds=4)
    grid = read_grid(run.trials)
    upside_down = run.trials.assign(test_accuracy=1 - run.trials["test_accuracy"])
    assert choices(upside_down, grid) == choices(run.trials, grid)
    assert representatives(upside_down, grid) == representatives(run.trials, grid)


def test_validation_chooses_what_is_drawn_of_a_strategy(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "run", seeds=4)
    grid = read_grid(run.trials)
    chosen = representatives(run.trials, grid)
    assert tuple(chosen) == grid.axes["strategy"]
    complete = complete_trials(run.trials)
    for strategy, config in chosen.items():
        own = complete[complete["strategy"] == strategy]
        assert config == own.groupby("config")["val_accuracy"].mean().idxmax()
