"""Metrics: what is measured of predictions on a split. The first of a suite chooses the epoch.

A metric is one function from labels `[n]` (class indices) and probabilities `[n, classes]`
(float64) to a number. Add one by writing such a function here, registered under its name, and a
line for it in `tests/methods/test_metrics.py`.

They are computed here and not by scikit-learn, which the tests compare with:
a head on a frozen trunk is validated in less time than its checks of one call take.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.suite.registry import Registry

Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float64]
MetricFunction = Callable[[Labels, Probabilities], float]

ACCURACY = "accuracy"
"""What a suite that names no other metric chooses by."""

ECE_BINS = 15


@dataclass(frozen=True, kw_only=True)
class MetricTraits:
    """How a metric is shown (`label`; `percent`: as a fraction), and which way is better."""

    label: str | None = None
    higher_is_better: bool = True
    percent: bool = False


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


def measure(primary: str, labels: Labels, probabilities: Probabilities) -> dict[str, float]:
    """All metrics of this module, and the one called `primary`, of predictions on one split.

    NaN where a probability is not finite.
    """
    names = measured(primary)
    if not np.isfinite(probabilities).all():
        return dict.fromkeys(names, math.nan)
    return {name: float(METRICS.get(name).function(labels, probabilities)) for name in names}


def measured(primary: str) -> tuple[str, ...]:
    """The names of what is measured where `primary` chooses, `primary` first."""
    return tuple(dict.fromkeys((primary, *_BUILT_IN)))


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
    _, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(sizes) - (sizes - 1) / 2
    return float((ranks[group[positive]].sum() - count * (count + 1) / 2) / (count * others))


_BUILT_IN = tuple(METRICS)
