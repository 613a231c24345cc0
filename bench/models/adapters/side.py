"""Side-tuning: a second network beside the frozen backbone (Zhang et al., Side-Tuning, 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from bench.errors import PlanError
from bench.methods.plan import ADAPTER, HEAD
from bench.models.adapters.base import Adapter, Body
from bench.models.network import LayerGroup

CHANNELS = (32, 64, 128)
"""Of the layers of a small side network, each of which halves the side of its map."""


def attach_side_tuning(body: Body, *, side: str) -> bool:
    """Beside all of the backbone, as its features flow into the head."""
    network = _Copy(body.model, body.groups) if side == "copy" else _small(body)
    adapter = SideTuning(network, groups_beside(body.groups))
    kind = type(body.model)
    body.model.__class__ = type(f"SideTuned{kind.__name__}", (_SideTuned, kind), {})
    body.model.add_module(ADAPTER, adapter.to(next(body.model.parameters()).device))
    return True


def groups_beside(groups: Sequence[LayerGroup]) -> tuple[LayerGroup, ...]:
    """The groups of a backbone that has a side network: the first of them runs both.

    So there is no cut but in front of the head; what a side output is of does not flow by.
    """
    first, *others, head = groups
    run = partial(_run_both, trunk=groups[:-1])
    whole = replace(first, prefixes=(ADAPTER, *first.prefixes), run=run, steps=(run,))
    return (whole, *(replace(group, run=None, steps=()) for group in others), head)


class SideTuning(Adapter):
    """σ(a) · B(x) + (1 − σ(a)) · S(x), with a = 0 at the start.

    Of a side network S that gives a vector `[n, d]`, every place of a map of B gets the same.
    """

    def __init__(self, side: nn.Module, groups: tuple[LayerGroup, ...]) -> None:
        super().__init__()
        self.side, self.groups = side, groups
        self.mix = nn.Parameter(torch.zeros(()))

    def forward(self, inputs: Tensor, output: Tensor) -> Tensor:
        """See `Adapter`: `inputs` are those of the backbone, `output` its features."""
        beside: Tensor = self.side(inputs)
        share = self.mix.sigmoid()
        beside = beside.view(*beside.shape, *[1] * (output.ndim - beside.ndim))
        return share * output + (1 - share) * beside


class _SideTuned(nn.Module):
    """A library's model whose own `forward` would pass the side network by."""

    def forward(self, batch: Tensor) -> Tensor:
        """Logits of a batch."""
        return _run(self, getattr(self, ADAPTER).groups, batch)


class _Copy(nn.Module):
    """All of a backbone once more, without its head."""

    def __init__(self, model: nn.Module, groups: Sequence[LayerGroup]) -> None:
        super().__init__()
        self.model, self.trunk = deepcopy(model), tuple(groups[:-1])
        modules = dict(self.model.named_modules())
        for group in groups:
            for prefix in group.prefixes if group.branch or group.name == HEAD else ():
                if prefix in modules:
                    self.model.set_submodule(prefix, nn.Identity())

    def forward(self, batch: Tensor) -> Tensor:
        return _run(self.model, self.trunk, batch)


def _small(body: Body) -> nn.Module:
    """A few convolutions from what the backbone takes to a vector of what it gives."""
    first = next((each for each in body.layers.values() if isinstance(each, nn.Conv2d)), None)
    if first is None:
        raise PlanError("side_tuning: side must be copy on this backbone: it takes no images")
    layers: list[nn.Module] = []
    channels = first.in_channels
    for width in CHANNELS:
        convolution = nn.Conv2d(channels, width, 3, stride=2, padding=1)
        layers += [convolution, nn.GroupNorm(1, width), nn.ReLU()]
        channels = width
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, _features(body)))
    return nn.Sequential(*layers, *pooled)


def _features(body: Body) -> int:
    """How many features the head takes."""
    owns = body.groups[-1].owns
    layers: Any = (each for name, each in body.model.named_modules() if owns(name))
    first = next(each for each in layers if isinstance(each, nn.Linear | nn.Conv2d))
    return first.in_features if isinstance(first, nn.Linear) else first.in_channels


def _run(model: nn.Module, groups: Sequence[LayerGroup], batch: Tensor) -> Tensor:
    """What the groups give, one after the other; side outputs do not run."""
    for group in groups:
        if group.run is not None and not group.branch:
            batch = group.run(model, batch)
    return batch


def _run_both(model: nn.Module, batch: Tensor, *, trunk: Sequence[LayerGroup]) -> Tensor:
    return cast(Tensor, getattr(model, ADAPTER)(batch, _run(model, trunk, batch)))
