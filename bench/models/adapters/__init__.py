"""Adapters: parameters that a plan adds to a backbone, which keeps its own.

An adapter is a module below the layer whose output it changes, called `adapter`, so the library's
names stay what they are. LoRA, AdaptFormer, SSF without a spread and a side network that is a copy
leave the network as it was at the start, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import nn

from bench.errors import PlanError, counted
from bench.methods.plan import ADAPTER, Term
from bench.models.adapters.base import Adapter, Body
from bench.models.adapters.bottlenecks import attach_adaptformer, attach_houlsby
from bench.models.adapters.lora import attach_lora
from bench.models.adapters.prompts import attach_vpt
from bench.models.adapters.scale_shift import attach_ssf
from bench.models.adapters.side import attach_side_tuning, groups_beside
from bench.models.network import LayerGroup
from bench.models.randomness import keyed_initialisation

__all__ = ["Adapter", "Body", "attach", "merge"]


Groups = tuple[LayerGroup, ...]


class _Kind(NamedTuple):
    """What adds the parameters, what it looks for in a backbone, and what groups become."""

    attach: Callable[..., bool]
    needs: str
    groups: Callable[[Sequence[LayerGroup]], Groups] = tuple


_BLOCKS = "transformer blocks of attention and MLP"
_KINDS = {
    "lora": _Kind(attach_lora, "attention, or convolutions that do not standardise their weights"),
    "ssf": _Kind(attach_ssf, "linear layers, convolutions or norms"),
    "houlsby": _Kind(attach_houlsby, _BLOCKS),
    "adaptformer": _Kind(attach_adaptformer, _BLOCKS),
    "vpt": _Kind(
        attach_vpt,
        f"{_BLOCKS}, positions that are added in front of them, and a class token that the head "
        "reads",
    ),
    "side_tuning": _Kind(attach_side_tuning, "layers", groups_beside),
}


def attach(
    model: nn.Module, groups: Sequence[LayerGroup], adapter: Term, *, backbone: str, seed: int
) -> Groups:
    """Add an adapter's parameters to `model`, with values that depend on `seed` alone.

    Its option `top` says how many groups below the head get some; without it all do. Returns the
    layer groups that the model has then. Raises `PlanError` where they have nothing that the
    adapter is defined for.
    """
    if adapter.name not in _KINDS:
        known = ", ".join(_KINDS)
        raise PlanError(f"the adapter of a plan must be one of {known}, got {adapter.name!r}")
    kind = _KINDS[adapter.name]
    options = dict(adapter.options)
    top = options.pop("top", None)
    with keyed_initialisation(seed, adapter.name):
        found = kind.attach(Body(model, groups, top), **options)
    if not found:
        where = "" if top is None else f" in its top {counted(top, 'group')}"
        raise PlanError(f"{adapter.name} needs {kind.needs}: {backbone} has none{where}")
    return kind.groups(groups)


def merge(model: nn.Module) -> None:
    """Put adapters into the parameters of the layers, where that can be."""
    for layer in list(model.modules()):
        adapter = getattr(layer, ADAPTER, None)
        if isinstance(adapter, Adapter) and adapter.merge(layer):
            delattr(layer, ADAPTER)
