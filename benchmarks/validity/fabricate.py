"""Run folders with fabricated predictions, written by the package's own writer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.results.folder import Run, RunStore, prediction_columns, read_run, write_json

CLASSES = ("ants", "bees")
START = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
SURE = 0.9
"""The probability of the predicted class."""


def fabricate_run(
    folder: Path, right: npt.ArrayLike, val: npt.ArrayLike, names: Sequence[str]
) -> Run:
    """Write a run to `folder` and read it back.

    `right` is `[strategies, seeds, samples]` with `val[strategies, seeds]`, the validation
    accuracies, or `[strategies, configs, seeds, samples]` with `val[strategies, configs, seeds]`:
    configs are learning rates then. `names` are those of the strategies.
    """
    correct, scores = np.asarray(right, dtype=bool), np.asarray(val, dtype=np.float64)
    if correct.ndim == 3:
        correct, scores = correct[:, None], scores[:, None]
    assert correct.shape[:-1] == scores.shape
    assert len(names) == len(correct)
    store = RunStore(folder)
    trials = []
    for row, got in _trials(folder.name, correct, scores, names):
        store.write_part(row, (), _predictions(got))
        trials.append(row["trial"])
    store.consolidate(trials)
    counts = {split: dict.fromkeys(CLASSES, 100) for split in ("train", "val")}
    counts["test"] = dict.fromkeys(CLASSES, correct.shape[-1] // 2)
    data = {"dataset": "hymenoptera", "classes": list(CLASSES), "counts": counts, "issues": []}
    write_json(folder / "data.json", data)
    write_json(folder / "environment.json", {"command": "fabricated", "device": "cpu"})
    (folder / "suite.yaml").write_text(f"name: {json.dumps(folder.name)}\ndataset: hymenoptera\n")
    return read_run(folder)


def _trials(
    suite: str, right: npt.NDArray[np.bool_], val: npt.NDArray[np.float64], names: Sequence[str]
) -> Iterator[tuple[dict[str, Any], npt.NDArray[np.bool_]]]:
    for strategy, config, seed in np.ndindex(*val.shape):
        cell = f"{names[strategy]}/{config}"
        accuracy, chosen = (
            float(right[strategy, config, seed].mean()),
            float(val[strategy, config, seed]),
        )
        row = {
            "trial": _hash(f"{cell}/{seed}"),
            "config": _hash(cell),
            "suite": suite,
            "dataset": "hymenoptera",
            "backbone": "resnet18",
            "weights": "imagenet",
            "head": "linear",
            "strategy": names[strategy],
            "schedule": "constant",
            "augmentation": "none",
            "seed": seed,
            "epochs": 1,
            "batch_size": 16,
            "optimizer": "sgd",
            "lr": 0.001 * (config + 1),
            "settings": "{}",
            "status": "complete",
            "error": None,
            "best_epoch": 1,
            "val_loss": 1 - chosen,
            "val_accuracy": chosen,
            "test_loss": 1 - accuracy,
            "test_accuracy": accuracy,
            "last_val_accuracy": chosen,
            "last_test_accuracy": accuracy,
            "trainable_params": 1000 * (strategy + 1),
            "total_params": 1_000_000,
            "train_seconds": 10.0 * (strategy + 1),
            "reused_epochs": 0,
            "peak_memory_mib": 100.0,
            "device": "cpu",
            "precision": "fp32",
            "started": START,
            "finished": START + timedelta(minutes=1),
        }
        yield row, right[strategy, config, seed]


def _predictions(right: npt.NDArray[np.bool_]) -> dict[str, Any]:
    labels = np.arange(len(right)) % 2
    predicted = np.where(right, labels, 1 - labels)
    probabilities = np.where(predicted[:, None] == np.arange(2), SURE, 1 - SURE)
    return prediction_columns(
        samples=[f"test/{index:05}.jpg" for index in range(len(right))],
        labels=labels,
        probabilities=probabilities,
        classes=CLASSES,
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
