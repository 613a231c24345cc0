"""The LR range tests of a whole suite: which cells there are, and what is shared and written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.errors import BenchError
from bench.execution.jobs import Job
from bench.methods.plan import Plan
from bench.results.analysis import LrCell, lr_cells
from bench.results.folder import read_lr_ranges, write_lr_ranges
from bench.runs.lr_find import CellRange, find_lrs, range_of, step_rows
from bench.runs.resolve import ResolvedRun, resolve_run
from bench.training.lr_range import LrRange, lr_range_test
from tests.tiny import SMOKE_SUITE, make_job, make_trial, tiny_training

RANGE = {"low": 1e-4, "high": 1e-1, "steps": 20}
GRID = [
    "strategy=[from_scratch, {name: linear_probe, lr: [0.2, 0.01, 1.0]}, lp_ft]",
    "schedule=[constant, cosine]",
]


def resolved(tmp_path: Path, *overrides: str, only: tuple[str, ...] = ()) -> ResolvedRun:
    path = tmp_path / "tiny.yaml"
    path.write_text(SMOKE_SUITE)
    return resolve_run(path, out=tmp_path, overrides=overrides, only=only)


def find(resolved_run: ResolvedRun) -> list[CellRange]:
    return find_lrs(resolved_run, low=1e-4, high=1e-1, steps=20)


def test_a_cell_is_a_config_without_its_learning_rate_and_equal_tests_run_once(
    tmp_path: Path,
) -> None:
    resolved_run = resolved(tmp_path, *GRID)
    cells = find(resolved_run)
    named = [(c.resolved.trial.strategy.name, c.resolved.trial.schedule.name) for c in cells]
    assert named == [
        (strategy, schedule)
        for strategy in ("from_scratch", "linear_probe", "lp_ft")
        for schedule in ("constant", "cosine")
    ]
    assert {c.resolved.trial.settings.seed for c in cells} == {0}
    assert [c.suite_lrs for c in cells[:3]] == [(0.01,), (0.01,), (0.01, 0.2, 1.0)]
    scratch, probe = cells[0].range, cells[2].range
    assert scratch is not None
    assert probe is not None
    assert scratch != probe
    assert cells[1].range is scratch
    assert all(cell.range is probe for cell in cells[2:])
    assert not resolved_run.folder.exists()


@pytest.mark.campaign
def test_each_cell_has_the_test_of_its_own_trial(tmp_path: Path) -> None:
    (cell,) = find(resolved(tmp_path, "strategy=from_scratch", "seed=1"))
    options = {"backbone": "shufflenet_v2_x0_5", "seed": 1, "lr": 0.5, "epochs": 7}
    options["threads"] = cell.resolved.trial.settings.threads
    training = tiny_training(make_trial("from_scratch", **options))
    # Without weights, images are normalised as for the weights of the suite's other trials.
    weights = cell.resolved.weights
    training.preprocessing = training.data.preprocessing(weights.mean, weights.std)
    training.__post_init__()
    assert cell.range == lr_range_test(training, low=1e-4, high=1e-1, steps=20)


def test_only_chooses_cells_and_their_seed(tmp_path: Path) -> None:
    (cell,) = find(resolved(tmp_path, only=("strategy=from_scratch,seed=1",)))
    assert cell.resolved.trial.strategy.name == "from_scratch"
    assert cell.resolved.trial.settings.seed == 1


def test_what_trains_nothing_is_left_out_with_its_reason(tmp_path: Path) -> None:
    resolved_run = resolved(tmp_path, "strategy=from_scratch")
    trials = [replace(trial, plan=Plan(stages=())) for trial in resolved_run.trials]
    (cell,) = find(replace(resolved_run, trials=tuple(trials)))
    assert (cell.range, cell.reason, cell.failed) == (None, "it trains nothing", False)


def test_weights_that_cannot_be_had_fail_their_cells_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", offline)
    first, second = find(resolved(tmp_path, "weights=imagenet", "image_size=32"))
    assert (first.failed, second.failed) == (False, True)
    assert first.range is not None
    assert "https://download.pytorch.org/models/shufflenet" in str(second.reason)


def test_an_impossible_range_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    resolved_run = replace(resolved(tmp_path), trials=())
    with pytest.raises(BenchError, match="low must be above 0 and below high"):
        find_lrs(resolved_run, low=1.0, high=0.1, steps=20)


@pytest.mark.parametrize(
    "strategy", [pytest.param("full_finetune", marks=pytest.mark.campaign), "linear_probe"]
)
def test_the_range_of_a_job_is_that_of_its_training(strategy: str) -> None:
    trial = make_trial(strategy)
    job = make_job(trial)
    assert isinstance(job, Job)
    found = range_of(job, low=1e-4, high=1e-1, steps=20)
    assert found == lr_range_test(tiny_training(trial), low=1e-4, high=1e-1, steps=20)


def test_the_table_holds_a_row_for_each_step(tmp_path: Path) -> None:
    resolved_run = resolved(tmp_path, *GRID)
    cells = find(resolved_run)
    losses = (0.7, 0.6, float("nan"))
    broken = LrRange(lrs=(0.1, 0.2, 0.3), losses=losses)
    cells[0] = replace(cells[0], range=broken)
    cells[1] = replace(cells[1], range=None, reason="it trains nothing")
    write_lr_ranges(resolved_run.folder, step_rows(resolved_run, cells))
    steps = read_lr_ranges(resolved_run.folder)
    first = steps[steps["strategy"].eq("from_scratch")]
    assert first["step"].tolist() == [1, 2, 3]
    assert first["lr"].tolist() == [0.1, 0.2, 0.3]
    np.testing.assert_array_equal(first["loss"].to_numpy(), losses)
    assert set(first["schedule"]) == {"constant"}
    found = lr_cells(steps)
    assert [cell.label for cell in found] == [
        "from_scratch · constant",
        *(f"{s} · {c}" for s in ("linear_probe", "lp_ft") for c in ("constant", "cosine")),
    ]
    probe = cells[2].range
    assert probe is not None
    assert found[1].losses.tolist() == list(probe.losses)
    assert found[1].smoothed.tolist() == list(probe.smoothed)
    assert (found[1].steepest, found[1].valley) == (probe.steepest, probe.valley)
    assert found[1].suite_lrs == (0.01, 1.0)


def test_an_empty_table_has_no_cells(tmp_path: Path) -> None:
    write_lr_ranges(tmp_path, [])
    assert lr_cells(read_lr_ranges(tmp_path)) == []


@pytest.mark.parametrize(
    ("suite_lrs", "valley", "distance", "far"),
    [
        ((0.1, 0.1), 0.1, 1.0, False),
        ((0.1, 0.1), 0.01, 10.0, False),
        ((0.2, 0.2), 0.01, 20.0, True),
        ((0.0002, 0.0002), 0.01, 0.02, True),
        ((0.001, 1.0), 0.01, 1.0, False),
        ((0.5, 1.0), 0.01, 50.0, True),
        ((0.5, 1.0), None, 1.0, False),
    ],
)
def test_distance_from_the_valley(
    suite_lrs: tuple[float, float], valley: float | None, distance: float, far: bool
) -> None:
    cell = LrCell(
        label="a",
        lead="a",
        lrs=np.ones(1),
        losses=np.ones(1),
        smoothed=np.ones(1),
        suite_lrs=suite_lrs,
        steepest=None,
        valley=valley,
    )
    assert cell.distance == pytest.approx(distance)
    assert cell.is_far == far
