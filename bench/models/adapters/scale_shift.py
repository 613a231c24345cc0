"""SSF: a scale and a shift behind every layer.

Lian et al., "Scaling and Shifting Your Features", 2022.
"""

from __future__ import annotations

from functools import cache
from typing import cast

import torch
from torch import Tensor, nn

from bench.methods.plan import ADAPTER
from bench.models.adapters.base import (
    Adapter,
    Body,
    is_linear,
    is_standardised,
    keep,
    put,
    weight_of,
)


def attach_ssf(body: Body, *, spread: float) -> bool:
    """Behind every linear layer, convolution and norm of the backbone."""
    norms = [layer for _, layer in body.norms() if layer._parameters.get("weight") is not None]
    layers, uncalled = list(body.layers.values()), body.uncalled()
    apart = [each.out_proj for each in layers if isinstance(each, nn.MultiheadAttention)]
    found = False
    for layer in layers:
        if hasattr(layer, "qkv_bias_separate"):
            layer.qkv_bias_separate = True  # the shift has a place in front of it
        if isinstance(layer, nn.MultiheadAttention):
            put(layer, AttentionSSF(layer.embed_dim, spread))
            layer.__class__ = _SSFAttention
        elif layer not in apart and (_multiplies(layer) or layer in norms):
            adapter = SSF(len(weight_of(layer)), spread, axis=_channel_axis(layer))
            if layer in uncalled or _activates(layer):
                keep(layer, adapter)
                layer.__class__ = _with_ssf(type(layer))  # type: ignore[arg-type]
            else:
                put(layer, adapter)
        else:
            continue
        found = True
    return found


def _multiplies(layer: nn.Module) -> bool:
    return is_linear(layer) or isinstance(layer, nn.Conv2d)


def _channel_axis(layer: nn.Module) -> int:
    """Norms of tokens have channels last; those of images are called `2d`, in all libraries."""
    name = type(layer).__name__
    tokens = any(kind in name for kind in ("LayerNorm", "RMSNorm", "RmsNorm", "SimpleNorm"))
    last = is_linear(layer) or (tokens and "2d" not in name)
    return int(getattr(layer, "channel_dim", -1 if last else 1))


def _activates(layer: nn.Module) -> bool:
    """Whether a norm of timm is one layer with the activation behind it."""
    return "NormAct" in type(layer).__name__ and layer._parameters.get("bias") is not None


class SSF(Adapter):
    """γ ⊙ y + β, with γ and β drawn around 1 and 0 with a standard deviation of `spread`."""

    def __init__(self, channels: int, spread: float, *, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.scale = nn.Parameter(torch.empty(channels))
        self.shift = nn.Parameter(torch.empty(channels))
        nn.init.normal_(self.scale, 1.0, spread)
        nn.init.normal_(self.shift, 0.0, spread)

    def forward(self, inputs: Tensor, output: Tensor) -> Tensor:
        """See `Adapter`."""
        shape = [1] * output.ndim
        shape[self.axis] = -1
        return output * self.scale.view(shape) + self.shift.view(shape)

    def merge(self, layer: nn.Module) -> bool:
        """See `Adapter`; a layer without a bias gets one."""
        if is_standardised(layer) or not (is_linear(layer) or isinstance(layer, _AFFINE)):
            return False
        weight, bias = self.weight(weight_of(layer)), self.bias(layer._parameters["bias"])
        with torch.no_grad():
            weight_of(layer).copy_(weight)
            layer.bias = nn.Parameter(bias)
        return True

    def weight(self, own: Tensor) -> Tensor:
        """The weight of a layer that scales by itself."""
        return own * self.scale.view(-1, *[1] * (own.ndim - 1))

    def bias(self, own: Tensor | None) -> Tensor:
        """What a layer with the bias `own` adds."""
        return self.shift if own is None else own * self.scale + self.shift


_AFFINE = (nn.Conv2d, nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
"""Layers that end with their weight and bias, however their libraries have varied them."""


class _Read:
    """A layer whose weight and bias are read, or followed by an activation."""

    @property
    def weight(self) -> Tensor:
        """The weight with the scale."""
        adapter, own = getattr(self, ADAPTER, None), weight_of(cast(nn.Module, self))
        return own if adapter is None else cast(Tensor, adapter.weight(own))

    @property
    def bias(self) -> Tensor | None:
        """The bias with scale and shift."""
        adapter, own = getattr(self, ADAPTER, None), cast(nn.Module, self)._parameters["bias"]
        return own if adapter is None else cast(Tensor, adapter.bias(own))


@cache
def _with_ssf(kind: type[nn.Module]) -> type[nn.Module]:
    return type(f"SSF{kind.__name__}", (_Read, kind), {})


class AttentionSSF(Adapter):
    """SSF behind the two projections of torch's attention."""

    def __init__(self, channels: int, spread: float) -> None:
        super().__init__()
        self.inside = SSF(3 * channels, spread, axis=-1)
        self.outside = SSF(channels, spread, axis=-1)

    def forward(self, inputs: Tensor, output: Tensor) -> Tensor:
        """See `Adapter`."""
        changed: Tensor = self.outside(inputs, output)
        return changed

    def merge(self, layer: nn.Module) -> bool:
        """See `Adapter`."""
        assert isinstance(layer, nn.MultiheadAttention)
        with torch.no_grad():
            own = cast(Tensor | None, layer._parameters["in_proj_bias"])
            weight_of(layer).copy_(self.inside.weight(weight_of(layer)))
            layer._parameters["in_proj_bias"] = nn.Parameter(self.inside.bias(own))
        return self.outside.merge(layer.out_proj)


class _SSFAttention(nn.MultiheadAttention):
    """torch's attention, which multiplies by a weight where others have layers."""

    @property
    def in_proj_weight(self) -> Tensor:  # type: ignore[override]
        """The weight times the scale."""
        adapter, own = getattr(self, ADAPTER, None), weight_of(self)
        return own if adapter is None else cast(Tensor, adapter.inside.weight(own))

    @property
    def in_proj_bias(self) -> Tensor:  # type: ignore[override]
        """The bias with scale and shift."""
        adapter, own = getattr(self, ADAPTER, None), cast(Tensor, self._parameters["in_proj_bias"])
        return own if adapter is None else cast(Tensor, adapter.inside.bias(own))
