"""What is the same for all folders: seeds, the backbones of a device, and the size they ask for."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from bench.models import BACKBONES, describe_weights
from bench.suite import Entry

SEEDS = (0, 1, 2)
"""Those that splits are looked at for."""
MIN_IMAGE_SIZE, SIZE_STEP = 96, 32
"""In pixels. The backbones halve the side five times: 96 px leave a last map of 3 × 3."""
SMALLEST = 64
"""In pixels, where time is short."""
TEXT_BACKBONE, TEXT_BASELINE = "minilm_l6", "tfidf"
"""What texts are first tried with, and what costs next to nothing."""
LENGTH_STEP = 32
"""In tokens."""
TRANSFORMERS = ("vit", "swin")
"""Families that have attention, and no batch norm."""


def choose_image_size(sizes: npt.NDArray[np.int64], weights_size: int) -> int | None:
    """About twice the median shorter side, where that is below what the weights ask for."""
    if not len(sizes):
        return None
    doubled = 2 * float(np.median(sizes.min(axis=1)))
    size = max(MIN_IMAGE_SIZE, math.ceil(doubled / SIZE_STEP) * SIZE_STEP)
    return size if size < weights_size else None


def smaller_sizes(sizes: npt.NDArray[np.int64], size: int) -> tuple[int, ...]:
    """Sizes below `size` for less time: down to what the images have themselves, or 96 px."""
    own = min(sizes.min(axis=1).tolist(), default=size) if len(sizes) else size
    least = max(SMALLEST, min(MIN_IMAGE_SIZE, math.ceil(own / SIZE_STEP) * SIZE_STEP))
    steps = (size * 3 // 4, size // 2)
    found = {max(least, round(step / SIZE_STEP) * SIZE_STEP) for step in steps}
    return tuple(sorted((each for each in found if each < size), reverse=True))


def backbones_for(device: str) -> tuple[str, ...]:
    """The one that the suite names, and others to compare it with."""
    if device.startswith("cuda"):
        return ("resnet50", "efficientnet_b0", "mobilenet_v3_large", "vit_b_16")
    return ("resnet18", "mobilenet_v3_large", "efficientnet_b0")


def few_parameters_of(backbone: str) -> str:
    """The strategy that trains few parameters of a backbone of torchvision of this kind."""
    return "lora" if BACKBONES[backbone].family in TRANSFORMERS else "norm_only"


def size_of_weights(backbone: str) -> int:
    """The image size in pixels that the ImageNet weights of the backbone were trained at."""
    return describe_weights(backbone, Entry(name="imagenet")).input_size


def choose_length(lengths: npt.NDArray[np.int64], most: int) -> int:
    """Tokens that hold 95 % of all texts, in steps of 32: attention costs more with each."""
    needed = math.ceil(float(np.quantile(lengths, 0.95)) / LENGTH_STEP) * LENGTH_STEP
    return min(max(needed, LENGTH_STEP), most)
