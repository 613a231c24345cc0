"""Depthwise convolutions that train in bfloat16: same outputs, gradients of a wider format."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.models.evaluation import autocast
from bench.training import depthwise
from bench.training.depthwise import depthwise_gradients
from bench.training.loop import train
from tests.tiny import make_trial, tiny_training

CPU = torch.device("cpu")
SLOW = {
    "stride": ((12, 1, 3, 3), {"stride": 2, "padding": 1}),
    "stride in one direction": ((12, 1, 3, 3), {"stride": (1, 2), "padding": (1, 0)}),
    "5 x 5": ((12, 1, 5, 5), {"padding": 2}),
    "5 x 1": ((12, 1, 5, 1), {"padding": (2, 0)}),
    "dilation": ((12, 1, 3, 3), {"padding": 2, "dilation": 2}),
    "two outputs for each input": ((24, 1, 3, 3), {"padding": 1}),
}
FAST = {
    "3 x 3": ((12, 1, 3, 3), {"padding": 1}),
    "1 x 1": ((12, 1, 1, 1), {}),
}
OTHERS = {
    "grouped": ((12, 3, 3, 3), {"stride": 2, "groups": 4}),
    "plain": ((8, 12, 3, 3), {"stride": 2, "groups": 1}),
    "padding by name": ((12, 1, 5, 5), {"padding": "same"}),
}

Case = tuple[tuple[int, ...], dict[str, Any]]


def run(case: Case, *, caught: bool, size: int = 9, bias: bool = True) -> tuple[Tensor, ...]:
    """The output, and the gradients of input, weight and bias."""
    shape, options = case
    generator = torch.Generator().manual_seed(0)
    input = torch.randn(4, 12, size, size, generator=generator)
    input = input.contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(shape, generator=generator).requires_grad_()
    leaves = [input, weight]
    if bias:
        leaves.append(torch.randn(shape[0], generator=generator).requires_grad_())
    with autocast(CPU, "bf16"), depthwise_gradients(CPU, "bf16" if caught else "fp32"):
        output = F.conv2d(input, weight, leaves[2] if bias else None, **{"groups": 12, **options})
    upstream = torch.randn(output.shape, generator=generator).to(output.dtype)
    return output.detach(), *torch.autograd.grad(output, leaves, upstream)


def exact(case: Case) -> tuple[Tensor, ...]:
    """The gradients in double precision of what bfloat16 makes of input, weight and upstream."""
    shape, options = case
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(4, 12, 9, 9, generator=generator), torch.randn(shape, generator=generator)]
    drawn.append(torch.randn(shape[0], generator=generator))
    leaves = [each.bfloat16().double().requires_grad_() for each in drawn]
    output = F.conv2d(*leaves, **{"groups": 12, **options})
    upstream = torch.randn(output.shape, generator=generator).bfloat16()
    return torch.autograd.grad(output, leaves, upstream.double())


@pytest.mark.parametrize("case", SLOW.values(), ids=SLOW)
def test_outputs_keep_their_bits_and_gradients_are_nearly_exact(case: Case) -> None:
    output, *gradients = run(case, caught=True)
    usual, *usual_gradients = run(case, caught=False)
    assert torch.equal(output, usual)
    assert output.dtype == usual.dtype == torch.bfloat16
    for gradient, like, wanted in zip(gradients, usual_gradients, exact(case), strict=True):
        assert gradient.dtype == like.dtype
        assert gradient.stride() == like.stride()
        torch.testing.assert_close(gradient.double(), wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("case", [*FAST.values(), *OTHERS.values()], ids=[*FAST, *OTHERS])
def test_what_is_fast_or_no_depthwise_convolution_keeps_all_bits(case: Case) -> None:
    caught, usual = run(case, caught=True), run(case, caught=False)
    assert all(map(torch.equal, caught, usual))


def test_an_image_smaller_than_the_kernel_counts_as_slow() -> None:
    caught, usual = (run(FAST["3 x 3"], caught=each, size=2) for each in (True, False))
    assert torch.equal(caught[0], usual[0])
    assert not torch.equal(caught[2], usual[2])


def test_a_convolution_without_bias_has_two_gradients() -> None:
    assert len(run(SLOW["stride"], caught=True, bias=False)) == 3


def test_only_what_trains_is_differentiated() -> None:
    layer = nn.Conv2d(12, 12, 5, padding=2, groups=12)
    layer.weight.requires_grad = False
    input = torch.randn(2, 12, 8, 8)
    with autocast(CPU, "bf16"), depthwise_gradients(CPU, "bf16"):
        layer(input).float().sum().backward()
    assert layer.weight.grad is None
    assert layer.bias is not None
    torch.testing.assert_close(layer.bias.grad, torch.full((12,), 2.0 * 64))


def test_without_gradients_and_elsewhere_nothing_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bench.training.depthwise._convolve", None)
    layer = nn.Conv2d(12, 12, 5, padding=2, groups=12)
    input = torch.randn(2, 12, 8, 8)
    with torch.no_grad(), autocast(CPU, "bf16"), depthwise_gradients(CPU, "bf16"):
        assert layer(input).dtype == torch.bfloat16
    for device, precision in ((CPU, "fp32"), (torch.device("cuda"), "bf16")):
        with depthwise_gradients(device, precision):
            assert layer(input).dtype == torch.float32


def test_a_trial_in_bfloat16_trains_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def weights() -> list[Tensor]:
        training = tiny_training(
            make_trial(backbone="mobilenet_v3_small", precision="bf16", epochs=1)
        )
        train(training, lambda record: None)
        return [each.detach().clone() for each in training.network.parameters()]

    caught = weights()
    monkeypatch.setattr(depthwise, "has_fast_backward", lambda *_: True)
    usual = weights()
    assert not all(map(torch.equal, caught, usual))
    for one, other in zip(caught, usual, strict=True):
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.01)
