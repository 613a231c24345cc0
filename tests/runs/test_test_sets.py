"""Runs on data sets with several test sets: from folders and tables to predictions and report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import bench
from bench.errors import DataError, SuiteError
from bench.runs.resolve import resolve_run
from tests.data.pictures import photograph, write_folder

SUITE: dict[str, Any] = {
    "backbone": "shufflenet_v2_x0_5",
    "weights": "none",
    "strategy": "from_scratch",
    "augmentation": "none",
    "epochs": 1,
    "batch_size": 8,
    "image_size": 32,
    "precision": "fp32",
    "seed": 0,
}
SPLITS = {"train": "train", "test": {"near": "test_near", "far": "test_far"}}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two test sets, of which one lacks a class and has a copy of a training image."""
    root = write_folder(
        tmp_path_factory.mktemp("sets") / "photos",
        {"train/a": 6, "train/b": 6, "test_near/a": 3, "test_near/b": 3, "test_far/a": 4},
    )
    photograph(500).save(root / "train" / "a" / "original.png")
    photograph(500).save(root / "test_far" / "a" / "copy.png")
    return root


def suite_of(photos: Path, change: dict[str, Any] | None = None, **dataset: Any) -> Path:
    path = photos.parent / "sets.yaml"
    own = {**SUITE, **(change or {}), "dataset": {"path": str(photos), **dataset}}
    path.write_text(yaml.safe_dump(own))
    return path


@pytest.mark.usefixtures("no_report")
def test_predictions_say_which_test_set_a_sample_is_of(photos: Path, tmp_path: Path) -> None:
    run = bench.run(suite_of(photos, splits=SPLITS), out=tmp_path, device="cpu")
    tested = run.predictions.set_index("sample")["test_set"]
    assert tested.value_counts().to_dict() == {"near": 6, "far": 5}
    assert all(("far" if "test_far" in name else "near") == own for name, own in tested.items())
    assert run.val_predictions["test_set"].isna().all()
    assert run.trials["test_accuracy"][0] == pytest.approx(
        (run.predictions["label"] == run.predictions["predicted"]).mean()
    )
    told = {issue["kind"]: issue["message"] for issue in run.data["issues"]}
    assert told["test-set"].startswith("The test set far has no image of b")
    assert "trained or chosen by: far 1." in told["leakage-exact"]
    assert list(run.verdict["test_sets"]) == ["far", "near"]
    assert bench.compare(tmp_path / "sets", tmp_path / "sets").comparisons


def test_test_sets_are_part_of_a_trial_and_of_no_fold(photos: Path, tmp_path: Path) -> None:
    one = {"train": "train", "test": "test_near"}
    ids = [
        resolve_run(suite_of(photos, splits=splits), out=tmp_path, device="cpu").trials[0].id
        for splits in (one, {**one, "test": {"near": "test_near"}}, SPLITS)
    ]
    assert len(set(ids)) == 3
    with pytest.raises((DataError, SuiteError), match="has test sets with names"):
        resolve_run(suite_of(photos, {"folds": 2}, splits=SPLITS), out=tmp_path, device="cpu")
