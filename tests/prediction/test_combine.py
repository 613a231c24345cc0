"""Ensembles and temperatures against closed forms and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import log_softmax, softmax

from bench.prediction.combine import (
    Labels,
    Probabilities,
    fit_temperature,
    log_loss,
    mean_of,
    select_greedily,
    tempered,
)
from bench.results.analysis.calibration import reliability

Y = np.arange(12) % 3
F = np.sin(0.37 * np.arange(1, 49) ** 2).reshape(12, 4) + np.eye(3, 4)[Y]


def accuracy(labels: Labels, probabilities: Probabilities) -> float:
    return float((probabilities.argmax(axis=1) == labels).mean())


def drawn(seed: int, samples: int = 60, classes: int = 4) -> tuple[Labels, list[Probabilities]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    truth = 1.5 * np.eye(classes)[labels]
    return labels, [softmax(truth + rng.normal(size=truth.shape) * 2, axis=1) for _ in range(6)]


def test_the_temperature_of_a_published_example() -> None:
    probabilities = softmax(F[:, :3], axis=1)
    temperature = fit_temperature(probabilities, Y)
    assert temperature == pytest.approx(0.1827286, abs=1e-6)
    after = tempered(probabilities, temperature)
    assert log_loss(Y, probabilities) == pytest.approx(0.557924, abs=1e-6)
    assert log_loss(Y, after) == pytest.approx(0.224956, abs=1e-6)
    assert reliability(probabilities, Y).expected_calibration_error == (
        pytest.approx(0.3167678, abs=1e-6)
    )
    assert accuracy(Y, after) == pytest.approx(11 / 12)


@pytest.mark.parametrize("seed", range(4))
def test_at_the_temperature_the_loss_has_no_slope(seed: int) -> None:
    """d/dβ of the mean of logsumexp(β l) - β l_y, for the sharpness β = 1/T, is zero."""
    labels, (probabilities, *_) = drawn(seed)
    logits = np.log(probabilities)

    def slope(sharpness: float) -> float:
        expected = (softmax(sharpness * logits, axis=1) * logits).sum(axis=1)
        return float((expected - logits[np.arange(len(labels)), labels]).mean())

    sharpness = brentq(slope, 1e-3, 1e3)
    assert fit_temperature(probabilities, labels) == pytest.approx(1 / sharpness, rel=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_a_temperature_never_hurts_where_it_was_fitted_and_moves_no_class(seed: int) -> None:
    labels, predictions = drawn(seed, samples=5 + seed)
    for probabilities in predictions:
        after = tempered(probabilities, fit_temperature(probabilities, labels))
        assert log_loss(labels, after) <= log_loss(labels, probabilities)
        assert (after.argmax(axis=1) == probabilities.argmax(axis=1)).all()
        assert after.sum(axis=1) == pytest.approx(1)
    assert tempered(predictions[0], 1.0) == pytest.approx(predictions[0])


def test_certain_and_hopeless_predictions_have_a_temperature_too() -> None:
    labels = np.array([0, 1, 1])
    right, wrong = np.eye(2)[labels], np.eye(2)[1 - labels]
    assert np.isfinite(fit_temperature(right, labels))
    hopeless = tempered(wrong, fit_temperature(wrong, labels))
    assert log_loss(labels, hopeless) == pytest.approx(np.log(2), abs=0.05)


def test_equal_members_are_one_member() -> None:
    labels, predictions = drawn(0)
    assert mean_of([predictions[0]] * 5) == pytest.approx(predictions[0])
    found = select_greedily([predictions[0]] * 3, labels, accuracy)
    assert found.counts == (1, 0, 0)
    assert found.merit == accuracy(labels, predictions[0])


@pytest.mark.parametrize("seed", range(10))
def test_the_greedy_ensemble_is_never_worse_than_its_best_member(seed: int) -> None:
    labels, predictions = drawn(seed)
    found = select_greedily(predictions, labels, accuracy)
    best = max(accuracy(labels, each) for each in predictions)
    assert found.merit >= best
    used = [each for each, count in zip(predictions, found.counts, strict=True) if count]
    counts = [count for count in found.counts if count]
    assert accuracy(labels, mean_of(used, counts)) == found.merit


def test_greedy_rounds_are_those_of_the_paper_written_out() -> None:
    """Every round tries all candidates."""
    labels, predictions = drawn(3, samples=40)

    def score(members: tuple[int, ...]) -> tuple[float, float]:
        mean = np.mean([predictions[index] for index in members], axis=0)
        loss = -log_softmax(np.log(mean), axis=1)[np.arange(len(labels)), labels].mean()
        return accuracy(labels, mean), -loss

    taken: tuple[int, ...] = ()
    rounds = []
    for _ in range(4):
        candidates = [(*taken, index) for index in range(len(predictions))]
        taken = max(candidates, key=lambda members: (score(members), -members[-1]))
        rounds.append((score(taken)[0], tuple(taken.count(i) for i in range(len(predictions)))))
    best = max(merit for merit, _ in rounds)
    wanted = next(counts for merit, counts in rounds if merit == best)
    assert select_greedily(predictions, labels, accuracy, rounds=4).counts == wanted
