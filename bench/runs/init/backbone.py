"""What is the same for all folders: seeds, the backbones of a device, and the size they ask for."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from bench.models import describe_weights
from bench.suite import Entry

SEEDS = (0, 1, 2)
MIN_IMAGE_SIZE, SIZE_STEP = 96, 32
"""In pixels. The backbones halve the side five times: 96 px leave a last map of 3 × 3."""


def choose_image_size(sizes: npt.NDArray[np.int64], weights_size: int) -> int | None:
    """About twice the median shorter side, where that is below what the weights ask for."""
    if not len(sizes):
        return None
    doubled = 2 * float(np.median(sizes.min(axis=1)))
    size = max(MIN_IMAGE_SIZE, math.ceil(doubled / SIZE_STEP) * SIZE_STEP)
    return size if size < weights_size else None


def backbones_for(device: str) -> tuple[str, ...]:
    """The one that the suite names, and others to compare it with."""
    if device.startswith("cuda"):
        return ("resnet50", "efficientnet_b0", "mobilenet_v3_large", "vit_b_16")
    return ("resnet18", "mobilenet_v3_large", "efficientnet_b0")


def size_of_weights(backbone: str) -> int:
    """The image size in pixels that the ImageNet weights of the backbone were trained at."""
    return describe_weights(backbone, Entry(name="imagenet")).input_size
