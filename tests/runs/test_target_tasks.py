"""Regression and several labels a sample from a suite to the tables on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import bench
from bench.errors import BenchError, SuiteError
from bench.methods.metrics import measure, measured
from bench.methods.strategies import STRATEGIES
from bench.models.checkpoints import read_checkpoint
from bench.results.folder import read_tuning
from bench.runs.resolve import resolve_run
from tests.targets import vectors_loaded

sklearn = pytest.importorskip("sklearn.metrics")
TASKS = {"regression": "vector_values", "multi_label": "vector_labels"}
SOME = ["multi_label", pytest.param("regression", marks=pytest.mark.campaign)]
METRIC = {"regression": "r2", "multi_label": "mean_average_precision"}


@pytest.fixture(scope="module", autouse=True)
def plugin() -> Iterator[None]:
    with vectors_loaded():
        yield


@contextmanager
def without_report() -> Iterator[None]:
    """Reports take most of the time of so small a run, and have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("write_report", "_write_thumbnails"):
            patch.setattr(f"bench.runs.run.{name}", lambda *_: None)
        yield


@pytest.fixture
def quick() -> Iterator[None]:
    with without_report():
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the perceptron in a file: what strategies of transfer start from."""
    folder = tmp_path_factory.mktemp("weights")
    start = {
        "name": "start",
        "dataset": {"name": "vector_values", "family_seed": 9},
        "task": "regression",
        "backbone": "tiny_mlp",
        "weights": "none",
        "strategy": "from_scratch",
        "augmentation": "none",
        "epochs": 2,
        "precision": "fp32",
        "seed": 0,
    }
    (folder / "start.yaml").write_text(yaml.safe_dump(start))
    with without_report():
        run = bench.run(folder / "start.yaml", out=folder / "out", device="cpu")
    (checkpoint,) = (run.folder / "checkpoints").glob("*.safetensors")
    path = folder / "start.safetensors"
    path.write_bytes(checkpoint.read_bytes())
    return path


def suite_of(folder: Path, task: str, /, **changes: Any) -> Path:
    suite = {
        "name": task,
        "task": task,
        "dataset": {"name": TASKS[task], "outputs": 2, "train": 30, "val": 20, "test": 24},
        "backbone": "tiny_mlp",
        "weights": "none",
        "strategy": "from_scratch",
        "augmentation": "none",
        "epochs": 2,
        "batch_size": 8,
        "lr": 0.05,
        "precision": "fp32",
        "seed": [0, 1],
        **changes,
    }
    path = folder / f"{task}.yaml"
    path.write_text(yaml.safe_dump(suite))
    return path


def _run(suite: Path, folder: Path, **options: Any) -> bench.Run:
    return bench.run(suite, out=folder, device="cpu", **options)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> dict[str, bench.Run]:
    """One run of each task; reports are those of other tests."""
    folder = tmp_path_factory.mktemp("runs")
    strategies = ["from_scratch", "linear_probe", "lp_ft"]
    changes = {"weights": {"file": str(weights)}, "strategy": strategies}
    with without_report():
        return {task: _run(suite_of(folder, task, **changes), folder) for task in TASKS}


def _json(run: bench.Run, name: str) -> Any:
    return json.loads((run.folder / name).read_text())


def _parquet(run: bench.Run, name: str) -> pd.DataFrame:
    return pd.read_parquet(run.folder / f"{name}.parquet")


@pytest.mark.parametrize("task", TASKS)
def test_tables_have_what_the_task_measures(runs: dict[str, bench.Run], task: str) -> None:
    run, metric = runs[task], METRIC[task]
    trials, curves = _parquet(run, "trials"), _parquet(run, "curves")
    assert (trials["status"] == "complete").all(), list(trials["error"])
    names = measured(metric)
    for name in names:
        assert trials[[f"val_{name}", f"test_{name}"]].notna().all().all()
        assert curves.loc[curves["split"] == "val", name].notna().all()
    assert trials[[f"last_val_{metric}", f"last_test_{metric}"]].notna().all().all()
    assert trials[["val_accuracy", "test_accuracy", "val_auroc"]].isna().all().all()
    data = _json(run, "data.json")
    assert data["task"] == task
    assert [each["name"] for each in data["metrics"]] == list(names)
    assert len(data["classes"]) == 2
    assert sum(data["counts"]["test"].values()) == 24
    best = curves[curves["split"] == "val"].set_index(["trial", "epoch"])[metric]
    for row in trials.to_dict("records"):
        assert best[row["trial"]].max() == best[row["trial"], row["best_epoch"]]
        assert row[f"val_{metric}"] == best[row["trial"], row["best_epoch"]]


def test_figures_of_numbers_follow_from_the_predictions(runs: dict[str, bench.Run]) -> None:
    run = runs["regression"]
    trials = _parquet(run, "trials").set_index("trial")
    predictions = _parquet(run, "predictions")
    names = _json(run, "data.json")["classes"]
    assert not {"label", "predicted"} & set(predictions)
    for trial, own in predictions[predictions["split"] == "test"].groupby("trial"):
        truth = own[[f"target_{name}" for name in names]].to_numpy()
        found = own[[f"predicted_{name}" for name in names]].to_numpy()
        assert trials.loc[trial, "test_r2"] == pytest.approx(sklearn.r2_score(truth, found))
        standardised = json.loads(trials.loc[trial, "standardised"])
        errors = (found - truth) / standardised["sd"]
        assert trials.loc[trial, "test_loss"] == pytest.approx(np.square(errors).mean(), rel=1e-4)
        assert truth.mean() > 50


def test_figures_of_labels_follow_from_predictions_and_thresholds(
    runs: dict[str, bench.Run],
) -> None:
    run = runs["multi_label"]
    trials = _parquet(run, "trials").set_index("trial")
    predictions = _parquet(run, "predictions")
    data = _json(run, "data.json")
    names = data["classes"]
    tested = predictions[predictions["split"] == "test"]
    for trial, own in tested.groupby("trial"):
        truth = own[[f"label_{name}" for name in names]].to_numpy()
        found = own[[f"probability_{name}" for name in names]].to_numpy()
        thresholds = json.loads(trials.loc[trial, "thresholds"])
        for name, value in measure(METRIC["multi_label"], truth, found, thresholds).items():
            assert trials.loc[trial, f"test_{name}"] == pytest.approx(value, rel=1e-5)
        having = {name: int(count) for name, count in zip(names, truth.sum(axis=0), strict=True)}
        assert data["positives"]["test"] == having


@pytest.mark.parametrize("task", TASKS)
def test_checkpoints_and_the_suite_say_the_task(runs: dict[str, bench.Run], task: str) -> None:
    run = runs[task]
    trials = _parquet(run, "trials").set_index("trial")
    for path in (run.folder / "checkpoints").glob("[!s]*.safetensors"):
        spec = read_checkpoint(path).spec
        assert spec.task == task
        row = trials.loc[path.stem]
        if task == "regression":
            assert spec.standardised is not None
            assert list(spec.standardised.sd) == json.loads(row["standardised"])["sd"]
        else:
            assert list(spec.thresholds or ()) == json.loads(row["thresholds"])
    written = yaml.safe_load((run.folder / "suite.yaml").read_text())
    assert (written["task"], written["metric"]) == (task, METRIC[task])


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("task", SOME)
def test_a_run_that_was_interrupted_and_one_in_processes_have_the_same_bits(
    runs: dict[str, bench.Run], task: str, weights: Path, tmp_path: Path
) -> None:
    strategies = ["from_scratch", "linear_probe", "lp_ft"]
    suite = suite_of(tmp_path, task, weights={"file": str(weights)}, strategy=strategies)
    _run(suite, tmp_path, only=["strategy=linear_probe"], reuse=False)
    again = _run(suite, tmp_path)
    for name in ("trials", "predictions", "curves"):
        whole, rest = (_parquet(run, name) for run in (runs[task], again))
        same = [c for c in whole if "seconds" not in c and c not in ("started", "finished",
                "reused_epochs", "peak_memory_mib")]  # fmt: skip
        pd.testing.assert_frame_equal(whole[same], rest[same])


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("task", SOME)
def test_folds_and_unassigned_splits(task: str, tmp_path: Path) -> None:
    run = _run(suite_of(tmp_path, task, folds=3, seed=0), tmp_path)
    predictions = _parquet(run, "predictions")
    tested = predictions[predictions["split"] == "test"]
    assert tested["sample"].is_unique
    assert len(tested) == 30 + 20 + 24


@pytest.mark.campaign
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("task", TASKS)
def test_tuning_follows_the_metric_of_the_task(task: str, tmp_path: Path) -> None:
    tune = {"space": {"lr": [0.01, 0.1]}, "trials": 2, "seeds": [7]}
    suite = suite_of(tmp_path, task, tune=tune, seed=[0])
    _run(suite, tmp_path)
    bench.tune(suite, out=tmp_path, device="cpu")
    tuning = read_tuning(tmp_path / f"{task}_tuned")
    assert tuning is not None
    assert tuning.description["objectives"][0]["name"] == "val_metric"
    rows = tuning.trials
    assert rows["val_metric"].notna().all()
    assert rows["val_accuracy"].isna().all()


@pytest.mark.parametrize("task", SOME)
def test_a_plan_and_a_range_of_rates(task: str, tmp_path: Path) -> None:
    suite = suite_of(tmp_path, task)
    plan = bench.plan(suite, out=tmp_path, device="cpu", reuse=False)
    assert plan.time.seconds > 0
    found = bench.lr_find(suite, out=tmp_path, device="cpu", steps=20)
    assert found


def test_ids_of_classification_do_not_know_of_tasks() -> None:
    suite = {
        "name": "x",
        "dataset": "fractals",
        "backbone": "resnet18",
        "weights": "none",
        "strategy": "from_scratch",
        "precision": "fp32",
        "seed": 0,
    }
    (plain,) = resolve_run(suite, device="cpu").trials
    (told,) = resolve_run({**suite, "task": "classification"}, device="cpu").trials
    assert plain.id == told.id
    assert "task" not in plain.trial.identity()


# Refused --------------------------------------------------------------------------------------

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("regression", {"metric": "accuracy"}, "metric 'accuracy' is one of classification.*r2"),
    ("multi_label", {"metric": "r2"}, "mean_average_precision"),
    ("classification", {"metric": "r2"}, "suite's task is classification"),
    ("regression", {"shots": 5}, "shots keeps so many images of each class"),
    ("multi_label", {"shots": [5, None]}, "several labels at once"),
    ("regression", {"sampler": "balanced"}, "there are no classes; use shuffle"),
    ("multi_label", {"sampler": "balanced"}, "class_weights: balanced"),
    ("regression", {"class_weights": "balanced"}, "class_weights weighs classes"),
    ("regression", {"label_smoothing": 0.1}, "label_smoothing moves the target"),
    ("regression", {"after": "temperature"}, "nothing is a probability"),
    ("multi_label", {"after": ["temperature"]}, "a threshold chosen on validation"),
    (
        "regression",
        {"strategy": {"name": "from_scratch", "objective": "focal"}},
        "objective 'focal' is a loss of classification.*mse, mae, huber",
    ),
    (
        "multi_label",
        {"strategy": {"name": "from_scratch", "objective": "mse"}},
        "binary_cross_entropy",
    ),
    (
        "regression",
        {"tune": {"space": {"lr": [0.1, 0.2]}, "objective": "val_accuracy"}},
        "counts classes that are right",
    ),
    ("regression", {"strategy": ["from_scratch", {"name": "lp_ft", "task": "x"}]}, "whole suite"),
    ("regression", {"dataset": {"path": "t.csv"}}, "give the option target"),
    ("multi_label", {"dataset": {"path": "t.csv"}}, "give the option labels"),
    ("regressoin", {}, "must be 'classification', 'regression' or 'multi_label'"),
    ("regression", {"task": ["regression"]}, "task must be one value"),
]


@pytest.mark.parametrize(("task", "changes", "said"), REFUSED, ids=str)
def test_what_has_no_meaning_is_refused_with_the_reason(
    task: str, changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text("path,label\na.png,a\n")
    path = suite_of(tmp_path, "regression", **{"task": task, **changes})
    with pytest.raises(SuiteError, match=said):
        resolve_run(path, out=tmp_path, device="cpu")


@pytest.mark.parametrize("task", TASKS)
def test_the_classifier_of_the_weights_and_its_classes_are_refused(
    task: str, tmp_path: Path
) -> None:
    suite = {
        "name": "x",
        "task": task,
        "dataset": {"name": "angles" if task == "regression" else "scenes",
                    "class_map": {"angle": [1]}},
        "backbone": "resnet18",
        "strategy": "pretrained_head",
    }  # fmt: skip
    with pytest.raises(SuiteError) as caught:
        resolve_run(suite, out=tmp_path, device="cpu")
    said = str(caught.value)
    assert "keeps the classifier of the weights" in said
    assert "class_map names ImageNet classes" in said


@pytest.mark.parametrize(
    ("dataset", "task", "said"),
    [
        ("fractals", "regression", "class folders say no more"),
        ("fractals", "multi_label", "labels: COLUMN"),
        ("angles", "classification", "say task: regression"),
        ("angles", "multi_label", "say task: regression"),
        ("scenes", "classification", "say task: multi_label"),
    ],
)
def test_a_data_set_of_another_task_is_told(
    dataset: str, task: str, said: str, tmp_path: Path
) -> None:
    suite = {
        "name": "x",
        "task": task,
        "dataset": dataset,
        "backbone": "resnet18",
        "weights": "none",
        "strategy": "from_scratch",
    }
    with pytest.raises(SuiteError, match=said):
        resolve_run(suite, out=tmp_path, device="cpu")


def test_a_training_split_without_a_label_is_told_before_anything_trains(tmp_path: Path) -> None:
    dataset = {"name": "scenes", "train": 4, "val": 30, "test": 30, "labels": 3, "share": 0.1}
    suite = {
        "name": "x",
        "task": "multi_label",
        "dataset": dataset,
        "backbone": "resnet18",
        "weights": "none",
        "strategy": "from_scratch",
        "seed": 0,
    }
    with pytest.raises(BenchError, match="of the training split has the label"):
        bench.plan(suite, out=tmp_path, device="cpu")


# The table of docs/tasks.md -------------------------------------------------------------------


def test_every_strategy_is_in_the_table_of_the_documents() -> None:
    text = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text()
    for name in STRATEGIES:
        assert f"`{name}`" in text, name
