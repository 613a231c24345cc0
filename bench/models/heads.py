"""Heads: the classifiers that replace the one a backbone came with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from bench.errors import DataError, nearest
from bench.methods.prompts import NO_NAMES, NO_PROMPTS, TEMPLATES, Names, Prompts, Templates
from bench.models.randomness import keyed_initialisation
from bench.suite.registry import Registry

if TYPE_CHECKING:
    from torch import nn

PRETRAINED_HEAD = "pretrained"
"""Keeps the classifier that came with the weights and reads the data set's classes from it."""

ZERO_SHOT_HEAD = "zero_shot"
"""A linear head that starts as the strategy `zero_shot` ends."""


@dataclass(frozen=True, kw_only=True)
class HeadShape:
    """The widths of a classifier's hidden layers; ReLU and dropout of this rate follow each."""

    hidden: tuple[int, ...] = ()
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class HeadTraits:
    """`layers_of`: the head that has the same layers and starts at random.

    Strategies that always have that one take this one too.
    """

    layers_of: str | None = None


HEADS: Registry[Callable[..., HeadShape], HeadTraits] = Registry("head", HeadTraits, takes=())


@HEADS.register("linear")
def linear() -> HeadShape:
    """One linear layer; dropout in front of it only where the architecture has some."""
    return HeadShape()


@HEADS.register(ZERO_SHOT_HEAD, layers_of="linear")
def zero_shot(
    *,
    templates: Templates = TEMPLATES,
    names: Names = NO_NAMES,
    prompts: Prompts = NO_PROMPTS,
) -> HeadShape:
    """One linear layer that starts at the texts of the classes, of image–text models alone.

    Before the first step logits are those of the strategy `zero_shot` with the same words, within
    10⁻⁶ of the model's scale (Wortsman et al., Robust Fine-Tuning of Zero-Shot Models, 2022, arXiv
    2109.01903).
    """
    return HeadShape()


@HEADS.register("mlp")
def mlp(
    *,
    hidden: Annotated[
        int,
        Field(ge=1, le=100_000, description="Width of the hidden layer.", examples=[512]),
    ] = 512,
    dropout: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="Share of hidden activations that training sets to 0.",
            examples=[0.5],
        ),
    ] = 0.5,
) -> HeadShape:
    """A linear layer of width `hidden`, ReLU, dropout, and a linear layer to the classes."""
    return HeadShape(hidden=(hidden,), dropout=dropout)


def build_head(
    shape: HeadShape, replaced: nn.Module, *, num_classes: int, seed: int, purpose: str = "head"
) -> nn.Module:
    """The classifier of `shape` that takes what the layer `replaced` took.

    It is made of layers of the same kind (linear, or 1 × 1 convolution), with torch's default
    initialisation, drawn from (`seed`, `purpose`) alone: equal for equal widths.
    """
    from torch import nn

    widths = (_inputs(replaced), *shape.hidden, num_classes)
    layers: list[nn.Module] = []
    with keyed_initialisation(seed, purpose):
        for position in range(len(widths) - 1):
            if position:
                layers += [nn.ReLU(), nn.Dropout(shape.dropout)]
            layers.append(_layer_like(replaced, widths[position], widths[position + 1]))
    return layers[0] if len(layers) == 1 else nn.Sequential(*layers)


def _inputs(layer: nn.Module) -> int:
    from torch import nn

    assert isinstance(layer, nn.Linear | nn.Conv2d), f"{type(layer).__name__} is not a classifier"
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


def _layer_like(replaced: nn.Module, inputs: int, outputs: int) -> nn.Module:
    from torch import nn

    bias = replaced.bias is not None  # so that the library's own model loads what we save
    if isinstance(replaced, nn.Conv2d):
        return nn.Conv2d(inputs, outputs, kernel_size=1, bias=bias)
    return nn.Linear(inputs, outputs, bias=bias)


def class_members(
    classes: Sequence[str],
    class_map: Mapping[str, Sequence[int | str]] | None,
    weights_classes: Sequence[str],
) -> tuple[tuple[int, ...], ...]:
    """For each of the data set's `classes`, which outputs of the weights' classifier mean it.

    `class_map` gives them as indices into, or names among, `weights_classes`. Raises `DataError`
    for a class without an entry and for entries that do not exist.
    """
    if class_map is None:
        raise DataError(
            f"the head {PRETRAINED_HEAD!r} needs the data set's option class_map, for example "
            f"class_map: {{{classes[0]}: [{weights_classes[0]}]}}"
        )
    members = []
    for name in classes:
        targets = class_map.get(name, ())
        if not targets:
            raise DataError(f"class_map has no entry for the class {name!r}")
        members.append(tuple(sorted({_index_of(entry, weights_classes) for entry in targets})))
    return tuple(members)


def _index_of(entry: int | str, weights_classes: Sequence[str]) -> int:
    if isinstance(entry, int):
        if 0 <= entry < len(weights_classes):
            return entry
        raise DataError(
            f"class_map: an index must lie in [0, {len(weights_classes) - 1}], got {entry}"
        )
    folded = [_folded(name) for name in weights_classes]
    if folded.count(_folded(entry)) == 1:
        return folded.index(_folded(entry))
    if folded.count(_folded(entry)) > 1:
        indices = [index for index, name in enumerate(folded) if name == _folded(entry)]
        raise DataError(f"class_map: {entry!r} names several classes; use an index of {indices}")
    raise DataError(
        f"class_map: the weights know no class {entry!r}{nearest(entry, weights_classes)}"
    )


def _folded(name: str) -> str:
    return name.casefold().replace("_", " ")
