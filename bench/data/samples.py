"""What is known of single samples of any kind, and what data sets make of that for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from bench.data.archives import StoredFile
from bench.data.dataset import TEST, VAL, DataIssue
from bench.data.targets import Targets, multi_label_targets, regression_targets
from bench.suite import TargetTaskName

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class LabelledSample:
    """The class that a sample belongs to, and its split (or UNASSIGNED).

    `group`, `time` and `weight` (see `Groups`, `Times`, `SampleWeights`) are given to all samples
    of a data set, or to none. `test_set` is the name of one of several test sets. Where no classes
    are predicted, `values` are the numbers of the sample, or 1 for each label that it has and 0 for
    others.
    """

    class_name: str
    split: int
    group: str | None = None
    time: int | None = None
    test_set: str = ""
    weight: float | None = None
    values: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class LabelledFile(LabelledSample):
    """A file with its class and split, in an archive or not."""

    path: StoredFile


def labelled_fields(
    samples: Sequence[LabelledSample], classes: Sequence[str], task: TargetTaskName, what: str
) -> tuple[dict[str, Any], tuple[DataIssue, ...]]:
    """Fields of a data set of these samples, each called as a message says (`what`: "image").

    `classes` are in the order of their indices; with another `task` they are the names of the
    `values`. Also what is to be told of how splits are drawn evenly.
    """
    labels, targets = _labels(task, samples, classes)
    splits = np.array([sample.split for sample in samples], np.int8)
    times = _of_all([sample.time for sample in samples])
    test_sets = tuple(sample.test_set for sample in samples)
    weights = _of_all([sample.weight for sample in samples])
    fields = {
        "classes": tuple(classes),
        "labels": labels,
        "splits": splits,
        "targets": targets,
        "groups": _of_all([sample.group for sample in samples]),
        "times": None if times is None else np.array(times, np.int64),
        "test_sets": test_sets if any(test_sets) else None,
        "sample_weights": None if weights is None else np.array(weights, np.float64),
    }
    return fields, tuple(_strata_issue(targets, splits, what))


def _labels(
    task: TargetTaskName, samples: Sequence[LabelledSample], classes: Sequence[str]
) -> tuple[npt.NDArray[np.int64], Targets | None]:
    """The class of every sample; where it has values, its stratum, and these."""
    if task == "classification":
        class_index = {class_name: index for index, class_name in enumerate(classes)}
        return np.array([class_index[sample.class_name] for sample in samples], np.int64), None
    values = np.array([sample.values for sample in samples], np.float32)
    make = regression_targets if task == "regression" else multi_label_targets
    return make(values, classes)


def _strata_issue(
    targets: Targets | None, splits: npt.NDArray[np.int8], what: str
) -> Iterator[DataIssue]:
    """How splits are drawn evenly where there are no classes."""
    own = {TEST, VAL} <= set(splits.tolist())
    if targets is None or len(targets.strata) < 2 or own:
        return
    if targets.task == "regression":
        evenly = f"{len(targets.strata)} ranges of the target, each with about as many {what}s"
    else:
        evenly = f"{len(targets.strata)} combinations of labels, rare ones taken together"
    message = f"Splits that are drawn have equal shares of {evenly}."
    yield DataIssue(kind="strata", message=message, count=len(targets.strata))


def _of_all(values: Sequence[T | None]) -> tuple[T, ...] | None:
    """The values if none of them is None."""
    known = tuple(value for value in values if value is not None)
    return known if known and len(known) == len(values) else None
