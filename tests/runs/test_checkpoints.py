"""Whose weights a run keeps, and which states leave the cache first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bench
from bench.errors import SuiteError
from bench.results.folder import Run
from bench.runs.catalogue import catalogue
from bench.runs.checkpoints import KeptCheckpoints, checkpoint_path
from bench.suite import dump_suite, expand, load_suite
from bench.system.cache import cache_root
from bench.training.state import state_cache
from tests.tiny import SMOKE_SUITE

OVERRIDES = [
    "weights=none",
    "strategy=from_scratch",
    "lr=[0.01, 0.001]",
    "epochs=1",
    "seed=[0, 1, 2]",
]


def run(folder: Path, *overrides: str) -> Run:
    path = folder / "tiny.yaml"
    path.write_text(SMOKE_SUITE)
    options: dict[str, Any] = {"executor": "in-process", "overrides": [*OVERRIDES, *overrides]}
    return bench.run(path, out=folder / "out", device="cpu", **options)


def kept(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "checkpoints").glob("*")}


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    return cache_root()


@pytest.mark.usefixtures("no_report")
def test_the_best_trial_of_each_config_keeps_its_weights(tmp_path: Path) -> None:
    found = run(tmp_path, "checkpoints=best", "seed=0")
    assert len(kept(found.folder)) == 2
    found = run(tmp_path, "checkpoints=best")  # and one seed more
    best = found.trials.sort_values(
        ["val_accuracy", "val_loss"], ascending=[False, True], kind="stable"
    )
    assert kept(found.folder) == set(best.groupby("config")["trial"].first())
    ids = set(found.trials["trial"])
    # The setting is in no id, and what `none` finds it leaves.
    before = kept(found.folder)
    again = run(tmp_path, "checkpoints=none")
    assert set(again.trials["trial"]) == ids
    assert kept(found.folder) == before


@pytest.mark.usefixtures("no_report", "cache")
def test_no_weights_are_kept_and_finished_states_go_first(tmp_path: Path) -> None:
    found = run(tmp_path, "checkpoints=none")
    assert not (found.folder / "checkpoints").exists()
    states = list(state_cache().folder.iterdir())
    assert states
    newest = max(path.stat().st_mtime for path in states)
    assert newest < found.trials["started"].min().timestamp() - 10 * 365 * 86400
    with state_cache().adding("fresh") as path:
        path.write_bytes(b"x" * 100)
    limited = type(state_cache())(state_cache().folder, 100)
    limited.evict()
    assert [path.name for path in state_cache().folder.iterdir()] == ["fresh"]


def rows(*values: tuple[str, float | None, float | None]) -> list[dict[str, Any]]:
    return [
        {
            "trial": trial,
            "config": "c",
            "status": "complete",
            "val_log_loss": value,
            "val_loss": loss,
        }
        for trial, value, loss in values
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (rows(("a", 0.5, 0.5), ("b", 0.4, 0.4), ("c", 0.6, 0.6)), "b"),  # less is better
        (rows(("a", 0.5, 0.5), ("b", 0.5, 0.4)), "b"),
        (rows(("a", 0.5, 0.5), ("b", 0.5, 0.5)), "a"),
        (rows(("a", None, None), ("b", None, None)), "a"),
        (rows(("a", None, None), ("b", 0.9, 0.9)), "b"),
    ],
)
def test_the_best_is_that_of_the_metric(
    given: list[dict[str, Any]], expected: str, tmp_path: Path
) -> None:
    for row in (*given, {"trial": "another", "config": "d", "status": "failed"}):
        path = checkpoint_path(tmp_path, row["trial"])
        path.parent.mkdir(exist_ok=True)
        path.touch()
    checkpoints = KeptCheckpoints(tmp_path, "best", "log_loss")
    for row in given:
        checkpoints.note(row)
    assert kept(tmp_path) == {expected, "another"}
    checkpoints.settle([*given, {"trial": "another", "config": "d", "status": "failed"}])
    assert kept(tmp_path) == {expected, "another"}


def test_the_key_is_read_and_written_and_changes_no_id(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(SMOKE_SUITE)
    plain = load_suite(path, catalogue())
    assert plain.suite.checkpoints == "all"
    assert "checkpoints" not in dump_suite(plain.suite)
    path.write_text(SMOKE_SUITE + "checkpoints: none\n")
    none = load_suite(path, catalogue())
    assert none.suite.checkpoints == "none"
    ids = [[trial.id({}) for trial in expand(each, catalogue())] for each in (plain, none)]
    assert ids[0] == ids[1]
    path.write_text(dump_suite(none.suite))
    assert load_suite(path, catalogue()).suite.checkpoints == "none"


@pytest.mark.parametrize("value", ["last", "null", "[all]", "3", "true"])
def test_other_values_are_refused(value: str, tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(f"{SMOKE_SUITE}checkpoints: {value}\n")
    with pytest.raises(SuiteError, match=r"checkpoints must be 'all', 'best' or 'none', got"):
        load_suite(path, catalogue())
