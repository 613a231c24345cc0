"""One vector a sample of every layer group in front of the head, from one pass of the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from bench.methods.plan import HEAD
from bench.models.feature_layers import channels_second
from bench.models.network import Layer, LayerGroup, Network

NAME = "pooled groups"
"""What kept features of this kind are called, in the place of a boundary."""


@dataclass(frozen=True, kw_only=True)
class PooledGroups:
    """A `network` that gives, in front of its head, the vectors of its groups in one row.

    It must be in evaluation mode, as whatever passes frozen groups.

    `names` are those of the groups; one that holds what several groups give at once has the name of
    the last of them. The last vector is what the head gets, unless that gets a map.
    """

    network: Network
    names: tuple[str, ...]
    parts: tuple[tuple[Layer, ...], ...]

    def widths(self, batch: Tensor) -> list[int]:
        """How long the vector of each group is; `batch` is of what the network takes."""
        return [averaged(each).shape[1] for each in self._outputs(batch)]

    def head_input(self, batch: Tensor) -> torch.Size | None:
        """The shape of what the head gets of a sample; None for maps of several positions, which
        are no more than their means in a row."""
        last = self._outputs(batch)[-1]
        return last.shape[1:] if averaged(last).shape[1] == last[0].numel() else None

    def _outputs(self, batch: Tensor) -> list[Tensor]:
        found = []
        with torch.no_grad():
            for steps in self.parts:
                batch = _run(self.network.model, batch, steps)
                found.append(batch)
        return found


def pooled_groups(network: Network) -> PooledGroups:
    """The same model, whose first group runs all in front of the head and averages what each gives.

    Maps are averaged over their positions, and so are tokens; vectors stay as they are.
    """
    own = [group for group in network.groups if not group.branch and group.name != HEAD]
    parts: list[tuple[Layer, ...]] = []
    names: list[str] = []
    for group in own:
        if group.run is None:
            names[-1] = group.name
        else:
            names.append(group.name)
            parts.append(group.steps or (group.run,))
    run = _side_by_side(parts)
    first, *others = network.groups

    def cut(group: LayerGroup) -> LayerGroup:
        return group if group.name == HEAD else replace(group, run=None, steps=())

    groups = (replace(first, run=run, steps=(run,)), *map(cut, others))
    return PooledGroups(
        network=Network(network.model, groups, image_size=network.image_size),
        names=tuple(names),
        parts=tuple(parts),
    )


# A closure, and no partial function: of what module it is decides whether it is read and fused.
def _side_by_side(parts: Sequence[Sequence[Layer]]) -> Any:
    def vectors(model: nn.Module, activations: Tensor) -> Tensor:
        found = []
        for steps in parts:
            activations = _run(model, activations, steps)
            found.append(averaged(activations))
        return torch.cat(found, dim=1)

    return vectors


def _run(model: nn.Module, activations: Tensor, steps: Sequence[Layer]) -> Tensor:
    for step in steps:
        layer = model.get_submodule(step) if isinstance(step, str) else None
        activations = step(model, activations) if layer is None else layer(activations)  # type: ignore[operator]
    return activations


@fx.wrap  # it looks at shapes, which are not known while groups are read
def averaged(activations: Tensor) -> Tensor:
    """Activations `[n, ...]` as vectors `[n, channels]` in fp32, by their means over positions."""
    return channels_second(activations.float()).mean(dim=2)
