"""Heads of similarity: the nearest neighbours, and the nearest mean of a class."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F

from bench.training.fits.base import Candidate, Samples, path, single, whole

NEIGHBOURS = (10, 20, 100, 200)
LEAST_WEIGHT = 1e-30


def nearest_neighbours(
    samples: Samples, *, k: int | None, temperature: float
) -> Iterator[Candidate]:
    """Votes of the k nearest by cosine, as DINO's evaluation has them; many neighbours first."""
    count = len(samples.features)
    numbers = [n for n in NEIGHBOURS if n <= count] or [count]
    weights = np.ones(count) if samples.weights is None else samples.weights
    shared = {
        "bank": F.normalize(samples.features, dim=1),
        "answers": single(samples.answers),
        "log_weights": single(np.log(np.maximum(weights, LEAST_WEIGHT))),
        "temperature": torch.tensor(temperature),
        "link": whole(samples.link),
    }
    for number in sorted(path(k, numbers), reverse=True):
        used = min(int(number), count)
        yield Candidate(chosen={"k": used}, tensors={**shared, "k": whole(used)})


def class_mean(samples: Samples, *, temperature: float) -> Iterator[Candidate]:
    """The cosine between a sample and the mean of each class, over `temperature`."""
    features = F.normalize(samples.features.double(), dim=1)
    shares = torch.from_numpy(samples.answers)
    if samples.weights is not None:
        shares = shares * torch.from_numpy(samples.weights)[:, None]
    means = F.normalize(shares.T @ features, dim=1)
    yield Candidate(chosen={}, tensors={"directions": (means / temperature).float()})
