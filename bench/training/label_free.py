"""What label-free validators say of a trained network, from target data without labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from bench.data import Samples
from bench.keys import derive_seed
from bench.methods.label_free import VALIDATORS
from bench.training.trial import Training, predict

MOST_SAMPLES = 2000
"""Neighbourhoods take memory and time that grow with the square of it."""


@dataclass(frozen=True, kw_only=True)
class LabelFree:
    """The values of validators by name, from predictions on so many `samples`."""

    samples: int
    values: Mapping[str, float]


def judged_samples(unlabelled: Samples, *, seed: int) -> Samples:
    """Those that validators look at: all, or as many as they take, drawn by the seed."""
    if len(unlabelled) <= MOST_SAMPLES:
        return unlabelled
    generator = np.random.default_rng(derive_seed(seed, "label-free"))
    return np.sort(generator.choice(unlabelled, size=MOST_SAMPLES, replace=False))


def label_free(training: Training, *, epoch: int | None) -> LabelFree | None:
    """What validators say of the network as it stands; None without target data.

    Predictions are those of evaluation, as of `predict`. A value that is no finite number is left
    out, and of predictions that are none all are.
    """
    samples = judged_samples(training.splits.unlabelled, seed=training.settings.seed)
    if not samples.size:
        return None
    probabilities = predict(training, samples, epoch=epoch).double().softmax(dim=1).numpy()
    if not np.isfinite(probabilities).all():
        return LabelFree(samples=len(samples), values={})
    with threadpool_limits(1):  # no bit depends on how many there are
        found = {name: each.function(probabilities) for name, each in VALIDATORS.items()}
    known = {name: value for name, value in found.items() if math.isfinite(value)}
    return LabelFree(samples=len(samples), values=known)
