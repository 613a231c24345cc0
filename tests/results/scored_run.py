"""Run folders of which every prediction is given, for tests of what is claimed of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.results.folder import Run, RunStore, prediction_columns, read_run, write_json
from tests.made_up_run import CLASSES, START

SETTINGS = {"momentum": 0.9, "resize": "crop"}


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A config: what it is, and which test samples it has right, `[seeds, samples]`."""

    right: npt.NDArray[np.bool_]
    axes: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    seeds: Sequence[int] | None = None


def scored_run(
    folder: Path,
    configs: Sequence[Scored],
    *,
    samples: Sequence[str] | None = None,
    labels: npt.NDArray[np.int64] | None = None,
    groups: Sequence[str] | None = None,
    test_sets: Sequence[str] | None = None,
    predictions: bool = True,
    data: Mapping[str, Any] | None = None,
    suite: str = "name: made_up\n",
) -> Run:
    """Write a run of these configs to `folder`, and read it back."""
    store = RunStore(folder)
    ids = []
    for config in configs:
        for seed, right in zip(config.seeds or range(len(config.right)), config.right, strict=True):
            row = scored_row(config, seed, right)
            ids.append(row["trial"])
            columns = _predictions(right, samples, labels, groups, test_sets)
            store.write_part(row, (), columns if predictions else ())
    store.consolidate(ids)
    write_json(folder / "environment.json", {"cpu": "made-up processor"})
    write_json(folder / "data.json", {"classes": list(CLASSES), **(data or {})})
    (folder / "suite.yaml").write_text(suite)
    return read_run(folder)


def with_predictions(run: Run, right: Mapping[str, npt.NDArray[np.bool_]]) -> Run:
    """The run with these predictions by strategy, `[seeds, samples]`, and their accuracies."""
    store = RunStore(run.folder)
    for trial, strategy, seed in zip(
        run.trials["trial"], run.trials["strategy"], run.trials["seed"], strict=True
    ):
        part, own = store.read_part(trial), right[strategy][seed]
        accuracy = float(own.mean())
        row = {**part.trial_row, "test_accuracy": accuracy, "test_brier": _brier(accuracy)}
        store.write_part(row, part.curves, _predictions(own))
    store.consolidate(list(run.trials["trial"]))
    return read_run(run.folder)


def _predictions(
    right: npt.NDArray[np.bool_],
    samples: Sequence[str] | None = None,
    labels: npt.NDArray[np.int64] | None = None,
    groups: Sequence[str] | None = None,
    test_sets: Sequence[str] | None = None,
) -> dict[str, Any]:
    size = len(right)
    truth = np.arange(size) % 2 if labels is None else labels
    return prediction_columns(
        samples=[f"test/{i:04}.jpg" for i in range(size)] if samples is None else samples,
        labels=truth,
        probabilities=np.eye(2)[np.where(right, truth, 1 - truth)] * 0.8 + 0.1,
        classes=CLASSES,
        groups=groups,
        test_sets=test_sets,
    )


def scored_row(config: Scored, seed: int, right: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """The row of `trials` of a config's trial with this seed."""
    accuracy = float(right.mean())
    cell = {
        "dataset": "hymenoptera",
        "backbone": "resnet18",
        "weights": "imagenet",
        "head": "linear",
        "strategy": "full_finetune",
        "schedule": "cosine",
        "augmentation": "flip",
        "epochs": 3,
        "batch_size": 16,
        "optimizer": "sgd",
        "lr": 0.01,
        **config.axes,
        "settings": json.dumps({**SETTINGS, **config.settings}),
    }
    name = hashlib.sha256(json.dumps(cell).encode()).hexdigest()[:12]
    reached = {
        "accuracy": accuracy,
        "balanced_accuracy": accuracy,  # where classes are as often right
        "brier": _brier(accuracy),
    }
    figures = {
        f"{last}{split}_{metric}": value
        for metric, value in reached.items()
        for last in ("", "last_")
        for split in ("val", "test")
    }
    return {
        **cell,
        **figures,
        "trial": f"{name}-{seed}",
        "config": name,
        "suite": "made_up",
        "seed": seed,
        "status": "complete",
        "best_epoch": 1,
        "val_loss": 0.5,
        "test_loss": 0.5,
        "trainable_params": 1026,
        "total_params": 11_177_538,
        "train_seconds": 2.0,
        "reused_epochs": 0,
        "peak_memory_mib": 812.5,
        "device": "cpu",
        "precision": "fp32",
        "started": START,
        "finished": START,
    }


def _brier(accuracy: float) -> float:
    """Of predictions that give 0.9 to one of two classes."""
    return accuracy * 2 * 0.1**2 + (1 - accuracy) * 2 * 0.9**2
