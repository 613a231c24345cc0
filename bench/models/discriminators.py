"""Discriminators: what learns to tell source from target data while a network trains.

They are a layer group of their own, so plans give them rates and states keep them. They are no part
of the network that is kept: checkpoints leave them out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bench.methods.alignment import conditioned
from bench.methods.penalties import Discriminator
from bench.methods.plan import DISCRIMINATOR
from bench.models.network import LayerGroup
from bench.models.randomness import keyed_initialisation

LARGEST_JOINT, RANDOM_WIDTH = 4096, 1024
"""So many products of features and probabilities are taken as they are; of more, random maps make
so few (Long et al., 2018)."""


class DomainLayers(nn.Module):
    """Logits `[n]` of features `[n, features]`: two hidden layers with batch norm and ReLU.

    Where it is `conditioned`, of features times probabilities of classes.
    """

    def __init__(self, shape: Discriminator, *, features: int, classes: int) -> None:
        super().__init__()
        self.conditioned = shape.conditioned
        joint = features * classes if shape.conditioned else features
        self.random = shape.conditioned and joint > LARGEST_JOINT
        inputs = RANDOM_WIDTH if self.random else joint
        self.layers = nn.Sequential(
            nn.Linear(inputs, shape.width),
            nn.BatchNorm1d(shape.width),
            nn.ReLU(),
            nn.Linear(shape.width, shape.width),
            nn.BatchNorm1d(shape.width),
            nn.ReLU(),
            nn.Linear(shape.width, 1),
        )
        if self.random:  # always the same, so no state has them
            for name, rows in (("of_features", features), ("of_classes", classes)):
                self.register_buffer(name, torch.randn(rows, RANDOM_WIDTH), persistent=False)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """What it says of samples with these features and logits `[n, classes]`."""
        if self.conditioned:
            maps = None
            if self.random:
                maps = self.get_buffer("of_features"), self.get_buffer("of_classes")
            features = conditioned(features, logits, maps)
        domains: Tensor = self.layers(features)
        return domains.squeeze(1)


def attach_discriminators(
    model: nn.Module,
    groups: Sequence[LayerGroup],
    shapes: Sequence[Discriminator],
    *,
    features: int,
    classes: int,
    seed: int,
) -> tuple[LayerGroup, ...]:
    """Put discriminators beside the head; returns the groups, with theirs in front of the last.

    `features` is the width of one vector a sample that flows into the head. Their values depend on
    `seed`, penalty and widths alone.
    """
    *others, head = groups
    found = nn.ModuleDict()
    for shape in shapes:
        with keyed_initialisation(seed, f"{DISCRIMINATOR} {shape.penalty}"):
            found[shape.penalty] = DomainLayers(shape, features=features, classes=classes)
    model.add_module(DISCRIMINATOR, found)
    own = LayerGroup(name=DISCRIMINATOR, prefixes=(DISCRIMINATOR,), run=None, branch=True)
    return (*others, own, head)
