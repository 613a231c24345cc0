"""The classifier that came with the weights, kept beside the new one while a network trains.

It belongs to the layer group of the head, so it trains as that does, and is no part of the network
that is kept: checkpoints leave it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from bench.models.network import LayerGroup, Network

SOURCE_HEAD = "source_head"


class SourceHead(nn.Module):
    """The `layer` that stood at `place` in the library's model."""

    def __init__(self, layer: nn.Module, place: str) -> None:
        super().__init__()
        self.layer = layer
        self.place = place


def attach_source_head(
    model: nn.Module, groups: Sequence[LayerGroup], layer: nn.Module, place: str
) -> tuple[LayerGroup, ...]:
    """Keep the classifier `layer` of `place`; returns the groups, whose last one owns it."""
    *others, head = groups
    model.add_module(SOURCE_HEAD, SourceHead(layer, place))
    return (*others, replace(head, prefixes=(*head.prefixes, SOURCE_HEAD)))


def source_logits(network: Network, features: Tensor) -> Tensor:
    """What the classifier of the weights says `[n, source classes]` of activations in front of the
    head: the head runs with it in the place of the new one."""
    source = network.model.get_submodule(SOURCE_HEAD)
    assert isinstance(source, SourceHead)

    def instead(replaced: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        logits: Tensor = source.layer(inputs[0])
        return logits

    head = network.groups[-1]
    assert head.run is not None
    hook = network.model.get_submodule(source.place).register_forward_hook(instead)
    try:
        return head.run(network.model, features)
    finally:
        hook.remove()
