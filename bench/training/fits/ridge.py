"""Ridge regression on targets of ±1, or on numbers: one decomposition for all penalties."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.methods.target_tasks import REGRESSION
from bench.training.fits.base import Candidate, Floats, Samples, linear, path, standard

PENALTIES = tuple(2.0**power for power in range(19, -11, -1))
CONSTANT = 100.0
"""The feature that stands for a bias: so large that it is hardly penalised."""


def ridge(samples: Samples, *, l2: float | None) -> Iterator[Candidate]:
    """`(XᵀX + λI)⁻¹XᵀY` of standardised features, as big_vision's few-shot evaluation has it."""
    features = samples.features.double().numpy()
    mean, deviation = standard(features, samples.weights)
    inputs = np.column_stack([(features - mean) / deviation, np.full(len(features), CONSTANT)])
    answers = samples.answers
    targets = answers if samples.task is REGRESSION else 2 * answers - 1
    if samples.weights is not None:
        root = np.sqrt(samples.weights)[:, None]
        inputs, targets = root * inputs, root * targets
    left, sizes, right = np.linalg.svd(inputs, full_matrices=False)
    along: Floats = left.T @ targets
    for penalty in path(l2, PENALTIES):
        solution = right.T @ (along * (sizes / (sizes**2 + penalty))[:, None])
        weight = (solution[:-1] / deviation[:, None]).T
        bias = CONSTANT * solution[-1] - weight @ mean
        yield Candidate(chosen={"l2": penalty}, tensors=linear(weight, bias))
