"""Metrics of numbers and of several labels a sample, against scikit-learn and SciPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bench.methods.metrics import METRICS, measure, measured, metric

sklearn = pytest.importorskip("sklearn.metrics")
stats = pytest.importorskip("scipy.stats")

Array = np.ndarray[Any, Any]
Reference = Callable[[Array, Array], float]


def _spearman(y: Array, p: Array) -> float:
    return float(np.mean([stats.spearmanr(a, b).statistic for a, b in zip(y.T, p.T, strict=True)]))


def _log_loss(y: Array, p: Array) -> float:
    columns = zip(y.T, p.T, strict=True)
    return float(np.mean([sklearn.log_loss(a, b, labels=[0, 1]) for a, b in columns]))


OF_NUMBERS: dict[str, Reference] = {
    "r2": sklearn.r2_score,
    "mae": sklearn.mean_absolute_error,
    "rmse": sklearn.root_mean_squared_error,
    "spearman": _spearman,
}
OF_LABELS: dict[str, Reference] = {
    "mean_average_precision": sklearn.average_precision_score,
    "multi_label_macro_f1": lambda y, p: float(
        np.mean(
            [sklearn.f1_score(a, b >= 0.5, zero_division=0) for a, b in zip(y.T, p.T, strict=True)]
        )
    ),
    "multi_label_micro_f1": lambda y, p: sklearn.f1_score(y.ravel(), p.ravel() >= 0.5),
    "multi_label_log_loss": _log_loss,
}
OTHERS = {**OF_NUMBERS, **OF_LABELS}


def _answers(name: str, samples: int, outputs: int, seed: int) -> tuple[Array, Array]:
    draw = np.random.default_rng(seed)
    if name in OF_NUMBERS:
        truth = np.round(draw.normal(50, 9, (samples, outputs)))  # with ties
        return truth, np.round(truth + draw.normal(0, 6, truth.shape), 1)
    labels = (draw.random((samples, outputs)) < 0.4).astype(float)
    labels[0], labels[1] = 1, 0
    return labels, np.round(0.3 * labels + 0.69 * draw.random(labels.shape) + 0.005, 2)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize(("samples", "outputs"), [(9, 1), (60, 2), (300, 5)])
def test_equals_the_reference(name: str, samples: int, outputs: int) -> None:
    for seed in range(3):
        truth, found = _answers(name, samples, outputs, seed)
        own = measure(name, truth, found)[name]
        assert own == pytest.approx(OTHERS[name](truth, found), rel=1e-12)


def test_every_metric_of_another_task_is_compared() -> None:
    others = {n for n in METRICS if METRICS.get(n).traits.target_task != "classification"}
    assert others == set(OTHERS)
    assert measured("rmse") == ("rmse", "r2", "mae", "spearman")
    assert set(measured("multi_label_micro_f1")) == set(OF_LABELS)


@pytest.mark.parametrize("name", OTHERS)
def test_merit_prefers_what_is_right(name: str) -> None:
    truth, found = _answers(name, 40, 2, 0)
    right = truth if name in OF_NUMBERS else 0.2 + 0.6 * truth
    merit = metric(name).merit
    assert merit(measure(name, truth, right)[name]) > merit(measure(name, truth, found)[name])


def test_what_is_not_defined_is_not_a_number_and_never_chosen() -> None:
    constant, other = np.full((4, 1), 3.0), np.arange(4.0)[:, None]
    for name in ("r2", "spearman"):
        assert math.isnan(measure(name, constant, other)[name])
    assert math.isnan(measure("spearman", other, constant)["spearman"])
    none = measure("mean_average_precision", np.zeros((3, 2)), np.full((3, 2), 0.4))
    assert math.isnan(none["mean_average_precision"])
    assert none["multi_label_macro_f1"] == none["multi_label_micro_f1"] == 0
    broken = measure("mae", other, np.where(other == 2, np.inf, other))
    assert all(map(math.isnan, broken.values()))
    assert metric("r2").merit(math.nan) < metric("r2").merit(-1e9)


def test_labels_that_a_split_lacks_have_no_precision() -> None:
    labels, found = _answers("mean_average_precision", 30, 2, 1)
    absent = np.concatenate([labels, np.zeros((30, 1))], axis=1)
    both = np.concatenate([found, found[:, :1]], axis=1)
    name = "mean_average_precision"
    assert measure(name, absent, both)[name] == measure(name, labels, found)[name]


def test_thresholds_decide_of_what_counts_decisions_alone() -> None:
    labels, found = _answers("multi_label_macro_f1", 50, 3, 2)
    limits = (0.2, 0.5, 0.8)
    own = measure("multi_label_macro_f1", labels, found, limits)
    expected = sklearn.f1_score(labels, found >= limits, average="macro")
    assert own["multi_label_macro_f1"] == pytest.approx(expected)
    plain = measure("multi_label_macro_f1", labels, found)
    for name in ("mean_average_precision", "multi_label_log_loss"):
        assert own[name] == plain[name]
