"""Curves that part, made by hand, and curves that say nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.results.analysis.over_fitting import Fit, fits, ways_out
from bench.results.folder import Run
from bench.results.grid import read_grid
from tests.made_up_run import made_up_run

EPOCHS = 6
FALLING = [1.0, 0.8, 0.6, 0.4, 0.2, 0.1]
VALLEY = [1.1, 0.7, 0.5, 0.55, 0.7, 0.9]
Curves = Mapping[str, tuple[Any, Any]]


def a_run(folder: Path, losses: Curves, **options: Any) -> Run:
    """Losses of training and validation by strategy, those of a seed or of all seeds."""

    def change(row: dict[str, Any], curves: dict[str, Any]) -> None:
        train, val = (np.array(own, float) for own in losses[row["strategy"]])
        own = np.concatenate(
            [each[row["seed"]] if each.ndim > 1 else each for each in (train, val)]
        )
        curves["loss"] = list(own)
        curves["accuracy"] = list(1 - np.clip(np.nan_to_num(own), 0, 2) / 2)

    options = {"schedules": ("cosine",), "epochs": EPOCHS, **options}
    return made_up_run(folder, strategies=list(losses), change=change, **options)


def fitted(run: Run) -> dict[str, Fit]:
    grid = read_grid(run.trials, run.metric)
    return {grid.cells[fit.config]["strategy"]: fit for fit in fits(run, grid)}


def test_validation_that_rises_while_training_falls_is_over_fitting(tmp_path: Path) -> None:
    found = fitted(
        a_run(
            tmp_path,
            {
                "parts": (FALLING, VALLEY),
                "learns": (FALLING, [loss + 0.05 for loss in FALLING]),
                "diverges": (VALLEY, VALLEY),
                "stays": (FALLING, [1.0, 0.5, 0.5, 0.51, 0.5, 0.52]),
            },
        )
    )
    assert {name: fit.over_fits for name, fit in found.items()} == {
        "parts": True, "learns": False, "diverges": False, "stays": False
    }  # fmt: skip
    fit = found["parts"]
    assert (fit.lowest, fit.epochs, fit.rising) == (3, 6, 3)
    assert fit.val_loss == pytest.approx((0.5, 0.9))
    assert fit.train_loss == pytest.approx((0.6, 0.1))
    assert fit.gap == pytest.approx((0.9 - 0.1) / 2)


def test_one_seed_of_three_is_luck(tmp_path: Path) -> None:
    val = [VALLEY, [1.1, 0.7, 0.5, 0.49, 0.49, 0.49], [1.1, 0.7, 0.5, 0.49, 0.48, 0.47]]
    fit = fitted(a_run(tmp_path, {"parts": (FALLING, val)}))["parts"]
    assert (fit.lowest, fit.rising, fit.over_fits) == (3, 1, False)


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_single_epoch_parts_nothing(tmp_path: Path, epochs: int) -> None:
    found = fitted(a_run(tmp_path, {"short": (FALLING[:epochs], VALLEY[:epochs])}, epochs=epochs))
    assert all((fit.epochs, fit.over_fits) == (1, False) for fit in found.values())


def test_losses_that_are_no_numbers_have_no_say(tmp_path: Path) -> None:
    nan, inf = math.nan, math.inf
    val = [VALLEY, [nan, *VALLEY[1:5], inf], [nan] * EPOCHS]
    found = fitted(a_run(tmp_path, {"broken": (FALLING, val), "lost": (FALLING, [nan] * EPOCHS)}))
    assert list(found) == ["broken"]
    fit = found["broken"]
    assert (fit.lowest, fit.epochs, fit.over_fits, list(fit.gaps)) == (3, 5, True, [0, 1])


def test_without_validation_nothing_is_said(tmp_path: Path) -> None:
    def change(row: dict[str, Any], curves: dict[str, Any]) -> None:
        for name, column in curves.items():
            curves[name] = column[: len(column) // 2]

    assert fitted(made_up_run(tmp_path, strategies=["a"], change=change)) == {}


def test_ways_out_are_what_the_grid_has_and_the_best_of_an_axis(tmp_path: Path) -> None:
    run = a_run(
        tmp_path,
        {
            "parts": (FALLING, VALLEY),
            "frozen": (FALLING, [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]),
            "frozen_more": (FALLING, [1.0, 0.9, 0.8, 0.7, 0.6, 0.4]),
            "worse": ([0.05] * EPOCHS, VALLEY),
        },
        schedules=("cosine", "constant"),
    )
    grid = read_grid(run.trials, run.metric)
    known = fits(run, grid)
    fit = next(each for each in known if grid.labels[each.config] == "parts · cosine")
    (way,) = ways_out(fit, known, grid)  # other schedules have the same gap here
    vals = run.trials.groupby(["strategy", "schedule"])["val_accuracy"].mean()
    smaller = {name: vals[name, "cosine"] for name in ("frozen", "frozen_more")}
    assert (way.axis, way.value) == ("strategy", max(smaller, key=lambda name: smaller[name]))
    assert way.gap == pytest.approx({"frozen": 0.2, "frozen_more": 0.15}[way.value])
    expected = smaller[way.value] - vals["parts", "cosine"]
    assert way.val_difference == pytest.approx(expected)
    alone = next(each for each in known if grid.labels[each.config] == "frozen_more · cosine")
    assert ways_out(alone, known, grid) == []
