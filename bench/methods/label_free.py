"""Label-free validators: how well a model suits target data, from what it predicts there.

Each takes probabilities `[n, classes]` of unlabelled samples; more is better. They guess at the
accuracy that labels would show, and may guess wrong: an oracle belongs beside them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Probabilities = npt.NDArray[np.floating]

NEIGHBOUR_TEMPERATURE = 0.05


def negative_entropy(probabilities: Probabilities) -> float:
    """Minus the mean entropy of predictions in nats: certain models score high, right or wrong."""
    return -float(_entropy(probabilities).mean())


def information_maximisation(probabilities: Probabilities) -> float:
    """Entropy of the mean prediction minus mean entropy, in nats: certain, and of all classes."""
    return float(_entropy(probabilities.mean(axis=0)) - _entropy(probabilities).mean())


def neighbourhood_density(probabilities: Probabilities) -> float:
    """How many others each sample is as near to, in nats (SND: Saito et al., 2021).

    "Tune it the Right Way: Unsupervised Validation of Domain Adaptation via Soft Neighborhood
    Density": the mean entropy of the softmax of cosines to all others, divided by 0.05.
    """
    unit = probabilities / np.linalg.norm(probabilities, axis=1, keepdims=True)
    near = unit @ unit.T / NEIGHBOUR_TEMPERATURE
    np.fill_diagonal(near, -np.inf)
    shares = np.exp(near - near.max(axis=1, keepdims=True))
    return float(_entropy(shares / shares.sum(axis=1, keepdims=True)).mean())


def _entropy(shares: Probabilities) -> Probabilities:
    """In nats, along the last axis; what is 0 adds nothing."""
    logarithms = np.log(np.where(shares > 0, shares, 1))
    return np.asarray(-(shares * logarithms).sum(axis=-1))
