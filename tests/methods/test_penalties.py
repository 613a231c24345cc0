"""Penalties: their definition, their gradients, and what they hold a training to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.methods.penalties import (
    PENALTIES,
    StartLayer,
    bss,
    co_tuning,
    delta,
    feature_terms,
    l2_sp,
    needs_source_head,
)
from tests.execution.plans import plan_of

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


@pytest.mark.parametrize("name", [n for n in PENALTIES if not PENALTIES.get(n).traits.of_features])
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


# Of features ------------------------------------------------------------------------------------

CLASSES = np.arange(12) % 3
FEATURES = np.sin(0.37 * np.arange(1, 49) ** 2).reshape(12, 4) + np.eye(3, 4)[CLASSES]
LOGITS = np.cos(0.7 * np.outer(np.arange(1, 13), np.arange(1, 6)))


def _bss(features: Tensor, k: int) -> Tensor:
    return bss(features, torch.from_numpy(CLASSES), weight=1.0, k=k)


@pytest.mark.parametrize(("k", "expected"), [(1, 4.0294135), (2, 9.3956411)])
def test_bss_has_its_gold_values(k: int, expected: float) -> None:
    assert _bss(torch.from_numpy(FEATURES), k).item() == pytest.approx(expected, abs=5e-8)


def test_bss_of_all_singular_values_is_the_squared_norm() -> None:
    for k in (4, 9):
        squares = (FEATURES**2).sum()
        assert _bss(torch.from_numpy(FEATURES), k).item() == pytest.approx(squares, rel=1e-12)
    fewer_images = torch.from_numpy(FEATURES[:2])
    least = np.linalg.eigvalsh(FEATURES[:2] @ FEATURES[:2].T)[0]
    assert _bss(fewer_images, 1).item() == pytest.approx(least, rel=1e-12)


def _layers(shift: float) -> tuple[dict[str, Tensor], dict[str, StartLayer]]:
    draw = np.random.default_rng(0)
    layers, start = {}, {}
    for name, shape in (("layer1", (5, 3, 4)), ("layer2", (5, 6, 1))):
        known = draw.normal(size=shape)
        counts = torch.from_numpy(draw.normal(size=shape[1])).softmax(dim=0)
        layers[name] = torch.from_numpy(known + shift * draw.normal(size=shape))
        start[name] = StartLayer(torch.from_numpy(known), counts)
    return layers, start


def _written_delta(layers: dict[str, Tensor], start: dict[str, StartLayer], alike: bool) -> float:
    """Sample by sample and channel by channel, as the paper has it."""
    total = 0.0
    for name, own in layers.items():
        samples, channels, positions = own.shape
        for sample in range(samples):
            for channel in range(channels):
                counts = 1 / channels if alike else float(start[name].channel_weights[channel])
                moved = (own - start[name].activations)[sample, channel].numpy()
                total += counts * np.linalg.norm(moved) ** 2 / positions
    return total / 2


@pytest.mark.parametrize("attention", [True, False])
def test_delta_is_what_its_formula_says(attention: bool) -> None:
    layers, start = _layers(0.3)
    value = delta(layers, start, weight=0.7, attention=attention)
    expected = 0.7 * _written_delta(layers, start, alike=not attention)
    assert value.item() == pytest.approx(expected, rel=1e-12)


def test_delta_and_its_gradient_vanish_at_the_start() -> None:
    layers, start = _layers(0.0)
    own = {name: each.requires_grad_() for name, each in layers.items()}
    value = delta(own, start, weight=1.0)
    value.backward()  # type: ignore[no-untyped-call]
    assert value.item() == 0
    assert all(each.grad is not None and not each.grad.any() for each in own.values())


def test_delta_counts_channels_alike_where_their_weights_are_equal() -> None:
    layers, start = _layers(0.3)
    equal = {
        name: StartLayer(each.activations, torch.zeros_like(each.channel_weights).softmax(dim=0))
        for name, each in start.items()
    }
    alike = delta(layers, equal, weight=1.0, attention=False)
    assert delta(layers, equal, weight=1.0).item() == pytest.approx(alike.item(), rel=1e-12)


def test_co_tuning_is_a_cross_entropy_with_soft_classes() -> None:
    soft = np.random.default_rng(0).dirichlet(np.ones(5), size=12)
    logs = LOGITS - np.log(np.exp(LOGITS).sum(axis=1, keepdims=True))
    for weights in (np.ones(12), np.arange(1.0, 13.0)):
        expected = -2.3 * np.average((soft * logs).sum(axis=1), weights=weights)
        targets = torch.from_numpy(soft * weights[:, None])
        value = co_tuning(torch.from_numpy(LOGITS), targets, weight=2.3)
        assert value.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "name",
    # Gradients of those of target data stop at widths and weights by definition.
    [n for n in PENALTIES if (t := PENALTIES.get(n).traits).of_features and not t.of_target],
)
def test_gradients_of_a_network_of_two_layers_are_right(name: str) -> None:
    draw = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    inputs, first, second = drawn(6, 4), drawn(5, 4), drawn(3, 5)
    registered = PENALTIES.get(name)
    hidden, outputs = (inputs @ first.T).tanh(), (inputs @ first.T).tanh() @ second.T

    def penalty(first: Tensor, second: Tensor) -> Tensor:
        own = (inputs @ first.T).tanh()
        if registered.traits.needs == "features":
            return registered.function(own @ second.T, None)
        if registered.traits.needs == "source_head":
            return registered.function(own @ second.T, outputs.softmax(dim=1))
        layers = {"hidden": own[:, :, None], "out": (own @ second.T)[:, :, None]}
        start = {
            name: StartLayer(each[:, :, None], each.mean(dim=0).softmax(dim=0))
            for name, each in (("hidden", hidden), ("out", outputs))
        }
        return registered.function(layers, start)

    moved = [(each + 0.1).requires_grad_() for each in (first, second)]
    assert torch.autograd.gradcheck(penalty, moved)


def test_what_weighs_nothing_is_not_there() -> None:
    plan = plan_of("full_finetune", 2, penalty={"bss": {"weight": 0.0, "k": 1}})
    assert feature_terms(plan) == ()
    plan = plan_of("full_finetune", 2, penalty={"co_tuning": {"weight": 0.0}})
    assert not needs_source_head(plan)
    assert needs_source_head(plan_of("full_finetune", 2, penalty={"co_tuning": {"weight": 1.0}}))
