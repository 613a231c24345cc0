"""The columns of every table of a run folder: their types, and what they may hold.

They stand here and nowhere else. Types are plain: int64, float64, string and timestamp[us, UTC].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from typing import Literal, NamedTuple

from bench.suite.rules import METRIC_NAME
from bench.suite.schema import TargetTaskName

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

ROUNDED_FRACTION = Kind("float64", 0.0, 1.001)
"""Of probabilities in single precision, which may round up."""

FINITE = Kind("float64", -1e100, 1e100)
"""Of any metric; NaN where it is not known."""

ACCURACY = "accuracy"
METRICS: Mapping[str, Kind] = {
    ACCURACY: FRACTION,
    "balanced_accuracy": FRACTION,
    "macro_f1": FRACTION,
    "auroc": FRACTION,
    "log_loss": FINITE,
    "brier": Kind("float64", 0.0, 2.001),
    "ece": ROUNDED_FRACTION,
}
"""The metrics that tables always have columns for. Those of others may stand beside them."""

FRACTION_METRICS = ("mean_average_precision", "multi_label_macro_f1", "multi_label_micro_f1")
TASK_METRICS: Mapping[str, Kind] = {
    "r2": Kind("float64", -1e100, 1.0),
    "mae": Kind("float64", 0.0, 1e100),
    "rmse": Kind("float64", 0.0, 1e100),
    "spearman": Kind("float64", -1.001, 1.001),
    **dict.fromkeys(FRACTION_METRICS, ROUNDED_FRACTION),
    "multi_label_log_loss": FINITE,
}
"""Those of regression and of several labels a sample, whose tables alone have columns for them."""

_OTHERS = {name: kind for name, kind in METRICS.items() if name != ACCURACY}
_OF_METRICS = ("last_val_", "last_test_", "val_", "test_")
"""What precedes a metric's name in `trials`; in `curves` the name stands alone."""

CHOSEN = "chosen"
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
        **{f"{split}_{name}": kind for name, kind in _OTHERS.items() for split in ("val", "test")},
        "trainable_params": COUNT,
        "total_params": COUNT,
        "train_seconds": DURATION,
        "reused_epochs": COUNT,
        "peak_memory_mib": DURATION,
        CHOSEN: TEXT,  # JSON: of a head that is fitted, what validation chose, such as k
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
        **_OTHERS,
        "lr": RATE,
        "seconds": DURATION,
    },
    "predictions": {
        "trial": TEXT,
        "sample": TEXT,
        "label": TEXT,
        "predicted": TEXT,
        "split": TEXT,  # test, val
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
    "origin": TEXT,  # suite: its own values, tried first; earlier; edge; sampler
    "val_accuracy": FRACTION,  # mean over tuning seeds, each at its best epoch
    "val_accuracy_sd": FRACTION,
    "val_loss": REAL,
    "val_metric": FINITE,  # of the metric that chose the epochs
    "val_metric_sd": FINITE,
    "seconds": DURATION,
    "epochs": EPOCHS,  # of each seed
    "images": IMAGES,  # training images, over all seeds
    "error": TEXT,
    "started": MOMENT,
    "finished": MOMENT,
}

TUNING_CAME_LATER = ("val_metric", "val_metric_sd")
"""Tables of the first schema version lack them."""

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

TRANSFER_SCORE_COLUMNS: Mapping[str, Kind] = {
    "backbone": TEXT,
    "weights": TEXT,
    "preprocessing": TEXT,  # JSON of the settings that decide what the network sees
    "seed": COUNT,
    "samples": COUNT,
    "group": TEXT,  # null: the backbone has no scores at all
    "score": TEXT,
    "value": REAL,  # null: see the reason
    "reason": TEXT,
    "seconds": DURATION,
    "pass_seconds": DURATION,  # of the samples through the network, for all its scores together
}

CHILD_COLUMNS: Mapping[str, Kind] = {
    "child": TEXT,
    "name": TEXT,  # the entry of the suite's section `after`
    "of": TEXT,  # what it is made of, in words
    "config": TEXT,  # null: of several
    "seed": COUNT,  # null: it joins seeds, and has none of its own
    "status": TEXT,  # complete, skipped
    "error": TEXT,  # why it cannot be
    "members": TEXT,  # JSON: trial → how often it counts
    "base": TEXT,  # the trial that it is compared with; null: what the run recommends
    "chosen": TEXT,  # JSON: what validation chose, such as a temperature
    "passes": COUNT,  # through a network, to predict one sample
    **{f"{split}_{name}": kind for name, kind in METRICS.items() for split in ("val", "test")},
    "seconds": DURATION,  # to make it
}
"""Of `children.parquet`; a metric that chooses and is none of these has columns after them."""

THRESHOLDS = "thresholds"
LABEL_FREE = "label_free"
OPTIONAL_COLUMNS: Mapping[TableName, Mapping[str, Kind]] = {
    "trials": {
        "fold": Kind("int64", 1, 1000),  # from 1; of suites with folds only
        "standardised": TEXT,  # JSON: mean and sd of each target in training; of regression only
        THRESHOLDS: TEXT,  # JSON: of each label; of several labels a sample only
        LABEL_FREE: TEXT,  # JSON: samples and values of validators; with unlabelled data only
    },
    "predictions": {
        "group": TEXT,  # of data sets with groups only
        "test_set": TEXT,  # of test samples of data sets with several test sets only
    },
}
"""Columns that a table has where there is something to say, after those above."""


def optional_columns(table: TableName, names: Iterable[str]) -> list[str]:
    """The optional columns of the table that are among `names`, in order."""
    given = set(names)
    return [name for name in OPTIONAL_COLUMNS.get(table, {}) if name in given]


NEVER_NULL = frozenset({"trial", "config", "status", "epoch", "split", "sample"})

PROBABILITY_PREFIX = "probability_"
"""Predictions have a column of probabilities for each class or label, named by it."""

LABEL_PREFIX = "label_"
"""Of several labels a sample: a column for each that says whether it has it, 1 or 0."""

TARGET_PREFIX, PREDICTED_PREFIX = "target_", "predicted_"
"""Of regression: a column for each target with its value, and one with what was predicted."""

_NAMED_COLUMNS: Mapping[TargetTaskName, tuple[tuple[str, Kind], ...]] = {
    "classification": ((PROBABILITY_PREFIX, REAL),),
    "regression": ((TARGET_PREFIX, REAL), (PREDICTED_PREFIX, REAL)),
    "multi_label": ((LABEL_PREFIX, WHOLE), (PROBABILITY_PREFIX, REAL)),
}
"""What predictions have a column of for each class, target or label, by what the suite predicts."""

_OF_CLASSES = ("label", "predicted")
"""Columns of predictions that other tasks lack."""


def target_task_of(columns: Iterable[object]) -> TargetTaskName:
    """What a table of predictions is of, from its columns; an empty one is of classes."""
    names = list(map(str, columns))
    if "predicted" in names:
        return "classification"
    if any(name.startswith(TARGET_PREFIX) for name in names):
        return "regression"
    return (
        "multi_label"
        if any(name.startswith(LABEL_PREFIX) for name in names)
        else ("classification")
    )


def class_names(columns: Iterable[object]) -> list[str]:
    """The classes, or labels, of a table of predictions, in the order of their indices."""
    return _named(columns, PROBABILITY_PREFIX)


def output_names(columns: Iterable[object]) -> list[str]:
    """The classes, labels or targets of a table of predictions, from its columns, in order."""
    names = list(map(str, columns))
    regression = target_task_of(names) == "regression"
    return _named(names, TARGET_PREFIX if regression else PROBABILITY_PREFIX)


def _named(columns: Iterable[object], prefix: str) -> list[str]:
    names = map(str, columns)
    return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]


def fixed_columns(table: TableName, names: Iterable[object]) -> Mapping[str, Kind]:
    """The columns that a table with these names must have, whatever its classes are called."""
    columns = COLUMNS[table]
    if table != "predictions" or target_task_of(names) == "classification":
        return columns
    return {name: kind for name, kind in columns.items() if name not in _OF_CLASSES}


def further_columns(table: TableName, names: Iterable[str]) -> dict[str, Kind]:
    """Those of `names` that are neither in `COLUMNS` nor optional, and yet belong to the table."""
    listed = list(names)
    known = {*COLUMNS[table], *OPTIONAL_COLUMNS.get(table, {})}
    others = [name for name in listed if name not in known]
    if table != "predictions":
        return {name: REAL for name in others if metric_of(table, name) is not None}
    prefixes = _NAMED_COLUMNS[target_task_of(listed)]
    return {name: kind for name in others for prefix, kind in prefixes if name.startswith(prefix)}


def metric_of(table: TableName, column: str) -> str | None:
    """The name of the metric that a column of `table` holds; None for other columns."""
    name = column
    if table == "trials":
        prefix = next((each for each in _OF_METRICS if column.startswith(each)), None)
        name = column.removeprefix(prefix) if prefix else ""
    elif table == "predictions":
        name = ""
    return name if METRIC_NAME.fullmatch(name) else None


FIRST_SPLITS = 3
"""Tables of earlier schema versions have predictions on the test split alone, which go unnamed."""


def came_later(table: TableName, column: str, *, first: bool) -> bool:
    """Whether tables of earlier schema versions lack the column; `first`: of the first one."""
    # Heads that are fitted came without a version of their own.
    return column == CHOSEN or (first and metric_of(table, column) not in (None, ACCURACY))
