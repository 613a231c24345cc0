"""Features of the last blocks of a backbone beside those in front of its head.

DINOv2's linear evaluation reads the class tokens of the last four blocks, and the mean of the last
one's patches (Oquab et al., 2023); of CNNs it is the means of the last four groups' maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from bench.models.fitted_head import Columns
from bench.models.network import Layer, LayerGroup

NAME = "linear_sweep"
"""The strategy that reads them."""


def with_last_blocks(
    model: nn.Module, groups: Sequence[LayerGroup], *, count: int, width: int
) -> tuple[tuple[LayerGroup, ...], tuple[Columns, ...]]:
    """The groups, whose last give features of `count` blocks in one row, and what is in it.

    First come those in front of the head, `width` of them, then those of the block before, and so
    on; last the mean of patches. A backbone that is one piece to the head gives what it gave.
    """
    trunk = [group for group in groups[:-1] if group.run is not None and not group.branch]
    if type(model).__name__ == "VisionTransformer" and hasattr(model, "encoder"):
        tail = trunk[-count - 1 :]
        blocks = len(tail) - 1
        return _in_one(groups, tail, _tokens(tail)), _of_tokens(blocks, width)
    if _is_timm_transformer(model):
        blocks = min(count, len(model.blocks))  # type: ignore[arg-type]
        return _in_one(groups, trunk, _timm_tokens(blocks)), _of_tokens(blocks, width)
    # Swin's maps have channels last; open_clip's blocks are followed by a projection.
    if len(trunk) > 1 and not any(kind in type(model).__name__ for kind in ("Swin", "ImageTower")):
        tail = trunk[-count:]
        parts = (
            Columns(blocks=1, average=None, pieces=((0, width),)),
            Columns(blocks=len(tail), average=None, pieces=((0, None),)),
        )
        return _in_one(groups, tail, _maps(tail)), parts
    return tuple(groups), ()


def _of_tokens(blocks: int, width: int) -> tuple[Columns, ...]:
    end = blocks * width
    return tuple(
        Columns(
            blocks=number,
            average=average,
            pieces=((0, number * width), *(((end, None),) if average else ())),
        )
        for number in dict.fromkeys((1, blocks))
        for average in (False, True)
    )


def _in_one(
    groups: Sequence[LayerGroup], tail: Sequence[LayerGroup], run: Any
) -> tuple[LayerGroup, ...]:
    """The first group of the tail runs all of it."""
    first, *others = (group.name for group in tail)
    return tuple(
        replace(group, run=run, steps=(run,))
        if group.name == first
        else replace(group, run=None, steps=())
        if group.name in others
        else group
        for group in groups
    )


# Closures, and no partial functions: of what module they are decides whether they are read and
# fused.


def _tokens(tail: Sequence[LayerGroup]) -> Layer:
    """Blocks of torchvision's transformer, and its norm, through which each of them goes."""
    blocks = [group.steps for group in tail[:-1]]

    def last_tokens(model: Any, tokens: Tensor) -> Tensor:
        found = []
        for steps in blocks:
            tokens = _run(model, tokens, steps)
            found.append(model.encoder.ln(tokens))
        means = found[-1][:, 1:].mean(dim=1)
        return torch.cat([*(each[:, 0] for each in reversed(found)), means], dim=1)

    return last_tokens


def _timm_tokens(blocks: int) -> Layer:
    """The same of timm's."""

    def last_tokens(model: Any, images: Tensor) -> Tensor:
        pairs = model.forward_intermediates(
            images,
            indices=blocks,
            norm=True,
            return_prefix_tokens=True,
            output_fmt="NLC",
            intermediates_only=True,
        )
        firsts = [prefix[:, 0] for _, prefix in reversed(pairs)]
        return torch.cat([*firsts, pairs[-1][0].mean(dim=1)], dim=1)

    return last_tokens


def _maps(tail: Sequence[LayerGroup]) -> Layer:
    """Groups of a CNN, of which the last gives what flows into the head."""
    parts = [group.steps for group in tail]

    def last_maps(model: nn.Module, activations: Tensor) -> Tensor:
        found = []
        for steps in parts:
            activations = _run(model, activations, steps)
            found.append(activations)
        return joined(found)

    return last_maps


def _run(model: nn.Module, activations: Tensor, steps: Sequence[Layer]) -> Tensor:
    for step in steps:
        layer = model.get_submodule(step) if isinstance(step, str) else None
        activations = step(model, activations) if layer is None else layer(activations)  # type: ignore[operator]
    return activations


@fx.wrap  # it looks at shapes, which are not known while groups are read
def joined(found: list[Tensor]) -> Tensor:
    """What the last of the groups gives, and the means of the maps of those before."""
    *earlier, last = found
    means = [each.mean(dim=(2, 3)) for each in reversed(earlier) if each.ndim == 4]
    return torch.cat([last.flatten(1), *means], dim=1)


def _is_timm_transformer(model: Any) -> bool:
    """Whether it reads a class token, and tells what its blocks give."""
    return (
        hasattr(model, "forward_intermediates")
        and getattr(model, "cls_token", None) is not None
        and model.global_pool == "token"
    )
