"""Weights of samples in the loss: against the written mean, in pieces and in stacks."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.methods.objectives import CrossEntropy, StackedCrossEntropy

SAMPLES, CLASSES = 13, 4
CLASS_WEIGHTS = torch.tensor([0.3, 2.0, 1.0, 5.0], dtype=torch.float64)
SETTINGS = list(product((None, CLASS_WEIGHTS), (0.0, 0.2), (0.0, 2.0)))


def batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels, and a weight of each sample."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(SAMPLES, CLASSES, generator=generator, dtype=torch.float64)
    labels = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    return logits, labels, 0.1 + 9 * torch.rand(SAMPLES, generator=generator, dtype=torch.float64)


def targets_of(labels: Tensor, weights: Tensor) -> Tensor:
    return F.one_hot(labels, CLASSES).double() * weights[:, None]


def written(
    logits: Tensor,
    labels: Tensor,
    weights: Tensor,
    class_weights: Tensor | None,
    smoothing: float,
    gamma: float,
) -> float:
    """The weighted mean, sample by sample."""
    total = norm = spread = 0.0
    for row, label, weight in zip(logits, labels.tolist(), weights.tolist(), strict=True):
        log = row.log_softmax(dim=0)
        own = weight * (1.0 if class_weights is None else float(class_weights[label]))
        total += own * (1 - float(log[label].exp())) ** gamma * -float(log[label])
        norm += own
        spread += weight * -float(log.mean())
    return (1 - smoothing) * total / norm + smoothing * spread / float(weights.sum())


@pytest.mark.parametrize(("class_weights", "smoothing", "gamma"), SETTINGS)
def test_is_the_written_mean_and_pieces_add_up(
    class_weights: Tensor | None, smoothing: float, gamma: float
) -> None:
    logits, labels, weights = batch()
    objective = CrossEntropy(
        class_weights=class_weights, label_smoothing=smoothing, gamma=gamma, weighs_samples=True
    )
    targets = targets_of(labels, weights)
    expected = written(logits, labels, weights, class_weights, smoothing, gamma)
    assert float(objective.loss(logits, targets)) == pytest.approx(expected, rel=1e-12)
    pieces = [slice(0, 5), slice(5, 6), slice(6, SAMPLES)]
    parts = [
        objective.loss(logits[p], targets[p], objective.share(targets[p], targets)) for p in pieces
    ]
    assert float(sum(parts)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("class_weights", "smoothing", "gamma"), SETTINGS)
def test_the_scale_of_weights_has_no_effect_and_equal_ones_have_none(
    class_weights: Tensor | None, smoothing: float, gamma: float
) -> None:
    logits, labels, weights = batch()
    options = {"class_weights": class_weights, "label_smoothing": smoothing, "gamma": gamma}
    weighted = CrossEntropy(weighs_samples=True, **options)  # type: ignore[arg-type]
    plain = CrossEntropy(**options)  # type: ignore[arg-type]
    one, other = (weighted.loss(logits, targets_of(labels, w)) for w in (weights, 7 * weights))
    assert one.item() == pytest.approx(other.item(), rel=1e-12)
    equal = weighted.loss(logits, targets_of(labels, torch.full_like(weights, 3.0)))
    assert equal.item() == pytest.approx(plain.loss(logits, labels).item(), rel=1e-12)


def test_a_stack_is_its_rows() -> None:
    rows = [
        CrossEntropy(
            class_weights=None if own is None else own.float(),
            label_smoothing=smoothing,
            weighs_samples=True,
        )
        for own, smoothing in product((None, CLASS_WEIGHTS), (0.0, 0.2))
    ]
    batches = [batch(seed) for seed in range(len(rows))]
    logits = torch.stack([each[0] for each in batches]).float()
    targets = torch.stack([targets_of(labels, weights) for _, labels, weights in batches]).float()
    together = StackedCrossEntropy(rows, CLASSES, torch.Tensor.cpu).loss(logits, targets)
    alone = [row.loss(own, t) for row, own, t in zip(rows, logits, targets, strict=True)]
    assert together.tolist() == pytest.approx([loss.item() for loss in alone], rel=1e-5)
