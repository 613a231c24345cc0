"""Support vector machines, one class against the others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from bench.training.fits.base import (
    Candidate,
    Floats,
    Samples,
    linear,
    of_two,
    path,
    scikit_learn,
    single,
    standard,
)

INVERSE_PENALTIES = tuple(10.0**power for power in range(-6, 4))
ITERATIONS = 100_000


def svm(samples: Samples, *, kernel: str, c: float | None) -> Iterator[Candidate]:
    """Scikit-learn's `SVC` of standardised features, from products or Gaussians of all pairs."""
    features = samples.features.double().numpy()
    mean, deviation = standard(features, samples.weights)
    scaled = (features - mean) / deviation
    gamma = 1 / scaled.shape[1]
    similar = scaled @ scaled.T
    if kernel == "rbf":
        squares = similar.diagonal()
        similar = np.exp(-gamma * np.maximum(squares[:, None] + squares - 2 * similar, 0))
    for strength in path(c, INVERSE_PENALTIES):
        coefficients, bias = _against_others(samples, similar, strength)
        if kernel == "linear":
            weight = coefficients @ scaled / deviation
            tensors = linear(weight, bias - weight @ mean)
        else:
            used = np.flatnonzero(coefficients.any(axis=0))
            tensors = {
                "support": single(scaled[used]),
                "coefficients": single(coefficients[:, used]),
                "bias": single(bias),
                "gamma": torch.tensor(gamma),
                "shift": single(mean),
                "scale": single(1 / deviation),
            }
        yield Candidate(chosen={"c": strength}, tensors=tensors)


def _against_others(samples: Samples, similar: Floats, strength: float) -> tuple[Floats, Floats]:
    """What each sample counts for each class `[outputs, n]`, and biases `[outputs]`."""
    two = samples.outputs == 2
    classes = (1,) if two else range(samples.outputs)
    coefficients, bias = np.zeros((len(classes), len(similar))), np.zeros(len(classes))
    with scikit_learn("strategy 'svm'"):
        from sklearn.svm import SVC

        for row, label in enumerate(classes):
            model = SVC(kernel="precomputed", C=strength, max_iter=ITERATIONS)
            model.fit(similar, samples.targets == label, sample_weight=samples.weights)
            coefficients[row, model.support_] = model.dual_coef_[0]
            bias[row] = model.intercept_[0]
    return of_two(coefficients, bias)
