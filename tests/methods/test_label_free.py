"""Label-free validators, against sums by hand, other implementations and their limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from bench.methods.label_free import (
    VALIDATORS,
    diversity,
    information_maximisation,
    negative_entropy,
    nuclear_norm,
    soft_neighbourhood_density,
)

P = softmax(np.cos(0.7 * np.outer(np.arange(1, 13), np.arange(1, 6))), axis=1)


def test_entropies_are_those_of_scipy() -> None:
    mean, of_mean = entropy(P, axis=1).mean(), entropy(P.mean(axis=0))
    assert negative_entropy(P) == pytest.approx(-mean, rel=1e-12)
    assert diversity(P) == pytest.approx(of_mean, rel=1e-12)
    assert information_maximisation(P) == pytest.approx(of_mean - mean, rel=1e-12)


def test_density_is_the_mean_entropy_of_nearness_to_all_others() -> None:
    each = []
    for i, own in enumerate(P):
        others = [o for j, o in enumerate(P) if j != i]
        cosines = [own @ o / np.sqrt((own @ own) * (o @ o)) for o in others]
        each.append(entropy(softmax(np.array(cosines) / 0.05)))
    assert soft_neighbourhood_density(P) == pytest.approx(np.mean(each), rel=1e-12)


def test_nuclear_norm_is_that_of_torch_as_a_share_of_its_bound() -> None:
    known = torch.linalg.matrix_norm(torch.from_numpy(P), ord="nuc").item()
    assert nuclear_norm(P) == pytest.approx(known / np.sqrt(12 * 5), rel=1e-12)
    # Of two rows the squares of both singular values add up to the trace of PPᵀ.
    two = P[:2] @ P[:2].T
    by_hand = np.sqrt(np.trace(two) + 2 * np.sqrt(np.linalg.det(two)))
    assert nuclear_norm(P[:2]) == pytest.approx(by_hand / 2, rel=1e-12)


def test_limits() -> None:
    certain = np.eye(3)[np.arange(6) % 3]
    one_class, unsure = certain[[0] * 6], np.full((6, 3), 1 / 3)
    for predicted, expected in (
        (certain, (0, np.log(3), np.log(3), np.log(1), 1)),
        (one_class, (0, 0, 0, np.log(5), 1 / np.sqrt(3))),
        (unsure, (-np.log(3), np.log(3), 0, np.log(5), 1 / 3)),
    ):
        found = [each.function(predicted) for each in VALIDATORS.values()]
        assert found == pytest.approx(expected, abs=1e-6)
        single = [each.function(predicted[:1]) for each in VALIDATORS.values()]
        assert np.isfinite(single).all()


def test_validators_know_nothing_of_precision_and_order() -> None:
    order = np.random.default_rng(0).permutation(len(P))
    for each in VALIDATORS.values():
        assert each.function(P[order]) == pytest.approx(each.function(P), rel=1e-12)
        assert each.function(P.astype(np.float32)) == pytest.approx(each.function(P), rel=1e-5)
