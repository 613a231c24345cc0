"""How the families of torchvision (and timm's EfficientNet) fall into layer groups.

Each function names, from input to output, the submodules that the library's own `forward` runs,
so that running the groups gives the same bits. Pooling and flattening close the group before the
head: the head's input is one vector per image. The classifier's own dropout belongs to the head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.methods.plan import HEAD
from bench.models.network import LayerGroup, layer_group

Groups = tuple[LayerGroup, ...]

FAMILIES: dict[str, Callable[[Any], Groups]] = {}
"""Family name in the catalogue → function from the library's model to its layer groups."""

Decomposition = Callable[[Any], Groups]


def _family(name: str) -> Callable[[Decomposition], Decomposition]:
    def register(function: Decomposition) -> Decomposition:
        assert name not in FAMILIES, f"family {name!r} is registered twice"
        FAMILIES[name] = function
        return function

    return register


@_family("resnet")
def _resnet(model: Any) -> Groups:
    return (
        layer_group("stem", "conv1", "bn1", "relu", "maxpool"),
        layer_group("layer1", "layer1"),
        layer_group("layer2", "layer2"),
        layer_group("layer3", "layer3"),
        layer_group("layer4", "layer4", "avgpool", _flatten),
        layer_group(HEAD, "fc"),
    )


@_family("vgg")
def _vgg(model: Any) -> Groups:
    return (
        *_blocks(_between_pools(model.features), "avgpool", _flatten),
        layer_group("fc", *_span("classifier", 0, 5)),
        layer_group(HEAD, *_span("classifier", 5, 7)),
    )


@_family("alexnet")
def _alexnet(model: Any) -> Groups:
    return (
        *_blocks(_between_pools(model.features), "avgpool", _flatten),
        layer_group("fc", *_span("classifier", 0, 6)),
        layer_group(HEAD, "classifier.6"),
    )


@_family("squeezenet")
def _squeezenet(model: Any) -> Groups:
    return (
        *_blocks(_between_pools(model.features)),
        layer_group(HEAD, "classifier", _flatten),
    )


@_family("inception")
def _inception(model: Any) -> Groups:
    return (
        layer_group(
            "stem",
            *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1"),
            *("Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2"),
        ),
        layer_group("mixed5", "Mixed_5b", "Mixed_5c", "Mixed_5d"),
        layer_group("mixed6", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
        # its 5 × 5 kernels need the 17 × 17 map that images of 299 pixels give
        layer_group("aux", "AuxLogits", branch=True, min_image_size=299),
        layer_group("mixed7", "Mixed_7a", "Mixed_7b", "Mixed_7c", "avgpool"),
        layer_group(HEAD, "dropout", _flatten, "fc"),
    )


@_family("googlenet")
def _googlenet(model: Any) -> Groups:
    return (
        layer_group("stem", "conv1", "maxpool1", "conv2", "conv3", "maxpool2"),
        layer_group("inception3", "inception3a", "inception3b", "maxpool3"),
        layer_group("inception4a", "inception4a"),
        layer_group("aux1", "aux1", branch=True),
        layer_group("inception4bcd", "inception4b", "inception4c", "inception4d"),
        layer_group("aux2", "aux2", branch=True),
        layer_group("inception4e", "inception4e", "maxpool4"),
        layer_group("inception5", "inception5a", "inception5b", "avgpool", _flatten),
        layer_group(HEAD, "dropout", "fc"),
    )


@_family("mobilenet_v2")
def _mobilenet_v2(model: Any) -> Groups:
    last = len(model.features) - 1
    return (
        layer_group("stem", "features.0"),
        *_stages(_by_resolution(model.features, 1, last)),
        layer_group("last_conv", f"features.{last}", _global_average, _flatten),
        layer_group(HEAD, "classifier"),
    )


@_family("mobilenet_v3")
def _mobilenet_v3(model: Any) -> Groups:
    last = len(model.features) - 1
    return (
        layer_group("stem", "features.0"),
        *_stages(_by_resolution(model.features, 1, last)),
        layer_group("last_conv", f"features.{last}", "avgpool", _flatten),
        layer_group("fc", "classifier.0", "classifier.1"),
        layer_group(HEAD, "classifier.2", "classifier.3"),
    )


@_family("mnasnet")
def _mnasnet(model: Any) -> Groups:
    return (
        layer_group("stem", *_span("layers", 0, 8)),
        *_stages([f"layers.{index}"] for index in range(8, 14)),
        layer_group("last_conv", *_span("layers", 14, 17), _spatial_mean),
        layer_group(HEAD, "classifier"),
    )


@_family("efficientnet")
def _efficientnet(model: Any) -> Groups:
    last = len(model.features) - 1
    return (
        layer_group("stem", "features.0"),
        *_stages([f"features.{index}"] for index in range(1, last)),
        layer_group("last_conv", f"features.{last}", "avgpool", _flatten),
        layer_group(HEAD, "classifier"),
    )


@_family("efficientnet_lite")
def timm_efficientnet(model: Any) -> Groups:
    """timm's class `EfficientNet` with its default of no dropout in front of the classifier."""
    return (
        layer_group("stem", "conv_stem", "bn1"),
        *_stages([f"blocks.{index}"] for index in range(len(model.blocks))),
        layer_group("last_conv", "conv_head", "bn2", "global_pool"),
        layer_group(HEAD, "classifier"),
    )


@_family("densenet")
def _densenet(model: Any) -> Groups:
    def block(number: int, *rest: str | Callable[[nn.Module, Tensor], Tensor]) -> LayerGroup:
        return layer_group(f"denseblock{number}", f"features.denseblock{number}", *rest)

    stem = [f"features.{name}" for name in ("conv0", "norm0", "relu0", "pool0")]
    return (
        layer_group("stem", *stem),
        *(block(number, f"features.transition{number}") for number in (1, 2, 3)),
        block(4, "features.norm5", _relu, _global_average, _flatten),
        layer_group(HEAD, "classifier"),
    )


@_family("shufflenet")
def _shufflenet(model: Any) -> Groups:
    return (
        layer_group("stem", "conv1", "maxpool"),
        layer_group("stage2", "stage2"),
        layer_group("stage3", "stage3"),
        layer_group("stage4", "stage4"),
        layer_group("last_conv", "conv5", _spatial_mean),
        layer_group(HEAD, "fc"),
    )


@_family("regnet")
def _regnet(model: Any) -> Groups:
    return (
        layer_group("stem", "stem"),
        *(layer_group(f"block{number}", f"trunk_output.block{number}") for number in (1, 2, 3)),
        layer_group("block4", "trunk_output.block4", "avgpool", _flatten),
        layer_group(HEAD, "fc"),
    )


@_family("convnext")
def _convnext(model: Any) -> Groups:
    return (
        layer_group("stem", "features.0"),
        *_stages([["features.1"], *(_span("features", at, at + 2) for at in (2, 4, 6))]),
        layer_group("norm", "avgpool", "classifier.0", "classifier.1"),
        layer_group(HEAD, "classifier.2"),
    )


@_family("swin")
def _swin(model: Any) -> Groups:
    return (
        layer_group("stem", "features.0"),
        *_stages([["features.1"], *(_span("features", at, at + 2) for at in (2, 4, 6))]),
        layer_group("norm", "norm", "permute", "avgpool", "flatten"),
        layer_group(HEAD, "head"),
    )


@_family("maxvit")
def _maxvit(model: Any) -> Groups:
    return (
        layer_group("stem", "stem"),
        *_stages([f"blocks.{index}"] for index in range(len(model.blocks))),
        layer_group("fc", *_span("classifier", 0, 5)),
        layer_group(HEAD, "classifier.5"),
    )


@_family("vit")
def _vit(model: Any) -> Groups:
    layers = [name for name, _ in model.encoder.layers.named_children()]
    embedding = ("class_token", "conv_proj", "encoder.pos_embedding")
    return (
        layer_group("patch_embedding", _embed_patches, "encoder.dropout", owns=embedding),
        *(
            layer_group(f"block{number}", f"encoder.layers.{name}")
            for number, name in enumerate(layers, start=1)
        ),
        layer_group("norm", "encoder.ln", _class_token),
        layer_group(HEAD, "heads"),
    )


def _span(parent: str, start: int, stop: int) -> list[str]:
    return [f"{parent}.{index}" for index in range(start, stop)]


def _stages(steps: Iterable[Sequence[str]]) -> Iterator[LayerGroup]:
    for number, names in enumerate(steps, start=1):
        yield layer_group(f"stage{number}", *names)


def _blocks(
    steps: Sequence[Sequence[str]], *closing: str | Callable[[nn.Module, Tensor], Tensor]
) -> Iterator[LayerGroup]:
    for number, names in enumerate(steps, start=1):
        rest = closing if number == len(steps) else ()
        yield layer_group(f"block{number}", *names, *rest)


def _between_pools(features: nn.Sequential) -> list[list[str]]:
    """Each max-pooling layer closes a block."""
    blocks: list[list[str]] = [[]]
    for index, module in enumerate(features):
        blocks[-1].append(f"features.{index}")
        if isinstance(module, nn.MaxPool2d) and index < len(features) - 1:
            blocks.append([])
    return blocks


def _by_resolution(features: nn.Sequential, start: int, stop: int) -> list[list[str]]:
    """Each layer with a strided convolution opens a stage."""
    stages: list[list[str]] = []
    for index in range(start, stop):
        strides = (m.stride for m in features[index].modules() if isinstance(m, nn.Conv2d))
        if not stages or any(stride[0] > 1 for stride in strides):
            stages.append([])
        stages[-1].append(f"features.{index}")
    return stages


def _flatten(model: nn.Module, activations: Tensor) -> Tensor:
    return torch.flatten(activations, 1)


def _relu(model: nn.Module, activations: Tensor) -> Tensor:
    return F.relu(activations)


def _global_average(model: nn.Module, activations: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(activations, (1, 1))


def _spatial_mean(model: nn.Module, activations: Tensor) -> Tensor:
    return activations.mean([2, 3])


def _embed_patches(model: Any, images: Tensor) -> Tensor:
    patches = model._process_input(images)
    class_token = model.class_token.expand(len(patches), -1, -1)
    tokens: Tensor = torch.cat([class_token, patches], dim=1) + model.encoder.pos_embedding
    return tokens


def _class_token(model: nn.Module, tokens: Tensor) -> Tensor:
    return tokens[:, 0]
