"""SSF: a scale and a shift behind every layer.

Lian et al., "Scaling and Shifting Your Features", 2022.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from bench.methods.plan import ADAPTER
from bench.models.adapters.base import Adapter, Body, put, weight_of


def attach_ssf(body: Body, *, spread: float) -> bool:
    """Behind every linear layer, convolution and norm of the backbone."""
    norms = [layer for _, layer in body.norms()]
    layers = list(body.layers.values())
    # torch's attention multiplies by the weight of its last layer without calling it.
    uncalled = [each.out_proj for each in layers if isinstance(each, nn.MultiheadAttention)]
    found = False
    for layer in layers:
        if isinstance(layer, nn.MultiheadAttention):
            put(layer, AttentionSSF(layer.embed_dim, spread))
            layer.__class__ = _SSFAttention
        elif (isinstance(layer, nn.Linear | nn.Conv2d) or layer in norms) and layer not in uncalled:
            put(layer, SSF(len(weight_of(layer)), spread, axis=_channel_axis(layer)))
        else:
            continue
        found = True
    return found


def _channel_axis(layer: nn.Module) -> int:
    """Layer norms that take images are called so, in all libraries: `LayerNorm2d`."""
    last = isinstance(layer, nn.Linear | nn.LayerNorm | nn.RMSNorm)
    return -1 if last and not type(layer).__name__.endswith("2d") else 1


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
        with torch.no_grad():
            weight = weight_of(layer)
            weight.mul_(self.scale.view(-1, *[1] * (weight.ndim - 1)))
            layer.bias = nn.Parameter(self.bias(cast(Tensor | None, layer._parameters["bias"])))
        return True

    def bias(self, own: Tensor | None) -> Tensor:
        """What a layer with the bias `own` adds."""
        return self.shift if own is None else own * self.scale + self.shift


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
            weight_of(layer).mul_(self.inside.scale[:, None])
            layer._parameters["in_proj_bias"] = nn.Parameter(self.inside.bias(own))
        return self.outside.merge(layer.out_proj)


class _SSFAttention(nn.MultiheadAttention):
    """torch's attention, which multiplies by a weight where others have layers."""

    @property
    def in_proj_weight(self) -> Tensor:  # type: ignore[override]
        """The weight times the scale."""
        adapter, own = getattr(self, ADAPTER, None), weight_of(self)
        return own if adapter is None else own * adapter.inside.scale[:, None]

    @property
    def in_proj_bias(self) -> Tensor:  # type: ignore[override]
        """The bias with scale and shift."""
        adapter, own = getattr(self, ADAPTER, None), cast(Tensor, self._parameters["in_proj_bias"])
        return own if adapter is None else cast(Tensor, adapter.inside.bias(own))
