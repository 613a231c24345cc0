"""What is minimised: against its definition in double precision, and on a task it must solve."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.methods.objectives import (
    OBJECTIVES,
    CrossEntropy,
    Objective,
    PairDistance,
    StackedCrossEntropy,
)
from tests.written_loss import written_loss

SAMPLES, CLASSES = 13, 4
WEIGHTS = torch.tensor([0.3, 2.0, 1.0, 5.0], dtype=torch.float64)


def _batch(soft: bool, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(SAMPLES, CLASSES, generator=generator, dtype=torch.float64)
    hard = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    if not soft:
        return logits, hard
    other = F.one_hot(hard.roll(1), CLASSES).double()
    return logits, 0.7 * F.one_hot(hard, CLASSES).double() + 0.3 * other


SETTINGS = list(product((None, WEIGHTS), (0.0, 0.2), (0.0, 2.0), (False, True)))


@pytest.mark.parametrize(("weights", "smoothing", "gamma", "soft"), SETTINGS)
def test_is_the_written_mean_with_its_gradient(
    weights: Tensor | None, smoothing: float, gamma: float, soft: bool
) -> None:
    logits, targets = _batch(soft)
    objective = CrossEntropy(class_weights=weights, label_smoothing=smoothing, gamma=gamma)
    ours, expected = (logits.clone().requires_grad_() for _ in range(2))
    loss = objective.loss(ours, targets)
    reference = written_loss(expected, targets, weights, smoothing, gamma)
    assert loss.item() == pytest.approx(reference.item(), rel=1e-12)
    loss.backward()  # type: ignore[no-untyped-call]
    reference.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(ours.grad, expected.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("weights", "smoothing", "gamma", "soft"), SETTINGS)
def test_pieces_add_up_to_the_batch(
    weights: Tensor | None, smoothing: float, gamma: float, soft: bool
) -> None:
    logits, targets = _batch(soft)
    objective = CrossEntropy(class_weights=weights, label_smoothing=smoothing, gamma=gamma)
    pieces = [slice(0, 5), slice(5, 6), slice(6, SAMPLES)]
    parts = [
        objective.loss(logits[p], targets[p], objective.share(targets[p], targets)) for p in pieces
    ]
    assert sum(parts).item() == pytest.approx(objective.loss(logits, targets).item(), rel=1e-12)


@pytest.mark.parametrize("soft", [False, True])
def test_a_stack_is_its_rows(soft: bool) -> None:
    rows = [
        CrossEntropy(class_weights=None if w is None else w.float(), label_smoothing=smoothing)
        for w, smoothing in product((None, WEIGHTS), (0.0, 0.2))
    ]
    batches = [_batch(soft, seed) for seed in range(len(rows))]
    logits = torch.stack([batch[0] for batch in batches]).float()
    targets = torch.stack([batch[1] for batch in batches])
    targets = targets.float() if soft else targets
    together = StackedCrossEntropy(rows, CLASSES, torch.Tensor.cpu).loss(logits, targets)
    alone = [row.loss(own, t) for row, own, t in zip(rows, logits, targets, strict=True)]
    assert together.tolist() == pytest.approx([loss.item() for loss in alone], rel=1e-5)


def test_without_a_focus_focal_is_cross_entropy() -> None:
    logits, targets = _batch(soft=False)
    focal: Objective = OBJECTIVES.get("focal").function(None, 0.1, gamma=0.0)
    plain: Objective = OBJECTIVES.get("cross_entropy").function(None, 0.1)
    assert focal.loss(logits, targets) == plain.loss(logits, targets)


def test_a_focus_has_a_finite_gradient_where_a_class_is_certain() -> None:
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
    CrossEntropy(gamma=0.5).loss(logits, torch.tensor([0])).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("mixes", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_pair_of_settings_learns_a_separable_task(
    weighted: bool, mixes: bool, smoothing: float, gamma: float
) -> None:
    """300 samples of one class and 4 of the other, far apart, in batches of 16."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.cat([torch.zeros(300), torch.ones(4)]).long()
    inputs = 0.3 * torch.randn(304, 8, generator=generator) + 4.0 * (labels[:, None] - 0.5)
    weights = 304 / (2 * torch.bincount(labels)) if weighted else None
    objective = CrossEntropy(class_weights=weights, label_smoothing=smoothing, gamma=gamma)
    layer = torch.nn.Linear(8, 2)
    torch.nn.init.zeros_(layer.weight)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.05, momentum=0.9)
    for _ in range(10):
        for batch in torch.randperm(304, generator=generator).split(16):
            seen, targets = inputs[batch], labels[batch]
            if mixes:
                kept = float(torch.rand(1, generator=generator))
                soft = F.one_hot(targets, 2).float()
                seen = kept * seen + (1 - kept) * seen.roll(1, dims=0)
                targets = kept * soft + (1 - kept) * soft.roll(1, dims=0)
            optimizer.zero_grad()
            objective.loss(layer(seen), targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    right = layer(inputs).argmax(dim=1) == labels
    assert right[labels == 0].float().mean() == 1
    assert right[labels == 1].float().mean() == 1


def test_a_batch_of_mixes_weighs_as_much_as_any_other() -> None:
    """Class weights with soft labels are normalised as with hard ones: equal logits, equal loss."""
    weights = torch.tensor([0.5, 38.0])
    objective = CrossEntropy(class_weights=weights)
    logits = torch.zeros(6, 2)
    hard = torch.tensor([0, 0, 0, 0, 0, 1])
    soft = 0.6 * F.one_hot(hard, 2).float() + 0.4 * F.one_hot(hard.roll(1), 2).float()
    expected = pytest.approx(torch.log(torch.tensor(2.0)).item(), rel=1e-6)
    assert objective.loss(logits, hard).item() == expected
    assert objective.loss(logits, soft).item() == expected


def test_pairs_are_measured_by_the_cosines_of_their_features() -> None:
    """cos = 1/√2 of one class and 3/5 of two, by hand; the length of a vector does not count."""
    features = torch.tensor([[2.0, 0], [1, 1], [0, 5], [4, 3]], dtype=torch.float64)
    classes = torch.tensor([1, 1, 0, 2])
    expected = ((1 - 2**-0.5) ** 2 + 0.6**2) / 2
    assert PairDistance().loss(features, classes).item() == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(
        lambda each: PairDistance().loss(each, classes), features.requires_grad_()
    )


def test_pieces_of_pairs_add_up_to_the_batch() -> None:
    features, classes = _batch(soft=False)
    objective, features, classes = PairDistance(), features[:12], classes[:12]
    whole = objective.loss(features, classes).item()
    pieces = [slice(0, 4), slice(4, 6), slice(6, 12)]
    parts = [
        objective.loss(features[p], classes[p], objective.share(classes[p], classes))
        for p in pieces
    ]
    assert sum(parts).item() == pytest.approx(whole, rel=1e-12)
