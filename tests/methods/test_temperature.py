"""Temperatures against a published example, and against the slope of the loss."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import softmax

from bench.methods.metrics import Labels, Probabilities, accuracy, ece, log_loss
from bench.methods.temperature import fit_temperature, tempered

Y = np.arange(12) % 3
F = np.sin(0.37 * np.arange(1, 49) ** 2).reshape(12, 4) + np.eye(3, 4)[Y]


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
    assert ece(Y, probabilities) == pytest.approx(0.3167678, abs=1e-6)
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
