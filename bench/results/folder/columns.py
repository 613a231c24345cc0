"""The columns of every table of a run folder: their types, and what they may hold.

They stand here and nowhere else. Types are plain: int64, float64, string and timestamp[us, UTC].
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import inf
from typing import Literal, NamedTuple

TableName = Literal["trials", "curves", "predictions"]
TABLES: tuple[TableName, ...] = ("trials", "curves", "predictions")


class Kind(NamedTuple):
    """The type of a column, and the range of what it may hold besides null and NaN."""

    type: Literal["string", "int64", "float64", "timestamp"]
    low: float = -inf
    high: float = inf


TEXT = Kind("string")
WHOLE = Kind("int64")
REAL = Kind("float64")
MOMENT = Kind("timestamp")
COUNT = Kind("int64", 0, 2**53)
EPOCH = Kind("int64", 1, 10**6)
EPOCHS = Kind("int64", 0, 10**6)
IMAGES = Kind("int64", 0, 10**15)
FRACTION = Kind("float64", 0.0, 1.0)
RATE = Kind("float64", 0.0, 1e300)
DURATION = Kind("float64", 0.0, 1e12)

COLUMNS: Mapping[TableName, Mapping[str, Kind]] = {
    "trials": {
        "trial": TEXT,
        "config": TEXT,
        "suite": TEXT,
        "dataset": TEXT,
        "backbone": TEXT,
        "weights": TEXT,
        "head": TEXT,
        "strategy": TEXT,
        "schedule": TEXT,
        "augmentation": TEXT,
        "seed": COUNT,
        "epochs": EPOCHS,
        "batch_size": COUNT,
        "optimizer": TEXT,
        "lr": RATE,
        "settings": TEXT,  # JSON of the trial's settings that are not columns
        "status": TEXT,
        "error": TEXT,
        "best_epoch": EPOCHS,
        "val_loss": REAL,
        "val_accuracy": FRACTION,
        "test_loss": REAL,
        "test_accuracy": FRACTION,
        "last_val_accuracy": FRACTION,
        "last_test_accuracy": FRACTION,
        "trainable_params": COUNT,
        "total_params": COUNT,
        "train_seconds": DURATION,
        "reused_epochs": COUNT,
        "peak_memory_mib": DURATION,
        "device": TEXT,
        "precision": TEXT,
        "started": MOMENT,
        "finished": MOMENT,
    },
    "curves": {
        "trial": TEXT,
        "epoch": EPOCH,
        "split": TEXT,
        "loss": REAL,
        "accuracy": FRACTION,
        "lr": RATE,
        "seconds": DURATION,
    },
    "predictions": {
        "trial": TEXT,
        "sample": TEXT,
        "label": TEXT,
        "predicted": TEXT,
    },
}

CELL_COLUMNS: Mapping[str, Kind] = {
    name: COLUMNS["trials"][name]
    for name in (
        "config",
        "dataset",
        "backbone",
        "weights",
        "head",
        "strategy",
        "schedule",
        "augmentation",
        "seed",
        "epochs",
        "batch_size",
        "optimizer",
        "settings",
        "device",
        "precision",
    )
}
"""What a cell of `lr_find` shares with the table of trials; `config` is that of its first rate."""

TUNING_COLUMNS: Mapping[str, Kind] = {
    "study": TEXT,
    "dataset": TEXT,
    "backbone": TEXT,
    "weights": TEXT,
    "strategy": TEXT,
    "schedule": TEXT,
    "augmentation": TEXT,
    "number": COUNT,
    "state": TEXT,  # complete, pruned, failed
    "origin": TEXT,  # suite: its own values, tried first; sampler
    "val_accuracy": FRACTION,  # mean over tuning seeds, each at its best epoch
    "val_accuracy_sd": FRACTION,
    "val_loss": REAL,
    "val_metric": REAL,  # of the suite's metric, as val_accuracy
    "seconds": DURATION,
    "epochs": EPOCHS,  # of each seed
    "images": IMAGES,  # training images, over all seeds
    "error": TEXT,
    "started": MOMENT,
    "finished": MOMENT,
}

LR_FIND_COLUMNS: Mapping[str, Kind] = {
    "cell": TEXT,  # the cell in words
    **CELL_COLUMNS,
    "suite_lr_low": REAL,  # the least and the largest learning rate that the suite gives it
    "suite_lr_high": REAL,
    "steepest": REAL,  # the suggestions, null where the loss does not fall
    "valley": REAL,
    "step": WHOLE,  # from 1
    "lr": RATE,
    "loss": REAL,
    "smoothed": REAL,
}

OPTIONAL_COLUMNS: Mapping[TableName, Mapping[str, Kind]] = {
    "trials": {"fold": Kind("int64", 1, 1000)},  # from 1; of suites with folds only
}
"""Columns that a table has where there is something to say, after those above, before metrics."""

METRIC_COLUMNS: Mapping[TableName, re.Pattern[str]] = {
    "trials": re.compile("(last_)?(val|test)_[a-z][a-z0-9_]{0,60}"),
    "curves": re.compile("[a-z][a-z0-9_]{0,60}"),
}
"""Columns beside all those above are metrics (float64), of any number: plugins add some.

`val_` and `test_` are at the chosen epoch, `last_` after the last.
"""

MAX_METRICS = 100


def metric_columns(table: TableName, names: Iterable[str]) -> list[str]:
    """Those of `names` that hold a metric of the table."""
    pattern = METRIC_COLUMNS.get(table)
    if pattern is None:
        return []
    own = {*COLUMNS[table], *OPTIONAL_COLUMNS.get(table, {})}
    return [name for name in names if name not in own and pattern.fullmatch(name)]


def optional_columns(table: TableName, names: Iterable[str]) -> list[str]:
    """The optional columns of the table that are among `names`, in order."""
    given = set(names)
    return [name for name in OPTIONAL_COLUMNS.get(table, {}) if name in given]


NEVER_NULL = frozenset({"trial", "config", "status", "epoch", "split", "sample"})

PROBABILITY_PREFIX = "probability_"
"""Predictions have a column of probabilities for each class, named by it."""

PROBABILITY = Kind("float64", 0.0, 1.001)
"""A softmax in single precision may round up."""
