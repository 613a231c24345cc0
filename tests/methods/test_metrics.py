"""Metrics of classes against scikit-learn and torchmetrics, and against values in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bench.methods.metrics import METRICS, measure, measured, metric

sklearn = pytest.importorskip("sklearn.metrics")

Arrays = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]

SKLEARN: dict[str, Callable[[Any, Any], float] | None] = {
    "accuracy": lambda y, p: sklearn.accuracy_score(y, p.argmax(1)),
    "balanced_accuracy": lambda y, p: sklearn.balanced_accuracy_score(y, p.argmax(1)),
    "macro_f1": lambda y, p: sklearn.f1_score(
        y, p.argmax(1), average="macro", labels=range(p.shape[1]), zero_division=0
    ),
    "auroc": lambda y, p: sklearn.roc_auc_score(np.eye(p.shape[1])[y], p, average="macro"),
    "log_loss": lambda y, p: sklearn.log_loss(y, p, labels=range(p.shape[1])),
    "brier": lambda y, p: sklearn.brier_score_loss(
        y, p, labels=range(p.shape[1]), scale_by_half=False
    ),
    "ece": None,  # not in scikit-learn
}


def _arrays(samples: int, classes: int, seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, samples - classes)])
    logits = rng.normal(size=(samples, classes)) + 2 * np.eye(classes)[labels]
    # Few distinct values, so that there are ties.
    probabilities = np.exp(np.round(logits, 1))
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", SKLEARN)
@pytest.mark.parametrize(("samples", "classes"), [(9, 2), (60, 2), (200, 3), (500, 11)])
def test_equals_scikit_learn(name: str, samples: int, classes: int) -> None:
    reference = SKLEARN[name]
    if reference is None:
        return
    for seed in range(5):
        labels, probabilities = _arrays(samples, classes, seed)
        own = METRICS.get(name).function(labels, probabilities)
        assert own == pytest.approx(reference(labels, probabilities), rel=1e-12)


@pytest.mark.parametrize("classes", [2, 5])
def test_equals_torchmetrics(classes: int) -> None:
    torchmetrics = pytest.importorskip("torchmetrics.functional.classification")
    torch = pytest.importorskip("torch")
    labels, probabilities = _arrays(300, classes, 1)
    p, y = torch.from_numpy(probabilities), torch.from_numpy(labels)
    own = measure("accuracy", labels, probabilities)
    options: dict[str, Any] = {"num_classes": classes, "average": "macro"}
    auroc = torchmetrics.multiclass_auroc(p, y, **options)
    f1 = torchmetrics.multiclass_f1_score(p, y, **options)
    recall = torchmetrics.multiclass_accuracy(p, y, **options)
    error = torchmetrics.multiclass_calibration_error(p, y, num_classes=classes, n_bins=15)
    assert own["auroc"] == pytest.approx(float(auroc), rel=1e-6)
    assert own["macro_f1"] == pytest.approx(float(f1), rel=1e-6)
    assert own["balanced_accuracy"] == pytest.approx(float(recall), rel=1e-6)
    assert own["ece"] == pytest.approx(float(error), rel=1e-5)  # bins in single precision


@pytest.mark.parametrize(
    ("name", "perfect", "constant"),
    [
        ("accuracy", 1.0, 0.75),
        ("balanced_accuracy", 1.0, 0.5),
        ("macro_f1", 1.0, (2 * 0.75 / 1.75) / 2),
        ("auroc", 1.0, 0.5),
        ("log_loss", 0.0, -0.75 * math.log(0.8) - 0.25 * math.log(0.2)),
        ("brier", 0.0, 0.75 * 2 * 0.04 + 0.25 * 2 * 0.64),
        ("ece", 0.0, 0.05),
    ],
)
def test_in_closed_form(name: str, perfect: float, constant: float) -> None:
    """Three samples of class 0 and one of class 1; all right, or always the same answer."""
    labels = np.array([0, 0, 0, 1])
    function = METRICS.get(name).function
    assert function(labels, np.eye(2)[labels]) == pytest.approx(perfect, abs=1e-15)
    assert function(labels, np.tile([0.8, 0.2], (4, 1))) == pytest.approx(constant, rel=1e-12)


def test_an_area_that_no_pair_defines_is_not_a_number_and_never_chosen() -> None:
    value = METRICS.get("auroc").function(np.array([0, 0]), np.array([[0.5, 0.5], [0.1, 0.9]]))
    assert math.isnan(value)
    assert metric("auroc").merit(value) < metric("auroc").merit(0.0)


@pytest.mark.parametrize("name", SKLEARN)
def test_merit_prefers_what_is_right(name: str) -> None:
    labels = np.array([0, 1, 2, 0, 1, 2])
    right = 0.7 * np.eye(3)[labels] + 0.1
    wrong = 0.7 * np.eye(3)[(labels + 1) % 3] + 0.1
    value = METRICS.get(name).function
    merit = metric(name).merit
    assert merit(value(labels, right)) > merit(value(labels, wrong))


def test_the_primary_metric_is_measured_first() -> None:
    assert measured("ece")[0] == "ece"
    assert sorted(measured("ece")) == sorted(SKLEARN)
