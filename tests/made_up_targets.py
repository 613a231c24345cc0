"""Run folders of regression and of several labels an image, with made-up, plausible results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.methods.metrics import measure
from bench.results.folder import (
    Run,
    RunStore,
    multi_label_columns,
    read_run,
    regression_columns,
    write_json,
)
from tests.made_up_run import START

Numbers = npt.NDArray[np.float64]

STRATEGIES = {"from_scratch": 1.2, "linear_probe": 0.5, "full_finetune": 0.35}
"""Strategy → how far off it is, in standard deviations."""

METRICS: Mapping[str, Sequence[tuple[str, str, bool, bool]]] = {
    "regression": (
        ("r2", "R²", True, False),
        ("mae", "mean absolute error", False, False),
        ("rmse", "root mean squared error", False, False),
        ("spearman", "Spearman's ρ", True, False),
    ),
    "multi_label": (
        ("mean_average_precision", "mean average precision", True, True),
        ("multi_label_macro_f1", "macro F1 of labels", True, True),
        ("multi_label_micro_f1", "micro F1 of labels", True, True),
        ("multi_label_log_loss", "log loss of labels", False, False),
    ),
}
"""Task → name, label, whether more is better, whether it is a fraction."""

NAMES = {"regression": ("angle", "width"), "multi_label": ("round", "red", "striped")}
THRESHOLDS = (0.5, 0.4, 0.62)
SCALES = (25.0, 0.003)
SIZES = {"test": 120, "val": 40}
EPOCHS = 3


def target_run(
    folder: Path,
    task: str,
    *,
    strategies: Mapping[str, float] = STRATEGIES,
    names: Sequence[str] | None = None,
    metric: str | None = None,
    seeds: int = 3,
    folds: int | None = None,
    sizes: Mapping[str, int] = SIZES,
    suite: str = "",
) -> Run:
    """Write a run of these strategies to `folder` and read it back; `metric` chooses."""
    names = NAMES[task] if names is None else names
    listed = [
        {"name": name, "label": label, "higher_is_better": higher, "percent": percent}
        for name, label, higher, percent in METRICS[task]
    ]
    primary = metric or METRICS[task][0][0]
    listed.sort(key=lambda each: each["name"] != primary)
    store, ids = RunStore(folder), []
    for strategy, error in strategies.items():
        for seed in range(seeds):
            for fold in range(folds or 1):
                own = _row(task, strategy, seed, None if folds is None else fold)
                tables, figures = _predictions(
                    task, names, error, own["trial"], primary, fold, sizes
                )
                own |= figures
                store.write_part(own, _curves(figures, primary), tables)
                ids.append(own["trial"])
    store.consolidate(ids)
    write_json(folder / "environment.json", {"cpu": "made-up processor"})
    data: dict[str, Any] = {
        "task": task,
        "classes": list(names),
        "metrics": listed,
        "counts": {split: {"": size} for split, size in {"train": 200, **sizes}.items()},
    }
    if task == "multi_label":
        data["positives"] = {split: dict.fromkeys(names, 30) for split in data["counts"]}
    if folds is not None:
        data |= {"folds": folds, "tested_images": folds * sizes["test"]}
    write_json(folder / "data.json", data)
    (folder / "suite.yaml").write_text(f"name: made_up\ntask: {task}\n{suite}")
    return read_run(folder)


def _row(task: str, strategy: str, seed: int, fold: int | None) -> dict[str, Any]:
    config = hashlib.sha256(f"{task}/{strategy}".encode()).hexdigest()[:12]
    row = {
        "trial": f"{config}-{seed}{'' if fold is None else f'-{fold}'}",
        "config": config,
        "suite": "made_up",
        "dataset": "shapes",
        "backbone": "resnet18",
        "weights": "imagenet",
        "head": "linear",
        "strategy": strategy,
        "schedule": "cosine",
        "augmentation": "none",
        "seed": seed,
        "epochs": EPOCHS,
        "batch_size": 16,
        "optimizer": "sgd",
        "lr": 0.01,
        "settings": json.dumps({"momentum": 0.9}),
        "status": "complete",
        "best_epoch": 2,
        "trainable_params": 1026 if strategy == "linear_probe" else 11_177_538,
        "total_params": 11_177_538,
        "train_seconds": 2.0 if strategy == "linear_probe" else 5.0,
        "reused_epochs": 0,
        "peak_memory_mib": 812.5,
        "device": "cpu",
        "precision": "fp32",
        "started": START,
        "finished": START,
    }
    if task == "regression":
        row["standardised"] = json.dumps({"mean": [90.0, 0.02], "sd": list(SCALES)})
    else:
        row["thresholds"] = json.dumps(list(THRESHOLDS))
    return row if fold is None else {**row, "fold": fold + 1}


def _predictions(
    task: str,
    names: Sequence[str],
    error: float,
    trial: str,
    primary: str,
    fold: int,
    sizes: Mapping[str, int],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The table of a trial, and the figures of its row."""
    luck = np.random.default_rng(list(trial.encode()))
    tables: list[dict[str, Any]] = []
    figures: dict[str, Any] = {}
    for place, (split, size) in enumerate(sizes.items()):
        # All strategies and seeds see the same samples, some of which are harder.
        rng = np.random.default_rng([place, fold])
        hidden = rng.normal(size=(size, len(names)))
        hard = 0.3 * rng.normal(size=(size, len(names)))
        seen = hidden + error * (hard + luck.normal(size=(size, len(names))))
        samples = [f"{split}/{fold}/{index:04}.jpg" for index in range(size)]
        if task == "regression":
            units = np.resize(SCALES, len(names))
            truth, found = 90 + units * hidden, 90 + units * seen
            tables.append(
                regression_columns(
                    samples=samples, targets=truth, predicted=found, names=names, split=split
                )
            )
            own = measure(primary, truth, found)
        else:
            truth = (hidden > np.resize([0.0, 0.8, 0.5], len(names))).astype(float)
            found = 1 / (1 + np.exp(-2 * (seen - 0.4)))
            tables.append(
                multi_label_columns(
                    samples=samples, labels=truth, probabilities=found, names=names, split=split
                )
            )
            own = measure(primary, truth, found, list(np.resize(THRESHOLDS, len(names))))
        figures[f"{split}_loss"] = error**2
        for name, value in own.items():
            figures[f"{split}_{name}"] = value
            figures[f"last_{split}_{name}"] = value
    joined = {name: [*tables[0][name], *tables[1][name]] for name in tables[0]}
    return joined, figures


def _curves(figures: Mapping[str, Any], primary: str) -> dict[str, Any]:
    epochs = np.arange(1, EPOCHS + 1)
    last = figures[f"val_{primary}"]
    return {
        "epoch": np.tile(epochs, 2),
        "split": ["train"] * EPOCHS + ["val"] * EPOCHS,
        "loss": np.concatenate([0.8 / epochs, 1.0 / epochs]),
        primary: [None] * EPOCHS + list(last * epochs / EPOCHS),
        "lr": np.full(2 * EPOCHS, 0.01),
        "seconds": np.full(2 * EPOCHS, 1.0),
    }
