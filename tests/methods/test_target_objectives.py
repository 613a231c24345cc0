"""What is minimised of numbers and of labels: against torch, in pieces, and in a stack."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.methods.objectives import OBJECTIVES, Objective, recorded_loss, stacked
from bench.methods.target_tasks import MULTI_LABEL, REGRESSION

SAMPLES, OUTPUTS = 11, 3
WEIGHTS = torch.tensor([0.3, 2.0, 5.0], dtype=torch.float64)


def _batch(labels: bool) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(SAMPLES, OUTPUTS, generator=draw, dtype=torch.float64)
    targets = torch.randn(SAMPLES, OUTPUTS, generator=draw, dtype=torch.float64)
    targets[0] = logits[0]  # where the absolute error has a corner
    mixed = targets.sigmoid().where(targets > 1, (targets > 0).double())
    return logits, mixed if labels else targets


def _made(name: str, weights: Tensor | None, smoothing: float, **options: Any) -> Objective:
    objective: Objective = OBJECTIVES.get(name).function(weights, smoothing, **options)
    return objective


def _smooth(targets: Tensor, smoothing: float) -> Tensor:
    return (1 - smoothing) * targets + smoothing / 2


CASES: list[tuple[str, Tensor | None, float, dict[str, Any], Any]] = [
    ("mse", None, 0.0, {}, F.mse_loss),
    ("mae", None, 0.0, {}, F.l1_loss),
    ("huber", None, 0.0, {}, F.huber_loss),
    ("huber", None, 0.0, {"delta": 0.5}, lambda x, y: F.huber_loss(x, y, delta=0.5)),
    ("binary_cross_entropy", None, 0.0, {}, F.binary_cross_entropy_with_logits),
    (
        "binary_cross_entropy",
        WEIGHTS,
        0.25,
        {},
        lambda x, y: F.binary_cross_entropy_with_logits(x, _smooth(y, 0.25), pos_weight=WEIGHTS),
    ),
]


@pytest.mark.parametrize(("name", "weights", "smoothing", "options", "reference"), CASES)
def test_is_torchs_with_its_gradient(
    name: str, weights: Tensor | None, smoothing: float, options: dict[str, Any], reference: Any
) -> None:
    logits, targets = _batch(name == "binary_cross_entropy")
    ours, expected = (logits.clone().requires_grad_() for _ in range(2))
    loss = _made(name, weights, smoothing, **options).loss(ours, targets)
    wanted = reference(expected, targets)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-12)
    loss.backward()  # type: ignore[no-untyped-call]
    wanted.backward()
    torch.testing.assert_close(ours.grad, expected.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("name", "weights", "smoothing", "options", "_"), CASES)
def test_pieces_add_up_to_the_batch(
    name: str, weights: Tensor | None, smoothing: float, options: dict[str, Any], _: Any
) -> None:
    logits, targets = _batch(name == "binary_cross_entropy")
    objective = _made(name, weights, smoothing, **options)
    parts = [
        objective.loss(logits[p], targets[p], objective.share(targets[p], targets))
        for p in (slice(0, 4), slice(4, 5), slice(5, SAMPLES))
    ]
    whole = objective.loss(logits, targets).item()
    assert sum(part.item() for part in parts) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("names", [("mse", "mae", "huber"), ("binary_cross_entropy",)])
def test_heads_in_a_stack_have_the_losses_of_each_alone(names: tuple[str, ...]) -> None:
    labels = names == ("binary_cross_entropy",)
    own = [case for case in CASES if case[0] in names]
    objectives = [_made(name, w, s, **options) for name, w, s, options, _ in own]
    logits, targets = _batch(labels)
    rows = torch.stack([logits + row for row in range(len(own))]).requires_grad_()
    every = targets.expand(len(own), *targets.shape)
    together = stacked(objectives, OUTPUTS, lambda tensor: tensor.double())
    losses = together.loss(rows, every)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    task = MULTI_LABEL if labels else REGRESSION
    assert rows.grad is not None
    for row, objective in enumerate(objectives):
        alone = rows[row].detach().clone().requires_grad_()
        loss = objective.loss(alone, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        assert losses[row].item() == pytest.approx(loss.item(), rel=1e-12)
        torch.testing.assert_close(rows.grad[row], alone.grad, rtol=1e-10, atol=1e-12)
        recorded = recorded_loss(alone.detach(), targets, task).item()
        assert together.recorded(rows, every)[row].item() == pytest.approx(recorded, rel=1e-12)


def test_recorded_losses_are_plain() -> None:
    values, labels = _batch(labels=False), _batch(labels=True)
    assert recorded_loss(*values, REGRESSION) == F.mse_loss(*values)
    torch.testing.assert_close(
        recorded_loss(*labels, MULTI_LABEL), F.binary_cross_entropy_with_logits(*labels)
    )
