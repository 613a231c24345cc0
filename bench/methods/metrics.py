"""Metrics: what is measured of predictions on a split. The first of a suite chooses the epoch.

A metric is one function from labels `[n]` (class indices) and probabilities `[n, classes]`
(float64) to a number; of regression from true and predicted values `[n, targets]`, of several
labels a sample from labels (1 and 0) and probabilities `[n, labels]`. Add one by writing such a
function here, registered under its name, and a line for it in `tests/methods/test_metrics.py`.

They are computed here and not by scikit-learn, which the tests compare with:
a head on a frozen trunk is validated in less time than its checks of one call take.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.methods.target_tasks import CLASSIFICATION, MULTI_LABEL, REGRESSION, decisions
from bench.suite import TargetTaskName
from bench.suite.registry import Registry

Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float64]
Values = npt.NDArray[np.float64]
MetricFunction = Callable[[Any, Any], float]

ACCURACY = CLASSIFICATION.metric
"""What a suite of classes that names no other metric chooses by."""
R2 = REGRESSION.metric

ECE_BINS = 15


@dataclass(frozen=True, kw_only=True)
class MetricTraits:
    """How a metric is shown (`label`; `percent`: as a fraction), and which way is better.

    `target_task` is what a suite predicts where it can be measured. With `decides` it looks at
    which labels are given, and at no probability.
    """

    label: str | None = None
    higher_is_better: bool = True
    percent: bool = False
    target_task: TargetTaskName = CLASSIFICATION.name
    decides: bool = False


METRICS: Registry[MetricFunction, MetricTraits] = Registry(
    "metric", MetricTraits, takes=("labels", "probabilities")
)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What others need to know of a metric to choose by it and to show it."""

    name: str
    label: str
    higher_is_better: bool
    percent: bool

    def merit(self, value: float) -> float:
        """The value, turned so that more is better; one that is not known is the worst."""
        if math.isnan(value):
            return -math.inf
        return value if self.higher_is_better else -value


def metric(name: str) -> Metric:
    """The metric called `name`; raises `BenchError` with the nearest name otherwise."""
    traits = METRICS.get(name).traits
    return Metric(
        name=name,
        label=traits.label or name.replace("_", " "),
        higher_is_better=traits.higher_is_better,
        percent=traits.percent,
    )


def measure(
    primary: str,
    truth: npt.NDArray[Any],
    answers: npt.NDArray[Any],
    thresholds: Sequence[float] | None = None,
) -> dict[str, float]:
    """All metrics of this module for the task of `primary`, and that one, on one split.

    `truth` and `answers` are what their functions take; labels are given from their `thresholds`
    on, by default from 0.5. NaN where an answer is not finite.
    """
    names = measured(primary)
    if not np.isfinite(answers).all():
        return dict.fromkeys(names, math.nan)
    figures = {}
    for name in names:
        entry = METRICS.get(name)
        own = decisions(answers, thresholds).astype(float) if entry.traits.decides else answers
        figures[name] = float(entry.function(truth, own))
    return figures


def measured(primary: str) -> tuple[str, ...]:
    """The names of what is measured where `primary` chooses, `primary` first."""
    task = METRICS.get(primary).traits.target_task
    own = (name for name in _BUILT_IN if METRICS.get(name).traits.target_task == task)
    return tuple(dict.fromkeys((primary, *own)))


@METRICS.register(ACCURACY, label="accuracy", percent=True)
def accuracy(labels: Labels, probabilities: Probabilities) -> float:
    """The fraction of samples whose most probable class is right."""
    return float((probabilities.argmax(axis=1) == labels).mean())


@METRICS.register("balanced_accuracy", label="balanced accuracy", percent=True)
def balanced_accuracy(labels: Labels, probabilities: Probabilities) -> float:
    """The mean recall (the fraction of a class's samples that is right) over classes that occur."""
    right = np.diag(_confusion(labels, probabilities))
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    return float((right[counts > 0] / counts[counts > 0]).mean())


@METRICS.register("macro_f1", label="macro F1", percent=True)
def macro_f1(labels: Labels, probabilities: Probabilities) -> float:
    """The mean over all classes of F1, the harmonic mean of precision and recall.

    A class that neither occurs nor is predicted counts as 0, as in scikit-learn.
    """
    confusion = _confusion(labels, probabilities)
    sizes = confusion.sum(axis=0) + confusion.sum(axis=1)
    return float((2 * np.diag(confusion) / np.maximum(sizes, 1)).mean())


@METRICS.register("auroc", label="AUROC", percent=True)
def auroc(labels: Labels, probabilities: Probabilities) -> float:
    """The mean over classes of the area under the ROC curve, each class against the rest.

    The probability that a sample of the class gets a higher probability of it than a sample of
    the rest, ties counted half (Hanley and McNeil, 1982). NaN unless each class has both.
    """
    areas = [
        _area(labels == label, probabilities[:, label]) for label in range(probabilities.shape[1])
    ]
    return float(np.mean(areas))


@METRICS.register("log_loss", label="log loss", higher_is_better=False)
def log_loss(labels: Labels, probabilities: Probabilities) -> float:
    """Minus the mean logarithm of the probability of the right class, in nats."""
    right = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(right, np.finfo(np.float64).tiny)).mean())


@METRICS.register("brier", label="Brier score", higher_is_better=False)
def brier(labels: Labels, probabilities: Probabilities) -> float:
    """The mean squared distance between probabilities and truth over samples.

    Summed over the classes, so from 0 to 2 (Brier, Verification of Forecasts, 1950).
    """
    truth = np.eye(probabilities.shape[1])[labels]
    return float(np.square(probabilities - truth).sum(axis=1).mean())


@METRICS.register("ece", label="calibration error", higher_is_better=False, percent=True)
def ece(labels: Labels, probabilities: Probabilities) -> float:
    """The expected calibration error: mean |accuracy − confidence| over bins of the confidence.

    Weighted by samples, with 15 bins of equal width, closed above (Guo et al., On Calibration of
    Modern Neural Networks, 2017).
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def _confusion(labels: Labels, probabilities: Probabilities) -> npt.NDArray[np.int64]:
    """Samples by their class (rows) and the most probable one (columns)."""
    classes = probabilities.shape[1]
    cells = labels * classes + probabilities.argmax(axis=1)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def _area(positive: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]) -> float:
    """The area under the ROC curve, from the sum of the ranks of the positive samples."""
    count = int(positive.sum())
    others = len(positive) - count
    if not count or not others:
        return math.nan
    return float((_ranks(scores)[positive].sum() - count * (count + 1) / 2) / (count * others))


# Regression -----------------------------------------------------------------------------------


@METRICS.register(R2, label="R²", target_task="regression")
def r2(truth: Values, predicted: Values) -> float:
    """The share of the variance that is explained: 1 − Σ(y − ŷ)² / Σ(y − ȳ)², mean over targets.

    0 is what always naming the mean of these samples would get. NaN where a target is constant.
    """
    errors = np.square(truth - predicted).sum(axis=0)
    spread = np.square(truth - truth.mean(axis=0)).sum(axis=0)
    if not spread.all():
        return math.nan
    return float((1 - errors / spread).mean())


@METRICS.register(
    "mae", label="mean absolute error", higher_is_better=False, target_task="regression"
)
def mae(truth: Values, predicted: Values) -> float:
    """The mean of |y − ŷ| over samples and targets, in the targets' own units."""
    return float(np.abs(truth - predicted).mean())


@METRICS.register(
    "rmse", label="root mean squared error", higher_is_better=False, target_task="regression"
)
def rmse(truth: Values, predicted: Values) -> float:
    """The root of the mean of (y − ŷ)² over samples, mean over targets, in their own units."""
    return float(np.sqrt(np.square(truth - predicted).mean(axis=0)).mean())


@METRICS.register("spearman", label="Spearman's ρ", target_task="regression")
def spearman(truth: Values, predicted: Values) -> float:
    """The correlation of the ranks of true and predicted values, mean over targets.

    Equal values share the mean of their ranks. NaN where either is constant (Spearman, 1904).
    """
    columns = zip(truth.T, predicted.T, strict=True)
    return float(np.mean([_correlation(_ranks(y), _ranks(p)) for y, p in columns]))


# Several labels a sample ----------------------------------------------------------------------


@METRICS.register(
    MULTI_LABEL.metric, label="mean average precision", percent=True, target_task="multi_label"
)
def mean_average_precision(labels: Values, probabilities: Values) -> float:
    """The mean over labels of Σ (Rₖ − Rₖ₋₁) Pₖ, with precision and recall at each probability.

    Labels that no sample of the split has are left out; NaN where that are all of them.
    """
    columns = zip(labels.T, probabilities.T, strict=True)
    found = [_average_precision(own > 0, scores) for own, scores in columns if own.any()]
    return float(np.mean(found)) if found else math.nan


@METRICS.register(
    "multi_label_macro_f1",
    label="macro F1 of labels",
    percent=True,
    target_task="multi_label",
    decides=True,
)
def multi_label_macro_f1(labels: Values, given: Values) -> float:
    """The mean over labels of F1, the harmonic mean of precision and recall of the labels given.

    A label that neither occurs nor is given counts as 0, as in scikit-learn.
    """
    right, sizes = _hits(labels, given)
    return float((2 * right / np.maximum(sizes, 1)).mean())


@METRICS.register(
    "multi_label_micro_f1",
    label="micro F1 of labels",
    percent=True,
    target_task="multi_label",
    decides=True,
)
def multi_label_micro_f1(labels: Values, given: Values) -> float:
    """F1 over all labels of all samples together; 0 where none occurs and none is given."""
    right, sizes = _hits(labels, given)
    return float(2 * right.sum() / max(sizes.sum(), 1))


@METRICS.register(
    "multi_label_log_loss",
    label="log loss of labels",
    higher_is_better=False,
    target_task="multi_label",
)
def multi_label_log_loss(labels: Values, probabilities: Values) -> float:
    """Minus the mean logarithm of the probability of what holds, over samples and labels, in nats.

    That is the probability of a label that a sample has, and 1 minus that of one that it lacks.
    """
    right = np.where(labels > 0, probabilities, 1 - probabilities)
    return float(-np.log(np.maximum(right, np.finfo(np.float64).tiny)).mean())


def _hits(labels: Values, given: Values) -> tuple[Values, Values]:
    """For each label, to how many samples it is rightly given, and how often it occurs or is."""
    return (labels * given).sum(axis=0), labels.sum(axis=0) + given.sum(axis=0)


def _average_precision(positive: npt.NDArray[np.bool_], scores: Values) -> float:
    _, group = np.unique(scores, return_inverse=True)
    given = np.bincount(group)[::-1].cumsum()
    right = np.bincount(group, weights=positive)[::-1].cumsum()
    gained = np.diff(right, prepend=0.0) / positive.sum()
    return float((gained * right / given).sum())


def _ranks(values: Values) -> Values:
    """The ranks from 1; equal values share the mean of theirs."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Values = (np.cumsum(sizes) - (sizes - 1) / 2)[group]
    return ranks


def _correlation(one: Values, other: Values) -> float:
    """Pearson's; NaN where one of them is constant."""
    one, other = one - one.mean(), other - other.mean()
    scale = math.sqrt((one @ one) * (other @ other))
    return float(one @ other / scale) if scale else math.nan


_BUILT_IN = tuple(METRICS)
