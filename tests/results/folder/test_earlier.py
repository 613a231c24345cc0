"""What a run folder had before another suite took it over stays readable."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from bench.results.folder import Run, read_run
from bench.results.folder.children import write_children
from bench.results.folder.earlier import complete_others, earlier_folder, keep_earlier
from tests.made_up_run import made_up_run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    found = made_up_run(tmp_path / "mine", strategies=["full_finetune"], schedules=["cosine"])
    (found.folder / "report.md").write_text("before")
    (found.folder / "plots").mkdir()
    (found.folder / "plots" / "a.png").write_bytes(b"a")
    (found.folder / "checkpoints").mkdir()
    return found


def test_trials_that_are_not_among_the_suites_are_found(run: Run) -> None:
    ids = list(run.trials["trial"])
    assert complete_others(run.folder, ids) == []
    assert [row["trial"] for row in complete_others(run.folder, ids[1:])] == ids[:1]
    assert complete_others(run.folder / "none", ids) == []
    (run.folder / "trials.parquet").write_bytes(b"damaged")
    assert complete_others(run.folder, []) == []


def test_what_is_kept_is_a_run_folder_with_its_report(run: Run) -> None:
    place = keep_earlier(run.folder)
    assert place == earlier_folder(run.folder)
    assert place.parent == run.folder / "earlier"
    kept = read_run(place)
    for name in ("trials", "curves", "predictions"):
        pd.testing.assert_frame_equal(getattr(kept, name), getattr(run, name))
    assert (kept.suite, kept.data, kept.num_trials) == (run.suite, run.data, run.num_trials)
    assert (place / "report.md").read_text() == "before"
    assert (place / "plots" / "a.png").read_bytes() == b"a"
    assert not (place / "checkpoints").exists()


def test_the_same_trials_have_one_place_however_often_they_are_kept(run: Run) -> None:
    first = keep_earlier(run.folder)
    (run.folder / "report.md").write_text("later")
    (first.parent / f".{first.name}.partial").mkdir()  # of a process that was killed
    assert keep_earlier(run.folder) == first
    assert (first / "report.md").read_text() == "later"
    assert [path.name for path in first.parent.iterdir()] == [first.name]
    assert json.loads((first / "data.json").read_text()) == run.data


def test_what_is_told_of_its_data_goes_with_the_suite_that_it_is_of(run: Run) -> None:
    (run.folder / "audit").mkdir(exist_ok=True)
    (run.folder / "audit" / "audit.csv").write_text("suspects")
    (run.folder / "outliers.parquet").write_bytes(b"factors")
    (run.folder / "transfer_scores.parquet").write_bytes(b"scores")
    for _ in range(2):  # the next suite may be started twice
        place = keep_earlier(run.folder)
        assert (place / "audit" / "audit.csv").read_text() == "suspects"
        assert (place / "outliers.parquet").read_bytes() == b"factors"
        assert (place / "transfer_scores.parquet").read_bytes() == b"scores"
        assert not (run.folder / "audit").exists()
        assert not (run.folder / "outliers.parquet").exists()
        assert not (run.folder / "transfer_scores.parquet").exists()


def test_what_was_made_of_its_trials_is_kept_with_it(run: Run) -> None:
    row = {"child": "c", "name": "temperature", "of": "full_finetune", "status": "complete"}
    own = run.predictions[run.predictions["trial"] == run.trials["trial"][0]].assign(trial="c")
    write_children(run.folder, [row], own.assign(split="test"))
    (run.folder / "inputs.parquet").write_bytes(b"views")
    kept = read_run(keep_earlier(run.folder))
    assert list(kept.children["child"]) == ["c"]
    assert len(kept.child_predictions) == len(own)
    assert (kept.folder / "inputs.parquet").read_bytes() == b"views"
