"""Run folders with made-up, plausible results, for tests of what stands behind the store."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from bench.results.folder import Run, RunStore, prediction_columns, read_run, write_json

START = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
CLASSES = ("ants", "bees")

# strategy → (accuracy at the start, at the end, epochs to get there, seconds an epoch)
STRATEGIES = {
    "from_scratch": (0.50, 0.72, 6.0, 2.6),
    "full_finetune": (0.86, 0.955, 1.2, 2.6),
    "freeze_backbone": (0.90, 0.945, 0.8, 0.9),
    "gradual_unfreeze(every=2)": (0.88, 0.960, 2.0, 1.7),
}

BRIER = {"name": "brier", "label": "Brier score", "higher_is_better": False, "percent": False}

Change = Callable[[dict[str, Any], dict[str, Any]], None]

_MADE = tempfile.TemporaryDirectory(prefix="made_up_runs")


def made_up_run(
    folder: Path,
    *,
    strategies: Sequence[str] = tuple(STRATEGIES),
    schedules: Sequence[str] = ("cosine", "step(step_size=7)"),
    augmentations: Sequence[str] = ("flip",),
    seeds: int = 3,
    epochs: int = 12,
    classes: Sequence[str] = CLASSES,
    data: dict[str, Any] | None = None,
    environment: dict[str, Any] | None = None,
    change: Change | None = None,
) -> Run:
    """Write a run of the full grid to `folder` and read it back.

    `change` may alter each trial's row and curve columns in place before they are written. A
    strategy that starts with `pretrained_head` trains nothing. What was written before is copied.
    """
    grid = (strategies, schedules, augmentations, seeds, epochs, classes)
    written = [folder.name, *grid, data, environment]
    name = hashlib.sha256(json.dumps(written).encode()).hexdigest()[:16]
    made = Path(_MADE.name, name, folder.name)
    if change is not None or folder.exists():
        _write_run(folder, *grid, data, environment, change)
    else:
        if not made.exists():
            _write_run(made, *grid, data, environment)
        shutil.copytree(made, folder)
    return read_run(folder)


def _write_run(
    folder: Path,
    strategies: Sequence[str],
    schedules: Sequence[str],
    augmentations: Sequence[str],
    seeds: int,
    epochs: int,
    classes: Sequence[str],
    data: dict[str, Any] | None,
    environment: dict[str, Any] | None,
    change: Change | None = None,
) -> None:
    store = RunStore(folder)
    ids = []
    cells = [(s, c, a) for s in strategies for c in schedules for a in augmentations]
    for strategy, schedule, augmentation in cells:
        for seed in range(seeds):
            row, curves = _trial(strategy, schedule, augmentation, seed, epochs)
            row["suite"] = folder.name
            if change is not None:
                change(row, curves)
            ids.append(row["trial"])
            done = row["status"] == "complete"
            predictions = _predictions(row, classes) if done else ()
            store.write_part(row, curves if done else (), predictions)
    store.consolidate(ids)
    write_json(folder / "environment.json", environment or _environment())
    write_json(folder / "data.json", data or _data(classes))
    (folder / "suite.yaml").write_text(f"name: {json.dumps(folder.name)}\ndataset: hymenoptera\n")


def mirror(row: dict[str, Any], curves: dict[str, Any]) -> None:
    """A change: the Brier score is what accuracy leaves to 1, so all that is better stays so."""
    for part in ("val", "test", "last_val", "last_test"):
        accuracy = row[f"{part}_accuracy"]
        row[f"{part}_brier"] = None if accuracy is None else 1 - accuracy
    both = zip(curves["accuracy"], curves["split"], strict=True)
    curves["brier"] = [1 - accuracy if split == "val" else None for accuracy, split in both]


def mirrored_run(folder: Path, **options: Any) -> Run:
    """The same run by a metric of which less is better, and which is no fraction."""
    run = made_up_run(folder, **options, change=mirror)
    accuracy = {"name": "accuracy", "label": "accuracy", "higher_is_better": True, "percent": True}
    write_json(folder / "data.json", {**run.data, "metrics": [BRIER, accuracy]})
    return read_run(folder)


def _trial(
    strategy: str, schedule: str, augmentation: str, seed: int, epochs: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    first, last, pace, seconds = STRATEGIES.get(strategy, _shape(strategy))
    cell = f"{strategy}/{schedule}/{augmentation}"
    rng = np.random.default_rng(list(f"{cell}/{seed}".encode()))
    last += 0.01 * rng.normal() + (0.004 if schedule.startswith("cosine") else 0.0)
    epochs = 0 if strategy.startswith("pretrained_head") else epochs
    steps = np.arange(1, epochs + 1)
    rise = 1 - np.exp(-steps / pace)
    val = np.clip(first + (last - first) * rise + 0.008 * rng.normal(size=epochs), 0, 1)
    train = np.clip(val + 0.03 * steps / max(epochs, 1) + 0.01 * rng.normal(size=epochs), 0, 1)
    best = int(val.argmax()) + 1 if epochs else 0
    chosen = float(val[best - 1]) if epochs else last
    row = {
        "trial": _hash(f"{cell}/{seed}"),
        "config": _hash(cell),
        "dataset": "hymenoptera",
        "backbone": "resnet18",
        "weights": "imagenet",
        "head": "linear",
        "strategy": strategy,
        "schedule": schedule,
        "augmentation": augmentation,
        "seed": seed,
        "epochs": epochs,
        "batch_size": 16,
        "optimizer": "sgd",
        "lr": 0.01 if "freeze" in strategy else 0.001,
        "settings": json.dumps({"momentum": 0.9, "grad_clip_norm": None, "nesterov": False}),
        "status": "complete",
        "error": None,
        "best_epoch": best,
        "val_loss": _loss(chosen),
        "val_accuracy": chosen,
        "test_loss": _loss(chosen - 0.005),
        "test_accuracy": round((chosen - 0.01 * rng.random()) * 300) / 300,
        "last_val_accuracy": float(val[-1]) if epochs else chosen,
        "last_test_accuracy": round(float(val[-1] if epochs else chosen) * 300) / 300 - 0.01,
        "trainable_params": 1026 if "freeze" in strategy else 11_177_538,
        "total_params": 11_177_538,
        "train_seconds": seconds * epochs * (1 + 0.05 * rng.random()),
        "reused_epochs": 0,
        "peak_memory_mib": 812.5,
        "device": "cpu",
        "precision": "fp32",
        "started": START + timedelta(minutes=seed),
        "finished": START + timedelta(minutes=seed + 1),
    }
    curves = {
        "epoch": np.tile(steps, 2),
        "split": ["train"] * epochs + ["val"] * epochs,
        "loss": [_loss(a) for a in (*train, *val)],
        "accuracy": np.concatenate([train, val]),
        "lr": np.tile(row["lr"] * 0.5 * (1 + np.cos(np.pi * (steps - 1) / max(epochs, 1))), 2),
        "seconds": np.full(2 * epochs, seconds),
    }
    return row, curves


def _shape(strategy: str) -> tuple[float, float, float, float]:
    rng = np.random.default_rng(list(strategy.encode()))
    return rng.uniform(0.5, 0.8), rng.uniform(0.8, 0.97), rng.uniform(1, 5), rng.uniform(0.8, 3)


def _loss(accuracy: float) -> float:
    return float(-np.log(np.clip(accuracy, 0.02, 0.98)))


TEST_IMAGES = 300


def _predictions(row: dict[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """Predictions that have the row's test accuracy; some images are harder for everyone."""
    rng = np.random.default_rng(list(row["trial"].encode()))
    labels = np.arange(TEST_IMAGES) % len(classes)
    difficulty = np.random.default_rng(0).normal(size=TEST_IMAGES)
    accuracy = row["test_accuracy"]
    known = accuracy is not None and np.isfinite(accuracy)
    wrong = round((1 - (accuracy if known else 0.5)) * TEST_IMAGES)
    hardest = np.argsort(difficulty + rng.normal(size=TEST_IMAGES))[::-1][:wrong]
    predicted = labels.copy()
    predicted[hardest] = (labels[hardest] + 1) % len(classes)
    probabilities = rng.dirichlet(np.ones(len(classes)), size=TEST_IMAGES)
    largest = probabilities.argmax(axis=1)
    rows = np.arange(TEST_IMAGES)
    swapped = probabilities[rows, predicted].copy()
    probabilities[rows, predicted] = probabilities[rows, largest]
    probabilities[rows, largest] = np.where(
        largest == predicted, probabilities[rows, largest], swapped
    )
    if "test_brier" in row:  # mirrored: a right sample scores 0, a wrong one 1
        probabilities = np.zeros_like(probabilities)
        probabilities[rows, predicted] = np.where(predicted == labels, 1.0, math.sqrt(0.5))
        probabilities[rows, labels] = np.where(predicted == labels, 1.0, 1 - math.sqrt(0.5))
    samples = [f"test/{index:04}.jpg" for index in range(TEST_IMAGES)]
    return prediction_columns(
        samples=samples,
        labels=labels,
        probabilities=probabilities.astype("float32"),
        classes=classes,
    )


def _data(classes: Sequence[str]) -> dict[str, Any]:
    counts = {split: dict.fromkeys(classes, n) for split, n in (("train", 98), ("test", 150))}
    counts["val"] = dict.fromkeys(classes, 24)
    issue = {
        "kind": "leakage-near",
        "message": "2 test images look like training images: test/0007.jpg, test/0011.jpg",
        "count": 2,
        "samples": ["test/0007.jpg", "test/0011.jpg"],
    }
    return {
        "dataset": "hymenoptera",
        "classes": list(classes),
        "counts": counts,
        "issues": [issue],
    }


def _environment() -> dict[str, Any]:
    return {
        "command": "bench run suites/made_up.yaml --device cpu",
        "python": "3.11.7",
        "platform": "Linux x86_64",
        "cpu": "made-up processor, 2 cores",
        "device": "cpu",
        "versions": {"bench": "0.1.0", "torch": "2.15.0", "torchvision": "0.29.0"},
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
