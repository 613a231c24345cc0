"""Networks that are small enough for tests: one member of every family, on tiny images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bench.models import Network, Weights, build_network, describe_weights
from bench.suite import Entry

SMALL = {
    "alexnet": 63,
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "efficientnet_v2_s": 33,
    "efficientnet_lite0": 32,
    "googlenet": 32,
    "inception_v3": 75,
    "maxvit_t": 224,
    "mnasnet0_5": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "regnet_y_400mf": 32,
    "resnet18": 32,
    "resnext50_32x4d": 32,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 32,
    "swin_t": 32,
    "swin_v2_t": 32,
    "vgg11_bn": 32,
    "vit_b_32": 64,
}
"""Backbone → image size in pixels."""

CLASSES = 3


def no_weights(backbone: str) -> Weights:
    return describe_weights(backbone, Entry(name="none"))


def small_network(
    backbone: str,
    *,
    image_size: int | None = None,
    weights: Weights | None = None,
    head: str = "linear",
    options: dict[str, Any] | None = None,
    seed: int = 0,
    num_classes: int = CLASSES,
    **rest: Any,
) -> Network:
    return build_network(
        backbone,
        weights=weights or no_weights(backbone),
        head=Entry(name=head, options=options or {}),
        num_classes=num_classes,
        seed=seed,
        image_size=image_size or SMALL.get(backbone),
        **rest,
    )


def random_images(size: int, *, count: int = 2) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))
