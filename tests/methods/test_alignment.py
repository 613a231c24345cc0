"""Alignment with unlabelled target data: gold values, limits, and which way gradients go."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bench.methods.alignment import (
    certainty_weights,
    class_confusion,
    conditioned,
    domain_loss,
    multi_kernel_discrepancy,
    reversal_strength,
    reversed_gradient,
)

CLASSES = np.arange(12) % 3
FEATURES = torch.from_numpy(
    np.sin(0.37 * np.arange(1, 49) ** 2).reshape(12, 4) + np.eye(3, 4)[CLASSES]
)
SOURCE, TARGET = FEATURES[:6], FEATURES[6:]


@pytest.mark.parametrize(("step", "expected"), [(0, 0), (1000, 0.46212), (5000, 0.98661)])
def test_reversal_grows_to_its_gold_values(step: int, expected: float) -> None:
    """Those by steps are of a training of 10,000."""
    found = reversal_strength(step / 10_000)
    assert found == pytest.approx(expected, abs=5e-6)
    assert found == pytest.approx(2 / (1 + np.exp(-step / 1000)) - 1, abs=1e-12)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_reversal_turns_the_gradient_in_front_of_it_and_no_other(strength: float) -> None:
    own, plain = (FEATURES.clone().requires_grad_() for _ in range(2))
    layer = torch.linspace(-1, 1, 4, dtype=torch.float64).requires_grad_()
    turned = reversed_gradient(own, strength)
    assert torch.equal(turned, own)
    front, behind = torch.autograd.grad((turned @ layer).tanh().sum(), [own, layer])
    expected, same = torch.autograd.grad((plain @ layer).tanh().sum(), [plain, layer])
    assert torch.equal(front, -strength * expected)
    assert torch.equal(behind, same)


def test_a_strength_of_0_leaves_the_gradient_of_source_only_to_the_bit() -> None:
    own = FEATURES.clone().requires_grad_()
    layer = torch.linspace(-1, 1, 4, dtype=torch.float64)
    targets = torch.from_numpy(CLASSES[:6])
    (alone,) = torch.autograd.grad(F.cross_entropy(own[:6], targets), own)
    logits = reversed_gradient(own, 0.0) @ layer
    loss = F.cross_entropy(own[:6], targets) + domain_loss(logits[:6], logits[6:])
    assert torch.equal(torch.autograd.grad(loss, own)[0], alone)


def test_domain_loss_is_binary_cross_entropy_with_source_as_1() -> None:
    logits, weights = FEATURES[:, 0], FEATURES[:, 1].abs() + 0.1
    ones = torch.cat([torch.ones(6), torch.zeros(6)]).double()
    plain = F.binary_cross_entropy_with_logits(logits, ones)
    assert domain_loss(logits[:6], logits[6:]).item() == pytest.approx(plain.item(), rel=1e-12)
    each = F.binary_cross_entropy_with_logits(logits, ones, reduction="none").numpy()
    by_hand = sum(np.average(each[s], weights=weights[s].numpy()) for s in (np.s_[:6], np.s_[6:]))
    weighted = domain_loss(logits[:6], logits[6:], weights).item()
    assert weighted == pytest.approx(by_hand / 2, rel=1e-12)


def test_conditioned_features_are_outer_products_without_gradient_to_the_logits() -> None:
    features, logits = (FEATURES.clone().requires_grad_() for _ in range(2))
    joint = conditioned(features, logits)
    expected = torch.einsum("nc,nd->ncd", logits.softmax(dim=1), features).flatten(1)
    torch.testing.assert_close(joint, expected)
    assert torch.autograd.grad(joint.sum(), logits, allow_unused=True)[0] is None


def test_random_maps_keep_inner_products_on_average() -> None:
    draw, logits = torch.Generator().manual_seed(0), FEATURES[:, :3]
    maps = (
        torch.randn(4, 200_000, generator=draw, dtype=torch.float64),
        torch.randn(3, 200_000, generator=draw, dtype=torch.float64),
    )
    whole, found = conditioned(FEATURES, logits), conditioned(FEATURES, logits, maps)
    torch.testing.assert_close(found @ found.T, whole @ whole.T, rtol=0, atol=0.1)


def test_certain_samples_count_more() -> None:
    logits = torch.tensor([[0.0, 0.0], [50.0, 0.0]], dtype=torch.float64)
    weights = certainty_weights(logits)
    torch.testing.assert_close(weights, torch.tensor([1.5, 2.0]).double())


def test_discrepancy_has_its_gold_value_and_is_symmetric() -> None:
    value = multi_kernel_discrepancy(SOURCE, TARGET).item()
    assert value == pytest.approx(0.4016701, abs=5e-8)
    assert multi_kernel_discrepancy(TARGET, SOURCE).item() == pytest.approx(value, rel=1e-12)


def test_discrepancy_of_samples_that_are_all_alike_is_0() -> None:
    alike = torch.ones(3, 2, dtype=torch.float64, requires_grad=True)
    value = multi_kernel_discrepancy(alike, alike.detach())
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert bool(torch.autograd.grad(value, alike)[0].isfinite().all())


def test_confusion_has_its_gold_value() -> None:
    assert class_confusion(FEATURES[:, :3]).item() == pytest.approx(0.6393201, abs=5e-8)


def test_certain_predictions_confuse_nothing() -> None:
    assert class_confusion(1000 * torch.eye(3, dtype=torch.float64)).item() == pytest.approx(0)
