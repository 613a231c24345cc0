"""Label-free validators, against sums by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

from bench.methods.label_free import (
    information_maximisation,
    negative_entropy,
    neighbourhood_density,
)

P = softmax(np.cos(0.7 * np.outer(np.arange(1, 13), np.arange(1, 6))), axis=1)


def test_entropy_and_information_are_those_of_scipy() -> None:
    mean = entropy(P, axis=1).mean()
    assert negative_entropy(P) == pytest.approx(-mean, rel=1e-12)
    assert information_maximisation(P) == pytest.approx(entropy(P.mean(axis=0)) - mean, rel=1e-12)


def test_density_is_the_mean_entropy_of_nearness_to_all_others() -> None:
    each = []
    for i, own in enumerate(P):
        others = [o for j, o in enumerate(P) if j != i]
        cosines = [own @ o / np.sqrt((own @ own) * (o @ o)) for o in others]
        each.append(entropy(softmax(np.array(cosines) / 0.05)))
    assert neighbourhood_density(P) == pytest.approx(np.mean(each), rel=1e-12)


def test_limits() -> None:
    certain = np.eye(3)[np.arange(6) % 3]
    assert negative_entropy(certain) == 0
    assert information_maximisation(certain) == pytest.approx(np.log(3))
    assert information_maximisation(certain[[0, 0, 0]]) == pytest.approx(0)
    assert neighbourhood_density(certain[[0] * 5]) == pytest.approx(np.log(4))
