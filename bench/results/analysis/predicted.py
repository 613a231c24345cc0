"""What trials predicted, as arrays: by trial, in the order of the table's classes or targets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.methods.metrics import Labels, Probabilities
from bench.results.analysis.influence import Answers
from bench.results.folder.columns import (
    LABEL_PREFIX,
    PREDICTED_PREFIX,
    PROBABILITY_PREFIX,
    TARGET_PREFIX,
    class_names,
    output_names,
    target_task_of,
)
from bench.results.folder.decisions import DECIDED_PREFIX

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True, eq=False)
class Predicted:
    """Samples with their classes and the probability of each class `[samples, classes]`.

    `groups` are there if some samples share one, and groups count.
    Of regression these are targets and predicted values, both `[samples, targets]`; of several
    labels a sample `labels` are 1 and 0 `[samples, labels]`.
    """

    samples: tuple[str, ...]
    labels: npt.NDArray[Any]
    probabilities: Probabilities
    groups: tuple[str, ...] | None = None

    def at(self, samples: Sequence[str]) -> Predicted:
        """Some of the samples, in their order."""
        if tuple(samples) == self.samples:
            return self
        places = {sample: row for row, sample in enumerate(self.samples)}
        rows = [places[sample] for sample in samples]
        return Predicted(
            samples=tuple(samples),
            labels=self.labels[rows],
            probabilities=self.probabilities[rows],
            groups=None if self.groups is None else tuple(self.groups[row] for row in rows),
        )

    def having(self, probabilities: Probabilities) -> Predicted:
        """The same samples with other probabilities."""
        return replace(self, probabilities=probabilities)


def predicted_by_trial(predictions: pd.DataFrame) -> dict[str, Predicted]:
    """What each trial of the table predicted."""
    classes = target_task_of(predictions) == "classification"
    found = {}
    for trial, own in predictions.groupby("trial", sort=False):
        labels: npt.NDArray[Any]
        labels, probabilities = class_arrays(own) if classes else output_arrays(own)
        samples = tuple(map(str, own["sample"]))
        found[str(trial)] = Predicted(
            samples=samples,
            labels=labels,
            probabilities=probabilities,
            groups=groups_of(own, samples),
        )
    return found


def groups_of(predictions: pd.DataFrame, samples: Iterable[str]) -> tuple[str, ...] | None:
    """The groups of these samples; None where no two of them have the same one."""
    if "group" not in predictions:
        return None
    told = predictions[["sample", "group"]].dropna().drop_duplicates("sample")
    known = dict(zip(told["sample"], told["group"], strict=True))
    # One whose group is not told is alike to none.
    found = tuple(
        f"group {known[sample]}" if sample in known else f"sample {sample}" for sample in samples
    )
    return None if len(set(found)) == len(found) else found


def class_arrays(predictions: pd.DataFrame) -> tuple[Labels, Probabilities]:
    """Labels as indices of classes, and probabilities by class."""
    names = class_names(predictions)
    index = {name: place for place, name in enumerate(names)}
    labels = np.asarray(predictions["label"].map(index).to_numpy(), dtype=np.int64)
    columns = [PROBABILITY_PREFIX + name for name in names]
    return labels, np.asarray(predictions[columns].to_numpy(), dtype=np.float64)


def output_arrays(predictions: pd.DataFrame) -> tuple[npt.NDArray[np.float64], Probabilities]:
    """Targets and predicted values, or labels and their probabilities, `[samples, outputs]`."""
    regression = target_task_of(predictions) == "regression"
    prefixes = (
        (TARGET_PREFIX, PREDICTED_PREFIX) if regression else (LABEL_PREFIX, PROBABILITY_PREFIX)
    )
    truth, outputs = (_columns(predictions, prefix) for prefix in prefixes)
    return truth, outputs


def answers_of(predictions: pd.DataFrame) -> Answers:
    """The answers of a trial to the samples of a table of numbers or of several labels."""
    truth, outputs = output_arrays(predictions)
    if target_task_of(predictions) == "regression":
        decided = np.zeros(truth.shape, dtype=bool)
    else:
        decided = _columns(predictions, DECIDED_PREFIX) > 0
    return Answers(truth=truth, outputs=outputs, decided=decided)


def truth_columns(predictions: pd.DataFrame) -> list[str]:
    """The columns that say what is right."""
    task = target_task_of(predictions)
    if task == "classification":
        return ["label"]
    prefix = TARGET_PREFIX if task == "regression" else LABEL_PREFIX
    return [prefix + name for name in output_names(predictions)]


def _columns(predictions: pd.DataFrame, prefix: str) -> npt.NDArray[np.float64]:
    columns = [prefix + name for name in output_names(predictions)]
    return np.asarray(predictions[columns].to_numpy(), dtype=np.float64)
