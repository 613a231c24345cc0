"""Bottlenecks in transformer blocks: behind attention and MLP, or beside the MLP."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from bench.models.adapters.base import Adapter, Body, put

UNNORMED = "unnormed"
"""Where what an MLP takes keeps what it was made of: several batches may be on their way."""


def attach_houlsby(body: Body, *, width: int) -> bool:
    """Behind attention and MLP of every block, in front of the residual sum."""
    blocks = body.blocks()
    for block in blocks:
        for layer in (block.attention, block.mlp):
            put(layer, Houlsby(block.channels, width))
    return bool(blocks)


def attach_adaptformer(body: Body, *, width: int, scale: float, dropout: float) -> bool:
    """Beside the MLP of every block."""
    blocks = body.blocks()
    for block in blocks:
        block.mlp_input.register_forward_hook(_keep_input)
        put(block.mlp, AdaptFormer(block.channels, width, scale, dropout))
    return bool(blocks)


class Houlsby(Adapter):
    """x + W₂·GELU(W₁·x), nearly x at the start: weights have a standard deviation of 0.001.

    Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", 2019.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(channels, width), nn.Linear(width, channels)
        for layer in (self.down, self.up):
            nn.init.trunc_normal_(layer.weight, std=1e-3, a=-2e-3, b=2e-3)
            nn.init.zeros_(layer.bias)

    def forward(self, inputs: Tensor, output: Tensor) -> Tensor:
        """See `Adapter`."""
        added: Tensor = self.up(F.gelu(self.down(output)))
        return output + added


class AdaptFormer(Adapter):
    """MLP(norm(x)) + s·W₂·dropout(ReLU(W₁·x)), with x in front of the norm.

    Chen et al., "AdaptFormer", 2022. W₂ is zero at the start. Where the norm is behind the MLP, as
    in Swin V2 and BERT, x is what the MLP gets: the parallel adapter of He et al., "Towards a
    Unified View of Parameter-Efficient Transfer Learning", 2022.
    """

    def __init__(self, channels: int, width: int, scale: float, dropout: float) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(channels, width), nn.Linear(width, channels)
        self.scale, self.dropout = scale, dropout
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for tensor in (self.up.weight, self.down.bias, self.up.bias):
            nn.init.zeros_(tensor)

    def forward(self, inputs: Tensor, output: Tensor) -> Tensor:
        """See `Adapter`."""
        narrow = F.relu(self.down(getattr(inputs, UNNORMED, inputs)))
        added: Tensor = self.up(F.dropout(narrow, self.dropout, self.training))
        return output + added * self.scale


def _keep_input(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
    setattr(output, UNNORMED, inputs[0])
