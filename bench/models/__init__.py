"""Backbones: network bodies cut into layer groups, the heads put on them, their starting weights.

Importing this package imports no torch; what needs it is imported when asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.models.build import (
    build_network,
    check_channels,
    check_fit,
    head_start,
    layer_group_names,
    outline,
)
from bench.models.catalogue import (
    BACKBONES,
    OUTSIDE_BACKBONES,
    Backbone,
    check_image_size,
    is_known,
    minimum_image_size,
    sample_shape,
    takes,
)
from bench.models.heads import (
    HEADS,
    PRETRAINED_HEAD,
    ZERO_SHOT_HEAD,
    HeadShape,
    class_members,
)
from bench.models.text.families import family_of as text_family
from bench.models.weights import (
    Weights,
    check_unchanged,
    describe_weights,
    file_weights,
    learns,
    obtain_weights,
    takes_size,
    text_length,
    usual_size,
    with_pooling,
    with_vocabulary,
)

if TYPE_CHECKING:
    from bench.models.network import LayerGroup, Network, Outline, save_tensors

__all__ = [
    "BACKBONES",
    "HEADS",
    "OUTSIDE_BACKBONES",
    "PRETRAINED_HEAD",
    "ZERO_SHOT_HEAD",
    "Backbone",
    "HeadShape",
    "LayerGroup",
    "Network",
    "Outline",
    "Weights",
    "build_network",
    "check_channels",
    "check_fit",
    "check_image_size",
    "check_unchanged",
    "class_members",
    "describe_weights",
    "file_weights",
    "head_start",
    "is_known",
    "layer_group_names",
    "learns",
    "minimum_image_size",
    "obtain_weights",
    "outline",
    "sample_shape",
    "save_tensors",
    "takes",
    "takes_size",
    "text_family",
    "text_length",
    "usual_size",
    "with_pooling",
    "with_vocabulary",
]


def __getattr__(name: str) -> Any:
    if name in ("LayerGroup", "Network", "Outline", "save_tensors"):
        from bench.models import network

        return getattr(network, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
