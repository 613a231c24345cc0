"""Which backbones there are, without importing torch: names, families, image sizes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from bench.errors import BenchError, nearest
from bench.models.described import DescribedFamily
from bench.models.image_text import folders as image_text
from bench.models.image_text.family import FAMILY
from bench.models.image_text.folders import is_image_text
from bench.models.text.families import NAMED, family_of, is_text
from bench.suite.registry import Registry

TIMM_PREFIX = "timm/"
"""`timm/NAME` is any classification model of the library timm (extra `timm`)."""

EFFICIENTNET_LITE0 = "efficientnet_lite0"
"""timm's `tf_efficientnet_lite0`, with ImageNet weights that come from a Python package."""


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A backbone's name, the family that decomposes it, and the square images it can take.

    Sizes are in pixels. `input_size` is what it is trained from scratch at if nothing else is said.
    """

    name: str
    family: str
    min_image_size: int = 1
    multiple_of: int = 1
    input_size: int = 224


def _family(family: str, names: str, **sizes: int) -> list[Backbone]:
    return [Backbone(name=name, family=family, **sizes) for name in names.split()]


_ALL = (
    *_family("alexnet", "alexnet", min_image_size=63),
    *_family(
        "convnext", "convnext_tiny convnext_small convnext_base convnext_large", min_image_size=32
    ),
    *_family("densenet", "densenet121 densenet161 densenet169 densenet201", min_image_size=29),
    *_family(
        "efficientnet",
        "efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 "
        "efficientnet_b5 efficientnet_b6 efficientnet_b7",
    ),
    *_family(
        "efficientnet",
        "efficientnet_v2_s efficientnet_v2_m efficientnet_v2_l",
        min_image_size=33,
    ),
    *_family("efficientnet_lite", EFFICIENTNET_LITE0),
    *_family("googlenet", "googlenet", min_image_size=15),
    *_family("inception", "inception_v3", min_image_size=75, input_size=299),
    *_family("maxvit", "maxvit_t", min_image_size=224, multiple_of=224),
    *_family("mnasnet", "mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3"),
    *_family("mobilenet_v2", "mobilenet_v2"),
    *_family("mobilenet_v3", "mobilenet_v3_small mobilenet_v3_large"),
    *_family(
        "regnet",
        "regnet_x_400mf regnet_x_800mf regnet_x_1_6gf regnet_x_3_2gf regnet_x_8gf regnet_x_16gf "
        "regnet_x_32gf regnet_y_400mf regnet_y_800mf regnet_y_1_6gf regnet_y_3_2gf regnet_y_8gf "
        "regnet_y_16gf regnet_y_32gf regnet_y_128gf",
    ),
    *_family(
        "resnet",
        "resnet18 resnet34 resnet50 resnet101 resnet152 resnext50_32x4d resnext101_32x8d "
        "resnext101_64x4d wide_resnet50_2 wide_resnet101_2",
    ),
    *_family(
        "shufflenet", "shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0"
    ),
    *_family("squeezenet", "squeezenet1_0", min_image_size=21),
    *_family("squeezenet", "squeezenet1_1", min_image_size=17),
    # torchvision names 224 and 256 as smallest sizes, but the windows are padded: any size runs
    # that leaves one patch in the last stage.
    *_family("swin", "swin_t swin_s swin_b swin_v2_t swin_v2_s swin_v2_b", min_image_size=32),
    *_family(
        "vgg",
        "vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn",
        min_image_size=32,
    ),
    *_family("vit", "vit_b_16 vit_l_16", min_image_size=16, multiple_of=16),
    *_family("vit", "vit_b_32 vit_l_32", min_image_size=32, multiple_of=32),
    *_family("vit", "vit_h_14", min_image_size=14, multiple_of=14),
)

BACKBONES: Mapping[str, Backbone] = MappingProxyType({entry.name: entry for entry in _ALL})
"""Every backbone with a name of its own; `timm/NAME` comes on top."""


@dataclass(frozen=True, kw_only=True)
class OutsideTraits:
    """What a backbone that is no library's says of itself.

    `groups` cuts the model into layer groups, input to output, the head last. It takes `inputs` of
    `input_size`: images of that side, or vectors of that length; None: of any, and the data set's.
    """

    groups: Callable[[Any], Sequence[Any]]
    inputs: Literal["image", "vector"] = "image"
    input_size: int | None = None


OUTSIDE_BACKBONES: Registry[Callable[[int], Any], OutsideTraits] = Registry(
    "backbone", OutsideTraits, takes=("input_size",)
)
"""Backbones that are registered from outside: functions of the input size that make the model.

Its last linear layer is the classifier, which is replaced; its traits are those of `OutsideTraits`.
"""


def outside_traits(name: str) -> OutsideTraits:
    """The traits of a backbone that was registered from outside."""
    return OUTSIDE_BACKBONES.get(name).traits


def described_family(name: str) -> DescribedFamily | None:
    """The family of a backbone whose network is described by a text; None of all others."""
    if is_text(name):
        return family_of(name)
    return FAMILY if is_image_text(name) else None


def takes(name: str) -> Literal["image", "vector", "text"]:
    """What kind of input the backbone takes."""
    if is_text(name):
        return "text"
    return outside_traits(name).inputs if name in OUTSIDE_BACKBONES else "image"


def native_size(name: str) -> int:
    """What the backbone is trained from scratch at if nothing else is said; 0 if only data say.

    Of texts the most tokens.
    """
    if is_text(name):
        return family_of(name).max_length(name)
    if name in OUTSIDE_BACKBONES:
        return outside_traits(name).input_size or 0
    if is_image_text(name):
        return image_text.describe(image_text.folder_of(name)).image_size
    return BACKBONES[name].input_size if name in BACKBONES else 0


def sample_shape(name: str, input_size: int) -> tuple[int, ...]:
    """The shape of one sample as the backbone takes it."""
    return (3, input_size, input_size) if takes(name) == "image" else (input_size,)


def is_timm(name: str) -> bool:
    """Whether `name` has the form `timm/NAME`."""
    return name.startswith(TIMM_PREFIX) and name != TIMM_PREFIX


def is_known(name: str) -> bool:
    """Whether `name` can name a backbone; what follows a prefix such as `timm/` is only checked
    when it is built."""
    named = name in BACKBONES or name in OUTSIDE_BACKBONES
    return named or is_timm(name) or described_family(name) is not None


def check_backbone(name: str) -> None:
    """Raise `BenchError` with the nearest valid name unless `name` can name a backbone."""
    if not is_known(name):
        raise BenchError(
            "backbone must be a known name, timm/NAME, hf/NAME, clip/NAME or vectors/FILE, got "
            f"{name!r}"
            f"{nearest(name, [*BACKBONES, *NAMED, *OUTSIDE_BACKBONES])}"
        )


def minimum_image_size(name: str) -> int:
    """The smallest image the backbone can take, in pixels; 1 for `timm/NAME`, which timm checks."""
    check_backbone(name)
    return BACKBONES[name].min_image_size if name in BACKBONES else 1


def check_image_size(name: str, image_size: int) -> None:
    """Raise `BenchError` if the backbone cannot take images of `image_size` × `image_size` pixels.

    Sizes of `timm/NAME` are checked when it is built: only timm knows them. Of texts it is the most
    tokens.
    """
    check_backbone(name)
    if is_timm(name):
        return
    if is_text(name):
        _check_length(name, image_size)
        return
    if name in OUTSIDE_BACKBONES:
        fixed = outside_traits(name).input_size
        if fixed is not None and fixed != image_size:
            raise BenchError(f"{name} takes inputs of size {fixed}, got {image_size}")
        return
    if is_image_text(name):
        _check_patches(name, image_size)
        return
    entry = BACKBONES[name]
    if image_size < entry.min_image_size:
        raise BenchError(
            f"image_size must be at least {entry.min_image_size} for {name}, got {image_size}"
        )
    check_multiple(name, image_size, entry.multiple_of)


def _check_patches(name: str, image_size: int) -> None:
    vision = json.loads(image_text.describe(image_text.folder_of(name)).config)["vision_cfg"]
    patch = vision.get("patch_size", 16)
    layers, has_patches = vision.get("layers", 12), not vision.get("timm_model_name")
    if has_patches and isinstance(layers, int) and isinstance(patch, int):
        check_multiple(name, image_size, patch)


def _check_length(name: str, length: int) -> None:
    most = family_of(name).most_tokens(name)
    if most is not None and length > most:
        raise BenchError(f"max_length must be at most {most} for {name}, got {length}")


def check_multiple(name: str, image_size: int, multiple_of: int) -> None:
    """Raise `BenchError`, naming the nearest sizes, unless `multiple_of` divides `image_size`."""
    below = image_size // multiple_of * multiple_of
    if below != image_size:
        near = f"{below} or {below + multiple_of}" if below else f"{multiple_of}"
        raise BenchError(
            f"image_size must be a multiple of {multiple_of} for {name}, got {image_size}; "
            f"nearest: {near}"
        )
