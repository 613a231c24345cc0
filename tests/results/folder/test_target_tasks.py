"""Run folders of regression and of several labels an image: written, read, and of others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.errors import BenchError
from bench.results.folder import columns_of_task, output_names, read_run, target_task_of
from tests.made_up_targets import NAMES, THRESHOLDS, target_run

TASKS = tuple(NAMES)


@pytest.fixture(scope="module", params=TASKS)
def original(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "r"
    target_run(folder, request.param, seeds=1)
    shutil.rmtree(folder / "parts")
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "run"))


@pytest.mark.parametrize("task", ["classification", *TASKS])
def test_what_is_of_no_test_set_names_none(task: Any) -> None:
    truth = np.array([0, 1]) if task == "classification" else np.eye(2)
    columns = columns_of_task(
        task,
        samples=["x", "y"],
        truth=truth,
        answers=np.eye(2),
        names=["a", "b"],
        split="val",
        groups=["g", "h"],
        test_sets=["", "far"],
    )
    assert (columns["group"], columns["test_set"]) == (["g", "h"], [None, "far"])


def test_columns_are_those_of_the_task(folder: Path) -> None:
    run = read_run(folder)
    names = NAMES[run.target_task]
    wanted = (
        {f"{side}_{name}": "double" for side in ("target", "predicted") for name in names}
        if run.target_task == "regression"
        else {
            f"{side}_{name}": kind
            for side, kind in (("label", "int64"), ("probability", "double"))
            for name in names
        }
    )
    schema = pq.read_schema(folder / "predictions.parquet")
    assert {field.name: str(field.type) for field in schema} == {
        "trial": "string",
        "sample": "string",
        "split": "string",
        **wanted,
    }
    assert output_names(run.predictions) == list(names)
    assert target_task_of(schema.names) == run.target_task
    assert run.metric.task == run.target_task
    assert not run.metric.of_classes


def test_labels_are_given_by_each_trials_thresholds(tmp_path: Path) -> None:
    run = target_run(tmp_path / "r", "multi_label", seeds=1)
    for name, threshold in zip(NAMES["multi_label"], THRESHOLDS, strict=True):
        given = run.predictions[f"decided_{name}"].to_numpy()
        assert (
            given.tolist()
            == (run.predictions[f"probability_{name}"].to_numpy() >= threshold).tolist()
        )
        assert f"decided_{name}" in run.val_predictions
    rewrite(run.folder / "trials.parquet", "thresholds", None)
    halves = read_run(run.folder).predictions
    assert (halves["decided_red"] == (halves["probability_red"] >= 0.5)).all()


def rewrite(path: Path, column: str, value: Any, *, name: str | None = None) -> None:
    """Put `value` into every row of a column, or leave the column out, or call it `name`."""
    table = pq.read_table(path)
    place = table.schema.get_field_index(column)
    if name is not None:
        names = [name if each == column else each for each in table.column_names]
        table = table.rename_columns(names)
    elif value is Ellipsis:
        table = table.drop_columns(column)
    else:
        kind = table.schema.field(place).type if value is None else None
        table = table.set_column(place, column, pa.array([value] * len(table), kind))
    pq.write_table(table, path)


@pytest.mark.parametrize(
    ("task", "table", "column", "value", "message"),
    [
        ("regression", "predictions", "target_angle", np.nan, "'target_angle' must be a number"),
        ("regression", "predictions", "target_angle", np.inf, "'target_angle' must be a number"),
        ("regression", "predictions", "target_angle", "x", "target_angle must be double"),
        ("regression", "predictions", "predicted_angle", np.inf, "must be finite or not known"),
        ("regression", "predictions", "predicted_angle", ..., "columns predicted_… must be of ang"),
        ("regression", "predictions", "target_angle", ..., "columns predicted_… must be of width"),
        ("regression", "trials", "test_r2", 1.5, r"test_r2 must lie in \[-1e\+100, 1\]"),
        ("regression", "trials", "val_mae", -0.5, "val_mae must lie in"),
        ("regression", "trials", "test_spearman", -3.0, "test_spearman must lie in"),
        ("regression", "trials", "standardised", "{", "standardised must be JSON with the mean"),
        ("regression", "trials", "standardised", '{"mean": [1.0], "sd": [0.0]}', "standardised mu"),
        ("multi_label", "predictions", "label_red", 2, "'label_red' must be 0 or 1"),
        ("multi_label", "predictions", "label_red", 1.0, "label_red must be int64, got double"),
        ("multi_label", "predictions", "probability_red", 1.5, r"must lie in \[0, 1\]"),
        ("multi_label", "predictions", "label_red", ..., "columns label_… must be of round, red"),
        ("multi_label", "trials", "thresholds", "[2.0]", "thresholds must be a JSON list"),
        ("multi_label", "trials", "thresholds", '["a"]', "thresholds must be a JSON list"),
    ],
)
def test_what_others_wrote_is_refused(
    original: Path, tmp_path: Path, task: str, table: str, column: str, value: Any, message: str
) -> None:
    if original.parent.name.rstrip("0123456789") != task:
        pytest.skip("of the other task")
    folder = Path(shutil.copytree(original, tmp_path / "run"))
    rewrite(folder / f"{table}.parquet", column, value)
    with pytest.raises(BenchError, match=message):
        read_run(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": None}, "it says task: classification, and predictions.parquet is of"),
        ({"task": "ranking"}, "task: Input should be 'regression' or 'multi_label'"),
        ({"classes": ["other"]}, "its classes must be those of predictions.parquet"),
        ({"positives": {"test": {"a": -1}}}, "positives.test.a"),
    ],
)
def test_data_json_must_be_of_the_same_task(
    folder: Path, change: dict[str, Any], message: str
) -> None:
    path = folder / "data.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BenchError, match=message):
        read_run(folder)


def test_thresholds_of_another_number_of_labels_do_not_count(tmp_path: Path) -> None:
    run = target_run(tmp_path / "r", "multi_label", seeds=1)
    rewrite(run.folder / "trials.parquet", "thresholds", "[0.9]")
    found = read_run(run.folder).predictions
    assert (found["decided_round"] == (found["probability_round"] >= 0.5)).all()
