"""Penalties: what a training adds to its objective for where the parameters are.

A penalty is one function from the parameters that train, and their starting values, to a scalar;
both are mappings from address (`group/name`) to tensor. Its option `weight` is what a suite gives
in short: `penalty: {l2_sp: 0.01}`. It is added once a step, whatever the batch is cut into, and has
no part in the loss that is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from bench.methods.plan import HEAD
from bench.suite.registry import NoTraits, Registry

if TYPE_CHECKING:
    from torch import Tensor

PENALTIES: Registry[Callable[..., Tensor], NoTraits] = Registry(
    "penalty", NoTraits, takes=("parameters", "start")
)

PenaltyWeight = Annotated[float, Field(ge=0, le=1e6)]


@PENALTIES.register("l2_sp")
def l2_sp(
    parameters: Mapping[str, Tensor],
    start: Mapping[str, Tensor],
    *,
    weight: Annotated[
        PenaltyWeight,
        Field(
            description="α in α/2 · ‖w − w⁰‖² + β/2 · ‖head‖², with w of the backbone, w⁰ its "
            "starting values. It replaces weight decay, so set that to 0.",
            examples=[0.01],
        ),
    ] = 0.01,
    head_weight: Annotated[
        PenaltyWeight | None,
        Field(
            description="β in the same formula, for the parameters of the head. null: equal to "
            "`weight`.",
            examples=[0.001],
        ),
    ] = None,
) -> Tensor:
    """Half the squared distance of the backbone from its start, and half the head's squared norm.

    `weight` / 2 · ‖w − w⁰‖² + `head_weight` / 2 · ‖head‖², where `head_weight` defaults to `weight`
    (Li et al., "Explicit Inductive Bias for Transfer Learning", 2018). It replaces weight decay, so
    set that to 0.
    """
    import torch

    of_head = weight if head_weight is None else head_weight
    terms = [
        of_head / 2 * tensor.square().sum()
        if address.startswith(f"{HEAD}/")
        else weight / 2 * (tensor - start[address]).square().sum()
        for address, tensor in parameters.items()
    ]
    return torch.stack(terms).sum()
