"""What outputs mean: units of numbers, thresholds of labels, and that names belong together."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from bench.methods.metrics import METRICS
from bench.methods.objectives import OBJECTIVES
from bench.methods.target_tasks import (
    CLASSIFICATION,
    MULTI_LABEL,
    REGRESSION,
    TARGET_TASKS,
    Standardisation,
    answers,
    chosen_thresholds,
    decisions,
)
from bench.suite import Settings

sklearn = pytest.importorskip("sklearn.metrics")


def test_defaults_belong_to_their_task() -> None:
    for name, task in TARGET_TASKS.items():
        assert METRICS.get(task.metric).traits.target_task == name
        assert OBJECTIVES.get(task.objective).traits.target_task == name
    assert Settings().metric == CLASSIFICATION.metric
    assert TARGET_TASKS[Settings().task] is CLASSIFICATION


def test_standardised_values_come_back_in_their_units() -> None:
    values = np.random.default_rng(0).normal([1000, -3], [50, 0.01], (40, 2)).astype(np.float32)
    found = Standardisation.of(values)
    learned = found.standardised(values)
    np.testing.assert_allclose(learned.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(learned.std(axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(found.restored(learned), values, rtol=1e-6)


def test_answers_are_probabilities_or_values() -> None:
    logits = torch.tensor([[0.0, 2.0], [-1.0, 1.0]])
    np.testing.assert_array_equal(answers(CLASSIFICATION, logits), logits.softmax(dim=1))
    np.testing.assert_array_equal(answers(MULTI_LABEL, logits), logits.sigmoid())
    standardised = Standardisation(mean=(10.0, 0.0), sd=(2.0, 1.0))
    found = answers(REGRESSION, logits, standardised)
    np.testing.assert_array_equal(found, [[10.0, 2.0], [8.0, 1.0]])


def _f1(labels: np.ndarray, scores: np.ndarray, threshold: float) -> float:
    return float(sklearn.f1_score(labels, scores >= threshold, zero_division=0))


@pytest.mark.parametrize("seed", range(6))
def test_thresholds_have_the_highest_f1_and_lie_near_one_half(seed: int) -> None:
    draw = np.random.default_rng(seed)
    labels = (draw.random((15, 3)) < 0.4).astype(float)
    # Few distinct values, so that there are ties.
    scores = np.round(np.clip(0.3 * labels + 0.7 * draw.random((15, 3)), 0, 1), 1)
    for column, threshold in enumerate(chosen_thresholds(labels, scores)):
        own, has = scores[:, column], labels[:, column]
        edges = np.unique([0.0, 0.5, *own])
        tried = [*edges, *(np.mean(pair) for pair in pairwise(edges))]
        best = max(_f1(has, own, each) for each in tried)
        assert _f1(has, own, threshold) == pytest.approx(best, abs=1e-12)
        if _f1(has, own, 0.5) == pytest.approx(best, abs=1e-12):
            assert threshold == 0.5


def test_a_label_that_validation_lacks_keeps_one_half() -> None:
    assert chosen_thresholds(np.zeros((3, 1)), np.array([[0.2], [0.9], [0.4]])) == (0.5,)
    assert chosen_thresholds(np.zeros((0, 2)), np.zeros((0, 2))) == (0.5, 0.5)


def test_labels_are_given_from_their_threshold_on() -> None:
    probabilities = np.array([[0.5, 0.3], [0.49, 0.31]])
    assert decisions(probabilities).tolist() == [[True, False], [False, False]]
    assert decisions(probabilities, (0.6, 0.3)).tolist() == [[False, True], [False, True]]
