"""Heads that are fitted at once, from a suite to tables, predictions and exported files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import bench
from bench.errors import SuiteError
from bench.methods.strategies import STRATEGIES
from bench.models import OUTSIDE_BACKBONES
from bench.runs.resolve import resolve_run
from tests.prediction.test_load import test_images
from tests.targets import vectors_loaded

pytest.importorskip("sklearn")

VALUES = {
    "classification": "vectors",
    "regression": "vector_values",
    "multi_label": "vector_labels",
}


@pytest.fixture(scope="module", autouse=True)
def vectors() -> Iterator[None]:
    with vectors_loaded():
        yield


@pytest.fixture(scope="module")
def weights(vectors: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A perceptron of random values, which keeps what a linear layer could use."""
    path = tmp_path_factory.mktemp("weights") / "start.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(OUTSIDE_BACKBONES.get("tiny_mlp").function(8).state_dict(), path)
    return path


def suite_of(task: str, weights: Path, **changes: Any) -> dict[str, Any]:
    return {
        "name": task.replace("_", "-"),
        "task": task,
        "dataset": {"name": VALUES[task], "length": 8},
        "backbone": "tiny_mlp",
        "weights": {"file": str(weights)},
        "strategy": ["knn", "ridge", {"name": "forest", "trees": 8}],
        "augmentation": "none",
        "precision": "fp32",
        "seed": 0,
        **changes,
    }


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize(
    "task",
    [
        pytest.param(task, marks=() if task == "multi_label" else pytest.mark.campaign)
        for task in VALUES
    ],
)
def test_a_suite_of_every_task(task: str, weights: Path, tmp_path: Path) -> None:
    run = bench.run(suite_of(task, weights), out=tmp_path, device="cpu")
    trials = run.trials.set_index("strategy")
    assert set(trials["status"]) == {"complete"}
    assert set(json.loads(trials.loc["knn", "chosen"])) == {"k"}
    assert set(json.loads(trials.loc["ridge", "chosen"])) == {"l2"}
    assert pd.isna(trials.loc["forest(trees=8)", "chosen"])
    assert (trials["epochs"] == 0).all()
    assert (trials["trainable_params"] > 0).all()
    if task == "regression":
        assert trials.loc["ridge", "test_r2"] > 0.5
    told = "\n".join(bench.why(run.folder, str(trials.loc["knn", "trial"])))
    assert "Validation chose k = " in told


@pytest.mark.campaign
@pytest.mark.usefixtures("no_report")
def test_pairs_teach_from_few_samples_what_no_probe_reads(weights: Path, tmp_path: Path) -> None:
    """Each class lies around two opposite points: features have to bring them together first."""
    suite = suite_of(
        "classification",
        weights,
        dataset={"name": "vectors", "length": 8, "train_per_class": 10, "test_per_class": 60},
        strategy=[{"name": "logistic", "c": 1.0}, {"name": "setfit", "iterations": 20}],
        seed=[0, 1, 2],
        epochs=2,
        lr=0.003,
        optimizer="adamw",
        batch_size=32,
    )
    run = bench.run(suite, out=tmp_path, device="cpu")
    trials = run.trials.set_index(["strategy", "seed"])
    assert (trials["status"] == "complete").all()
    ours, probe = (
        trials.loc[name, "test_accuracy"] for name in ("setfit(iterations=20)", "logistic(c=1)")
    )
    assert (ours > probe + 0.05).all()


@pytest.mark.usefixtures("no_report")
def test_what_is_finished_is_not_fitted_again(weights: Path, tmp_path: Path) -> None:
    suite = suite_of("classification", weights, strategy="knn")
    first = bench.run(suite, out=tmp_path, device="cpu").trials
    more = {**suite, "strategy": ["knn", "class_mean"]}
    second = bench.run(more, out=tmp_path, device="cpu").trials
    kept = second[second["strategy"] == "knn"]
    assert list(kept["finished"]) == list(first["finished"])
    assert len(second) == 2


@pytest.mark.usefixtures("no_report")
def test_what_the_strategy_gives_was_not_chosen(weights: Path, tmp_path: Path) -> None:
    suite = suite_of("classification", weights, strategy={"name": "knn", "k": 7})
    run = bench.run(suite, out=tmp_path, device="cpu")
    told = "\n".join(bench.why(run.folder, str(run.trials["trial"].item())))
    assert "It was fitted with k = 7, as the strategy says." in told
    assert "Validation chose" not in told


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"dataset": {"name": "fractals", "val_fraction": 0}, "choose": "last"},
            r"'knn' chooses k on validation, and val_fraction is 0: give it a value \(k: …\)",
        ),
        (
            {"strategy": "logistic", "task": "multi_label"},
            "'logistic' tells classes apart, and the suite's task is multi_label",
        ),
        ({"weights": "none"}, "freezes the backbone, and a random one would never learn"),
    ],
)
def test_what_has_no_meaning_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    suite: dict[str, Any] = {
        "name": "refused",
        "dataset": {"name": "fractals", "classes": 2},
        "backbone": "resnet18",
        "weights": {"name": "fractals", "classes": 3},
        "strategy": "knn",
        **changes,
    }
    if suite.get("task") == "multi_label":
        suite["dataset"] = {"name": "vector_labels"}
    with pytest.raises(SuiteError, match=message):
        resolve_run(suite, out=tmp_path, device="cpu")


def test_a_missing_package_is_told_with_its_extra(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    suite = suite_of("classification", weights, strategy=["knn", "svm"])
    with pytest.raises(SuiteError, match=r"'svm' needs the package scikit-learn.*bench\[probes\]"):
        resolve_run(suite, out=tmp_path, device="cpu")
    resolve_run({**suite, "strategy": "knn"}, out=tmp_path, device="cpu")


KNOWN = {name: STRATEGIES.get(name).traits for name in STRATEGIES}
FITS = [
    name for name, traits in KNOWN.items() if traits.fits and not traits.trains and not traits.reads
]
BOTH: dict[str, Any] = {
    "name": "both",
    "dataset": {
        "name": "fractals",
        "classes": 3,
        "train_per_class": 12,
        "val_per_class": 6,
        "test_per_class": 6,
        "image_size": 32,
    },
    "weights": {"name": "fractals", "classes": 3, "images_per_class": 8, "epochs": 1},
    "strategy": FITS,
    "epochs": 1,
    "precision": "fp32",
    "seed": 0,
}


@pytest.mark.campaign
@pytest.mark.usefixtures("no_report")
def test_heads_without_a_start_are_not_averaged(weights: Path, tmp_path: Path) -> None:
    suite = suite_of("classification", weights, strategy=["ridge", "logistic"])
    run = bench.run({**suite, "after": ["soup"]}, out=tmp_path, device="cpu")
    assert set(run.trials["status"]) == {"complete"}
    (soup,) = run.children.to_dict("records")
    assert soup["status"] != "complete"
    assert "no two trials of a seed start from the same values" in soup["error"]


def test_every_fit_is_planned_with_its_defaults(tmp_path: Path) -> None:
    planned = bench.plan({**BOTH, "backbone": "shufflenet_v2_x0_5"}, out=tmp_path, device="cpu")
    assert len(FITS) == 7
    assert str(planned).count(" · constant · none") == len(FITS)


def test_what_pairs_take_is_planned(weights: Path, tmp_path: Path) -> None:
    """3 epochs, in each of which 60 samples begin 4 pairs, and 90 are looked at afterwards."""
    pairs = {"name": "setfit", "iterations": 2}
    planned = bench.plan(
        suite_of("classification", weights, strategy=pairs, epochs=3), device="cpu"
    )
    assert planned.time is not None
    assert (planned.time.trained_samples, planned.time.evaluated_samples) == (3 * 480, 3 * 90)


@pytest.mark.campaign
@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize("backbone", ["shufflenet_v2_x0_5", "timm/test_vit"])
def test_a_loaded_model_gives_what_the_run_has_written(backbone: str, tmp_path: Path) -> None:
    strategies = [*FITS, {"name": "setfit", "iterations": 1}]
    suite = {**BOTH, "backbone": backbone, "strategy": strategies}
    run = bench.run(suite, out=tmp_path, device="cpu")
    assert set(run.trials["status"]) == {"complete"}, list(run.trials["error"])
    for trial in run.trials["trial"]:
        images, stored = test_images(run, trial)
        model = bench.load(run.folder, trial, device="cpu")
        assert np.allclose(model.probabilities(images), stored, atol=1e-6), model
