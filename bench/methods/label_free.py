"""Label-free validators: how well a model suits target data, from what it predicts there.

Each takes probabilities `[n, classes]` of samples without labels and computes in float64; more is
better. They guess at the accuracy that labels would show, and may guess wrong: most of them are the
higher, the more certain a model is, right or wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Probabilities = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

NEIGHBOUR_TEMPERATURE = 0.05


def negative_entropy(probabilities: Probabilities) -> float:
    """Minus the mean entropy of predictions, in nats; −log classes to 0.

    Morerio et al., Minimal-Entropy Correlation Alignment for Unsupervised Deep Domain Adaptation,
    2018, choose by it.
    """
    return 0.0 - float(_entropy(_double(probabilities)).mean())


def diversity(probabilities: Probabilities) -> float:
    """The entropy of the mean prediction, in nats; 0 to log classes.

    Highest where all classes are predicted alike often, whatever the classes are: Musgrave et al.,
    Three New Validators and a Large-Scale Benchmark Ranking for Unsupervised Domain Adaptation,
    2022, compare it with others.
    """
    return float(_entropy(_double(probabilities).mean(axis=0)))


def information_maximisation(probabilities: Probabilities) -> float:
    """`diversity` plus `negative_entropy`: the mutual information of samples and predictions.

    In nats, 0 to log classes. Krause et al., Discriminative Clustering by Regularized Information
    Maximization, 2010.
    """
    return diversity(probabilities) + negative_entropy(probabilities)


def soft_neighbourhood_density(probabilities: Probabilities) -> float:
    """How many others each sample is as near to, in nats; 0 to log (n − 1).

    The mean entropy of the softmax of the cosines of a sample's prediction to those of all others,
    divided by 0.05. Saito et al., Tune it the Right Way: Unsupervised Validation of Domain
    Adaptation via Soft Neighborhood Density, 2021. Values of different n cannot be compared.
    """
    values = _double(probabilities)
    count = len(values)
    if count < 2:
        return 0.0
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    others = ~np.eye(count, dtype=bool)
    near = (unit @ unit.T)[others].reshape(count, count - 1) / NEIGHBOUR_TEMPERATURE
    shares = np.exp(near - near.max(axis=1, keepdims=True))
    return float(_entropy(shares / shares.sum(axis=1, keepdims=True)).mean())


def nuclear_norm(probabilities: Probabilities) -> float:
    """The sum of the singular values of all predictions, as a share of what it can be at most.

    That is √(n · min(n, classes)), where predictions are certain and of all classes alike. Cui et
    al., Towards Discriminability and Diversity: Batch Nuclear-norm Maximization under Label
    Insufficient Situations, 2020; here of all samples at once.
    """
    values = _double(probabilities)
    most = np.sqrt(len(values) * min(values.shape))
    return float(np.linalg.svd(values, compute_uv=False).sum() / most)


def _double(probabilities: Probabilities) -> Floats:
    return np.asarray(probabilities, dtype=np.float64)


def _entropy(shares: Floats) -> Floats:
    """In nats, along the last axis; what is 0 adds nothing."""
    logarithms = np.log(np.where(shares > 0, shares, 1))
    return np.asarray(-(shares * logarithms).sum(axis=-1))


@dataclass(frozen=True, kw_only=True)
class Validator:
    """A validator as it is listed, with what it says in half a line."""

    title: str
    function: Callable[[Probabilities], float]
    meaning: str


VALIDATORS: Mapping[str, Validator] = {
    "negative_entropy": Validator(
        title="negative entropy",
        function=negative_entropy,
        meaning="minus the mean entropy of predictions in nats: how certain they are",
    ),
    "diversity": Validator(
        title="diversity",
        function=diversity,
        meaning="the entropy of the mean prediction in nats: how alike often classes are predicted",
    ),
    "information_maximisation": Validator(
        title="information maximisation",
        function=information_maximisation,
        meaning="diversity plus negative entropy: certain, and of all classes",
    ),
    "soft_neighbourhood_density": Validator(
        title="soft neighbourhood density",
        function=soft_neighbourhood_density,
        meaning="how many others a sample's prediction is near to, as an entropy in nats",
    ),
    "nuclear_norm": Validator(
        title="nuclear norm",
        function=nuclear_norm,
        meaning="the sum of the singular values of all predictions, as a share of the most",
    ),
}
