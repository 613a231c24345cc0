"""Backbones: network bodies cut into layer groups, the heads put on them, their starting weights.

Importing this package imports no torch; what needs it is imported when asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.backbones.build import build_network, layer_group_names
from bench.backbones.catalogue import (
    BACKBONES,
    Backbone,
    check_image_size,
    is_known,
    minimum_image_size,
)
from bench.backbones.heads import HEADS, PRETRAINED_HEAD, HeadShape, class_members
from bench.backbones.weights import Weights, describe_weights, file_weights, obtain_weights

if TYPE_CHECKING:
    from bench.backbones.network import LayerGroup, Network, save_tensors

__all__ = [
    "BACKBONES",
    "HEADS",
    "PRETRAINED_HEAD",
    "Backbone",
    "HeadShape",
    "LayerGroup",
    "Network",
    "Weights",
    "build_network",
    "check_image_size",
    "class_members",
    "describe_weights",
    "file_weights",
    "is_known",
    "layer_group_names",
    "minimum_image_size",
    "obtain_weights",
    "save_tensors",
]


def __getattr__(name: str) -> Any:
    if name in ("LayerGroup", "Network", "save_tensors"):
        from bench.backbones import network

        return getattr(network, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
