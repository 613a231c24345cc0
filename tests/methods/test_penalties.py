"""Penalties: their definition, their gradients, and what they hold a training to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bench.methods.penalties import PENALTIES, l2_sp

Tensors = dict[str, Tensor]


def _parameters() -> Tensors:
    generator = torch.Generator().manual_seed(0)
    shapes = {"stem/conv.weight": (3, 2), "stem/conv.bias": (3,), "head/fc.weight": (2, 3)}
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }


def test_l2_sp_of_a_shift_is_half_its_square_for_each_parameter() -> None:
    start = _parameters()
    moved = {name: tensor + 0.5 for name, tensor in start.items()}
    value = l2_sp(moved, start, weight=0.04, head_weight=0.0)
    assert value.item() == pytest.approx(0.04 / 2 * 0.25 * 9, rel=1e-12)


def test_l2_sp_holds_the_head_to_zero() -> None:
    start = _parameters()
    squares = float(start["head/fc.weight"].square().sum())
    assert l2_sp(start, start, weight=0.04).item() == pytest.approx(0.02 * squares, rel=1e-12)
    value = l2_sp(start, start, weight=0.04, head_weight=0.1)
    assert value.item() == pytest.approx(0.05 * squares, rel=1e-12)


def test_l2_sp_and_its_gradient_vanish_at_the_start() -> None:
    start = _parameters()
    own = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
    value = l2_sp(own, start, weight=0.3, head_weight=0.0)
    value.backward()  # type: ignore[no-untyped-call]
    assert value.item() == 0
    assert all(bool((tensor.grad == 0).all()) for tensor in own.values())


@pytest.mark.parametrize("name", PENALTIES)
def test_gradients_are_right_and_parameters_stay(name: str) -> None:
    start = _parameters()
    names = list(start)
    function = PENALTIES.get(name).function
    values = [(tensor + 0.1 * i).requires_grad_() for i, tensor in enumerate(start.values())]
    before = [value.detach().clone() for value in values]

    def penalty(*tensors: Tensor) -> Tensor:
        return function(dict(zip(names, tensors, strict=True)), start)

    assert torch.autograd.gradcheck(penalty, values)
    assert all(torch.equal(a, b) for a, b in zip(before, values, strict=True))
    assert "weight" in PENALTIES.get(name).options.model_fields
