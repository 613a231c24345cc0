"""LoRA: low-rank parts beside linear layers and convolutions (Hu et al., LoRA, 2022)."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import PlanError
from bench.methods.plan import ADAPTER
from bench.models.adapters.base import (
    Adapter,
    Body,
    is_linear,
    is_standardised,
    is_transposed,
    keep,
    put,
    weight_of,
)

FUSED = ("qkv", "Wqkv", "c_attn")
"""What libraries call one linear layer for queries, keys and values."""
APART = (
    *("q", "v", "query", "value", "q_proj", "v_proj"),
    *("q_lin", "v_lin", "query_proj", "value_proj"),
)
"""What they call layers for queries and for values."""


def attach_lora(body: Body, *, r: int, alpha: float, dropout: float, layers: str) -> bool:
    """Beside queries and values of all attention, or beside all dense layers of the backbone."""
    adapted: list[tuple[nn.Module, dict[str, Any]]] = []
    if layers != "all":
        attentions = [block.projections for block in body.blocks()]
        adapted = [each for attention in attentions for each in _queries_and_values(attention)]
    if layers == "all" or (layers == "auto" and not adapted):
        dense = [layer for layer in body.layers.values() if _is_dense(layer, r)]
        adapted = [] if any(map(is_standardised, dense)) else [(layer, {}) for layer in dense]
    uncalled = body.uncalled()
    for layer, pieces in adapted:
        reads = layer in uncalled or isinstance(layer, nn.MultiheadAttention)
        if reads and dropout:
            raise PlanError(
                "lora: dropout must be 0 on this backbone: its attention multiplies by weights "
                "and has no inputs of layers that could be dropped"
            )
        _adapt(layer, reads=reads, r=r, alpha=alpha, dropout=dropout, **pieces)
    return bool(adapted)


class LowRank(nn.Module):
    """B·A·dropout(x) · α/r: at the start zero, as B is."""

    def __init__(
        self, layer: nn.Module, outputs: int, *, r: int, alpha: float, dropout: float
    ) -> None:
        super().__init__()
        self.down, self.up = _narrow(layer, r), _pointwise(layer, r, outputs)
        self.dropout, self.scale = dropout, alpha / r
        nn.init.kaiming_uniform_(weight_of(self.down), a=math.sqrt(5))
        nn.init.zeros_(weight_of(self.up))

    def forward(self, inputs: Tensor) -> Tensor:
        """What is added to the layer's output."""
        low = self.down(F.dropout(inputs, self.dropout, self.training))
        added: Tensor = self.up(low) * self.scale
        return added

    def weight(self) -> Tensor:
        """What is added to the layer's weight instead."""
        down, up = weight_of(self.down), weight_of(self.up)
        groups = getattr(self.down, "groups", 1)
        pairs = zip(up.flatten(1).chunk(groups), down.flatten(1).chunk(groups), strict=True)
        added = torch.cat([wide @ narrow for wide, narrow in pairs])
        return added.view(len(up), *down.shape[1:]) * self.scale


class LoRA(Adapter):
    """Low-rank parts of a layer's outputs: of `cuts` equal pieces those numbered `of` get one."""

    def __init__(
        self,
        layer: nn.Module,
        outputs: int,
        *,
        of: Sequence[int] = (0,),
        cuts: int = 1,
        **options: Any,
    ) -> None:
        super().__init__()
        self.cuts = cuts
        parts = {str(at): LowRank(layer, outputs // cuts, **options) for at in of}
        self.parts = nn.ModuleDict(parts)

    def forward(self, inputs: Tensor, output: Tensor) -> Tensor:
        """See `Adapter`."""
        if self.cuts == 1:
            return output + cast(Tensor, self.parts["0"](inputs))
        pieces = list(output.chunk(self.cuts, dim=-1))
        for at, part in self.parts.items():
            pieces[int(at)] = pieces[int(at)] + part(inputs)
        return torch.cat(pieces, dim=-1)

    def weight(self, own: Tensor) -> Tensor:
        """The layer's weight with what the parts add to it."""
        pieces = list(own.chunk(self.cuts))
        for at, part in self.parts.items():
            pieces[int(at)] = pieces[int(at)] + cast(LowRank, part).weight()
        return torch.cat(pieces)

    def merge(self, layer: nn.Module) -> bool:
        """See `Adapter`."""
        with torch.no_grad():
            weight_of(layer).copy_(self.weight(weight_of(layer)))
        return True


class _LoRAAttention(nn.MultiheadAttention):
    """torch's attention, which multiplies by a weight where others have layers."""

    @property
    def in_proj_weight(self) -> Tensor:  # type: ignore[override]
        """The weight with what LoRA adds to it."""
        return _weight_with_lora(self)


class _LoRALinear(nn.Linear):
    """A layer whose weight is read."""

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The weight with what LoRA adds to it."""
        return _weight_with_lora(self)


def _weight_with_lora(layer: nn.Module) -> Tensor:
    adapter, own = getattr(layer, ADAPTER, None), weight_of(layer)
    return own if adapter is None else cast(Tensor, adapter.weight(own))


def _adapt(layer: nn.Module, *, reads: bool, **options: Any) -> None:
    """Put LoRA beside a layer; `reads`: its weight is read, it is not called."""
    if isinstance(layer, nn.MultiheadAttention):
        size, weight = layer.embed_dim, weight_of(layer)
        square = nn.Linear(size, size, bias=False, device=weight.device)
        keep(layer, LoRA(square, len(weight), **options))
        layer.__class__ = _LoRAAttention
    elif reads:
        keep(layer, LoRA(layer, len(weight_of(layer)), **options))
        layer.__class__ = _LoRALinear
    else:
        put(layer, LoRA(layer, len(weight_of(layer)), **options))


def _queries_and_values(attention: nn.Module) -> Iterator[tuple[nn.Module, dict[str, Any]]]:
    """Layers that make queries and values, each with which of its pieces do."""
    both: dict[str, Any] = {"of": (0, 2), "cuts": 3}
    if isinstance(attention, nn.MultiheadAttention):
        yield attention, both
    for name, layer in attention.named_children():
        if is_linear(layer) and name in FUSED:
            yield layer, both
        elif is_linear(layer) and name in APART:
            yield layer, {}


def _is_dense(layer: nn.Module, r: int) -> bool:
    """Whether outputs see several inputs, and the groups of a convolution equal shares of `r`."""
    if isinstance(layer, nn.Conv2d):
        return layer.groups == 1 or (r % layer.groups == 0 and layer.groups < layer.in_channels)
    return is_linear(layer) or isinstance(layer, nn.MultiheadAttention)


def _narrow(layer: nn.Module, outputs: int) -> nn.Linear | nn.Conv2d:
    """A layer that looks at inputs as `layer` does, padding included, and has no bias."""
    if is_transposed(layer):
        own = weight_of(layer)
        return nn.Linear(own.shape[1], outputs, bias=False, device=own.device)
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    narrow = copy.deepcopy(layer)
    narrow.weight = nn.Parameter(layer.weight.new_empty(outputs, *layer.weight.shape[1:]))
    narrow.register_parameter("bias", None)
    if isinstance(narrow, nn.Conv2d):
        narrow.out_channels = outputs
    else:
        narrow.out_features = outputs
    return narrow


def _pointwise(layer: nn.Module, inputs: int, outputs: int) -> nn.Module:
    """A layer of the kind of `layer` that looks at single positions."""
    device = weight_of(layer).device
    if isinstance(layer, nn.Conv2d):
        return nn.Conv2d(inputs, outputs, 1, groups=layer.groups, bias=False, device=device)
    return nn.Linear(inputs, outputs, bias=False, device=device)
