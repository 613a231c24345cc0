"""Per-sample scores: means over samples, and pseudo-values of metrics that are none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from bench.methods.metrics import METRICS
from bench.results.analysis.scores import MAX_BLOCKS, metric_of_rows, trial_scores
from bench.results.folder import prediction_columns
from bench.results.folder.tables import multi_label_columns, regression_columns
from bench.results.metric import Metric

reference = pytest.importorskip("sklearn.metrics")

CLASSES = ("a", "b", "c")
OF_CLASSES = [name for name in METRICS if METRICS.get(name).traits.target_task == "classification"]
"""Scores by the metrics of other tasks are tested in `test_influence`."""


def _metric(name: str) -> Metric:
    return Metric(name=name, label=name, higher_is_better=True, percent=True)


def _predictions(samples: int, *, trials: int = 2, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % len(CLASSES)
    frames = []
    for trial in range(trials):
        logits = rng.normal(size=(samples, len(CLASSES)))
        logits[np.arange(samples), labels] += 0.7
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        columns = prediction_columns(
            samples=[f"{index:04}" for index in range(samples)],
            labels=labels,
            probabilities=probabilities,
            classes=CLASSES,
        )
        frames.append(pd.DataFrame(columns).assign(trial=f"{trial:012x}"))
    return pd.concat(frames, ignore_index=True)


@pytest.mark.parametrize("name", OF_CLASSES)
@pytest.mark.parametrize("samples", [60, 3 * MAX_BLOCKS])
def test_scores_have_the_metric_as_their_mean(name: str, samples: int) -> None:
    predictions = _predictions(samples)
    scores = trial_scores(predictions, _metric(name))
    assert scores is not None
    for trial, own in predictions.groupby("trial"):
        labels = own["label"].map(CLASSES.index).to_numpy()
        probabilities = own.filter(like="probability_").to_numpy()
        expected = METRICS.get(name).function(labels, probabilities)
        found = scores.of({0: (str(trial),)})
        assert found is not None
        assert found.values.mean() == pytest.approx(expected, abs=1e-12)


def test_figures_of_rows_are_those_of_their_own_task() -> None:
    draws = np.random.default_rng(0)
    samples = [f"{index:04}" for index in range(40)]
    shared = {"samples": samples, "names": ["x", "y"]}
    truth, outputs = draws.normal(size=(2, 40, 2))
    numbers = pd.DataFrame(regression_columns(targets=truth, predicted=outputs, **shared))
    labels, chances = (truth > 0).astype(int), draws.uniform(size=(40, 2))
    several = pd.DataFrame(multi_label_columns(labels=labels, probabilities=chances, **shared))
    for name in ("x", "y"):
        several[f"decided_{name}"] = several[f"probability_{name}"] >= 0.5
    for names, rows, told in (
        (("r2", "mae", "rmse", "spearman"), numbers, (truth, outputs)),
        (("mean_average_precision", "multi_label_log_loss"), several, (labels, chances)),
        (("multi_label_macro_f1",), several, (labels, chances >= 0.5)),
    ):
        for name in names:
            expected = METRICS.get(name).function(*told)
            assert metric_of_rows(name, rows) == pytest.approx(expected, abs=1e-12)
    classes = _predictions(40, trials=1)
    right = (classes["label"] == classes["predicted"]).mean()
    assert metric_of_rows("accuracy", classes) == pytest.approx(right)


def test_accuracy_and_log_loss_by_sample() -> None:
    predictions = _predictions(30, trials=1)
    right = (predictions["label"] == predictions["predicted"]).to_numpy(float)
    scores = trial_scores(predictions, _metric("accuracy"))
    assert scores is not None
    assert scores.values[0].tolist() == right.tolist()
    of_label = predictions.apply(lambda row: row[f"probability_{row['label']}"], axis=1)
    losses = trial_scores(predictions, _metric("log_loss"))
    assert losses is not None
    assert losses.values[0] == pytest.approx(-np.log(of_label.to_numpy(float)))


@pytest.mark.parametrize(
    ("name", "direct"),
    [
        (
            "macro_f1",
            lambda labels, p: reference.f1_score(labels, p.argmax(axis=1), average="macro"),
        ),
        (
            "auroc",
            lambda labels, p: reference.roc_auc_score(
                labels, p, multi_class="ovr", average="macro"
            ),
        ),
    ],
)
def test_pseudo_values_one_by_one(name: str, direct: Callable[..., float]) -> None:
    """Against scikit-learn, each sample left out by hand."""
    predictions = _predictions(40, trials=1)
    labels = predictions["label"].map(CLASSES.index).to_numpy()
    probabilities = predictions.filter(like="probability_").to_numpy()
    whole = direct(labels, probabilities)
    left = [
        direct(np.delete(labels, index), np.delete(probabilities, index, axis=0))
        for index in range(40)
    ]
    values = 40 * whole - 39 * np.array(left)
    scores = trial_scores(predictions, _metric(name))
    assert scores is not None
    found = scores.values[0]
    assert found - found.mean() == pytest.approx(values - values.mean(), abs=1e-9)


def test_the_spread_of_blocks_is_that_of_samples() -> None:
    """The standard error by blocks and one by one: two estimates of the same."""
    predictions = _predictions(3 * MAX_BLOCKS, trials=1)
    labels = predictions["label"].map(CLASSES.index).to_numpy()
    probabilities = predictions.filter(like="probability_").to_numpy()
    scores = trial_scores(predictions, _metric("auroc"))
    assert scores is not None
    assert scores.values.shape == (1, MAX_BLOCKS)
    by_block = scores.values[0].std(ddof=1) / np.sqrt(MAX_BLOCKS)
    function = METRICS.get("auroc").function
    n = len(labels)
    left = np.array(
        [
            function(np.delete(labels, index), np.delete(probabilities, index, axis=0))
            for index in range(n)
        ]
    )
    one_by_one = np.sqrt((n - 1) / n * np.square(left - left.mean()).sum())
    # A standard deviation of 200 values is known to about 5 %.
    assert by_block == pytest.approx(one_by_one, rel=0.2)


def test_a_metric_that_nobody_registered_scores_nothing() -> None:
    assert trial_scores(_predictions(10), _metric("of_a_plugin_that_is_not_loaded")) is None


def test_samples_that_a_trial_did_not_predict_are_left_out() -> None:
    predictions = _predictions(10)
    short = predictions.iloc[:-3]
    scores = trial_scores(short, _metric("accuracy"))
    assert scores is not None
    both = scores.of({0: (f"{0:012x}",), 1: (f"{1:012x}",)})
    assert both is not None
    assert both.samples == tuple(f"{index:04}" for index in range(7))
    assert scores.of({0: ("unknown",)}) is None
