"""One vector a sample of every layer group in front of the head, from one pass of the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, fx, nn

from bench.methods.plan import HEAD
from bench.models.feature_layers import channels_second
from bench.models.network import Layer, LayerGroup, Network
from bench.models.text.transformers_models import TextModel

NAME = "pooled groups"
"""What kept features of this kind are called, in the place of a boundary."""

Outputs = Callable[[nn.Module, Tensor], Iterator[Tensor]]
"""Of the model and a batch what each group gives, from input to output."""


@dataclass(frozen=True, kw_only=True)
class PooledGroups:
    """A `network` that gives, in front of its head, the vectors of its groups in one row.

    It must be in evaluation mode, as whatever passes frozen groups. `names` are those of the
    groups; one that holds what several groups give at once has the name of the last of them. The
    last vector is what the head gets, unless that gets a map.
    """

    network: Network
    names: tuple[str, ...]
    outputs: Outputs

    def widths(self, batch: Tensor) -> list[int]:
        """How long the vector of each group is; `batch` is of what the network takes."""
        with torch.no_grad():
            return [averaged(each).shape[1] for each in self.outputs(self.network.model, batch)]

    def head_input(self, batch: Tensor) -> torch.Size | None:
        """The shape of what the head gets of a sample; None for maps of several positions, which
        are no more than their means in a row."""
        with torch.no_grad():
            *_, last = self.outputs(self.network.model, batch)
        return last.shape[1:] if averaged(last).shape[1] == last[0].numel() else None


def pooled_groups(network: Network) -> PooledGroups:
    """The same model, whose first group runs all in front of the head and averages what each gives.

    Maps are averaged over their positions; vectors stay as they are. Of the tokens of texts one
    vector is made as the model makes it of those in front of its head.
    """
    names, parts = _runs(network)
    blocks = _blocks(network)
    outputs = _of_blocks(blocks) if blocks else _one_by_one(parts)
    run = _side_by_side(outputs)
    first, *others = network.groups

    def cut(group: LayerGroup) -> LayerGroup:
        return group if group.name == HEAD else replace(group, run=None, steps=())

    groups = (replace(first, run=run, steps=(run,)), *map(cut, others))
    return PooledGroups(
        network=Network(network.model, groups, image_size=network.image_size),
        names=(*blocks, *names),
        outputs=outputs,
    )


def _runs(network: Network) -> tuple[list[str], list[tuple[Layer, ...]]]:
    """Names and steps of what runs in front of the head."""
    names: list[str] = []
    parts: list[tuple[Layer, ...]] = []
    for group in network.groups:
        if group.branch or group.name == HEAD:
            continue
        if group.run is None:
            names[-1] = group.name
        else:
            names.append(group.name)
            parts.append(group.steps or (group.run,))
    return names, parts


def _blocks(network: Network) -> dict[str, nn.Module]:
    """The blocks of a text encoder, but for one that is the last layer group: it runs at once."""
    if not isinstance(network.model, TextModel):
        return {}
    groups = network.groups[1:-2]
    found = {group.name: network.modules_of(group) for group in groups}
    layers = {name: own[0] for name, own in found.items() if len(own) == 1}
    # Of several texts, so that tokens are not taken for them.
    ids = torch.zeros(2, 8, dtype=torch.int32, device=next(network.parameters()).device)
    with torch.no_grad():
        usable = network.model.features_of(ids, layers)
    return {name: layer for name, layer in layers.items() if name in usable}


# Closures, and no partial functions: of what module they are decides whether they are read and
# fused.


def _side_by_side(outputs: Outputs) -> Callable[[nn.Module, Tensor], Tensor]:
    def vectors(model: nn.Module, batch: Tensor) -> Tensor:
        # At once: what follows may change a map in place.
        return torch.cat([averaged(each) for each in outputs(model, batch)], dim=1)

    return vectors


def _one_by_one(parts: Sequence[Sequence[Layer]]) -> Outputs:
    def outputs(model: nn.Module, activations: Tensor) -> Iterator[Tensor]:
        for steps in parts:
            for step in steps:
                layer = model.get_submodule(step) if isinstance(step, str) else None
                activations = step(model, activations) if layer is None else layer(activations)  # type: ignore[operator]
            yield activations

    return outputs


def _of_blocks(blocks: Mapping[str, nn.Module]) -> Outputs:
    def outputs(model: nn.Module, ids: Tensor) -> Iterator[Tensor]:
        yield from cast(TextModel, model).features_of(ids, blocks).values()

    return outputs


@fx.wrap  # it looks at shapes, which are not known while groups are read
def averaged(activations: Tensor) -> Tensor:
    """Activations `[n, ...]` as vectors `[n, channels]` in fp32, by their means over positions."""
    return channels_second(activations.float()).mean(dim=2)
