"""Gradients of depthwise convolutions in fp32 where a CPU has no fast kernel in bfloat16."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

_FAST_KERNEL = 3
"""oneDNN has a fast backward pass in bfloat16 for depthwise kernels of at most 3 × 3 pixels."""

Pair = tuple[int, int]


def depthwise_gradients(
    device: torch.device, precision: str
) -> AbstractContextManager[TorchFunctionMode | None]:
    """The context of a forward pass that trains, within that of its autocast.

    On a CPU in `bf16`, a convolution with as many groups as input channels computes its gradients
    in fp32, from the same rounded input and weight, unless it is small and simple enough for a fast
    kernel (`has_fast_backward`). Its output, and all that is computed without gradients, keep their
    bits. Calls are caught, not modules exchanged, as names and states have to stay as they are.
    """
    if device.type == "cpu" and precision == "bf16":
        return _DepthwiseGradients()
    return nullcontext()


def has_fast_backward(input: Tensor, weight: Tensor, stride: Pair, dilation: Pair) -> bool:
    """Whether the backward pass of this depthwise convolution is fast in bfloat16 on a CPU.

    It is with stride and dilation 1, an output channel for each input channel, and a kernel of at
    most 3 × 3 that the image `[n, channels, height, width]` is not smaller than. For all others it
    takes 1.4 to 18 times as long as in fp32 with all conversions, for these 0.2 to 0.9 times.
    """
    kernel, image = weight.shape[2:], input.shape[2:]
    return (
        stride == dilation == (1, 1)
        and weight.shape[0] == input.shape[1]
        and max(kernel) <= _FAST_KERNEL
        and all(side >= taps for side, taps in zip(image, kernel, strict=True))
    )


class _DepthwiseGradients(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        caught = func is F.conv2d and torch.is_grad_enabled()
        return (_convolve if caught else func)(*args, **(kwargs or {}))


def _convolve(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """`F.conv2d`."""
    depthwise = input.ndim == 4 and groups == input.shape[1] > 1
    if (
        not depthwise
        or isinstance(padding, str)
        or has_fast_backward(input, weight, _pair(stride), _pair(dilation))
    ):
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    output: Tensor = _Depthwise.apply(
        input, weight, bias, _pair(stride), _pair(padding), _pair(dilation)
    )
    return output


def _pair(value: Any) -> Pair:
    if isinstance(value, int):
        return value, value
    first, *others = value
    return first, others[0] if others else first


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
    ) -> Tensor:
        low, low_weight, low_bias = (
            None if tensor is None else tensor.to(torch.bfloat16)
            for tensor in (input, weight, bias)
        )
        assert low is not None
        assert low_weight is not None
        ctx.save_for_backward(low, low_weight)
        ctx.steps = (list(stride), list(padding), list(dilation))
        ctx.dtypes = [None if each is None else each.dtype for each in (input, weight, bias)]
        return F.conv2d(low, low_weight, low_bias, stride, padding, dilation, input.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        low, low_weight = ctx.saved_tensors
        gradients = torch.ops.aten.convolution_backward(
            gradient.float(),
            low.float(),
            low_weight.float(),
            None if ctx.dtypes[2] is None else [low_weight.shape[0]],
            *ctx.steps,
            False,
            [0, 0],
            low.shape[1],
            ctx.needs_input_grad[:3],
        )
        return *(_of(*each) for each in zip(gradients, ctx.dtypes, strict=True)), None, None, None


def _of(gradient: Tensor | None, dtype: torch.dtype | None) -> Tensor | None:
    return gradient if gradient is None else gradient.to(dtype)
