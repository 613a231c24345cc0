"""The first layer of networks for images of other channels than red, green and blue."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.models.randomness import keyed_initialisation

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bench.models.network import LayerGroup

COLOURS = 3


def adapt_first_layer(
    model: nn.Module, groups: Sequence[LayerGroup], channels: int, *, drawn: int | None
) -> None:
    """Let the convolutions that take red, green and blue take so many channels.

    Their values become those of `adapted`; without starting weights they are `drawn` anew from this
    seed, with the deviation that keeps outputs as large as they were. Raises `BenchError` where the
    network does not begin with such a convolution.
    """
    import torch
    from torch import nn

    if channels == COLOURS:
        return
    found = [
        layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d)
        and (layer.in_channels, layer.groups) == (COLOURS, 1)
        and groups[0].owns(name)
    ]
    if not found:
        raise BenchError(
            f"images of {channels} channels need a backbone whose first layers have a convolution "
            "of red, green and blue, which could be adapted"
        )
    for number, layer in enumerate(found):
        before = layer.weight.detach()
        if drawn is None:
            after = adapted(before, channels)
        else:
            with keyed_initialisation(drawn, f"first layer {number}"):
                shape = (before.shape[0], channels, *before.shape[2:])
                after = torch.randn(shape) * before.std() * math.sqrt(COLOURS / channels)
        layer.in_channels = channels
        layer.weight = nn.Parameter(after)


def adapted(weight: Tensor, channels: int) -> Tensor:
    """Weights [outputs, 3, height, width] of a convolution for so many channels.

    For one channel the sum over the three; for others these in turns, times 3 / channels, so that
    outputs stay about as large as they were. As timm's `adapt_input_conv` (Wightman, 2019).
    """
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    repeated = weight.repeat(1, math.ceil(channels / COLOURS), 1, 1)[:, :channels]
    return repeated * (COLOURS / channels)
