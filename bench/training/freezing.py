"""What a plan leaves alone: which layer groups move in a stage, and where an epoch can start.

Answered from the network's outline, so that planning needs no network.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise

from bench.methods.objectives import OBJECTIVES
from bench.methods.plan import HEAD, Plan, Stage, adapter_of
from bench.models import Outline


@lru_cache(maxsize=4096)
def _moving(outline: Outline, stage: Stage) -> frozenset[str]:
    """Addresses of the parameters that the stage trains, and of norms whose statistics move."""
    moving = {a for a in outline.parameters if stage.rule_for(a).lr is not None}
    moving |= {a for a in outline.norms if stage.rule_for(a).norm_mode == "update"}
    return frozenset(moving)


def _moved(outline: Outline, plan: Plan, epochs: int) -> frozenset[str]:
    """The same of the first `epochs` epochs of the plan."""
    if not epochs:
        return frozenset()
    until = plan.stage_index(epochs - 1) + 1
    return frozenset().union(*(_moving(outline, stage) for stage in plan.stages[:until]))


def _groups(addresses: Iterable[str]) -> frozenset[str]:
    return frozenset(address.partition("/")[0] for address in addresses)


@lru_cache(maxsize=4096)
def moving_groups(outline: Outline, stage: Stage) -> frozenset[str]:
    """The groups that the stage changes: by training a parameter or by norm statistics."""
    return _groups(_moving(outline, stage))


def moved_groups(outline: Outline, plan: Plan, epochs: int) -> frozenset[str]:
    """The groups that the first `epochs` epochs of the plan may have changed."""
    return _groups(_moved(outline, plan, epochs))


def moved_tensors(
    outline: Outline, plan: Plan, epochs: int, addresses: Iterable[str]
) -> frozenset[str]:
    """Of the `addresses` of parameters and buffers those that `epochs` epochs may have changed.

    Buffers that are not of norms, and second names of parameters, move with their group.
    """
    moved = _moved(outline, plan, epochs)
    known, groups = {*outline.parameters, *outline.norms}, _groups(moved)

    def may_have_moved(address: str) -> bool:
        for own in (address, address.rpartition(".")[0]):
            if own in known:
                return own in moved
        return address.partition("/")[0] in groups

    return frozenset(filter(may_have_moved, addresses))


def frozen_boundary(outline: Outline, stage: Stage) -> str | None:
    """The last boundary in front of which the stage freezes everything; None if there is none."""
    moving = moving_groups(outline, stage)
    boundary = None
    for before, group in pairwise(outline.groups):
        if before in moving:
            break
        if group in outline.boundaries:
            boundary = group
    return boundary


def epoch_start(outline: Outline, plan: Plan, epoch: int) -> tuple[str | None, bool]:
    """Where an epoch starts: the boundary, and whether all before it has its starting weights.

    Only then are the activations at the boundary those of the starting weights, which trials share.
    """
    boundary = frozen_boundary(outline, plan.stage_at(epoch))
    return boundary, boundary is not None and is_pristine(outline, plan, epoch, boundary)


def is_pristine(outline: Outline, plan: Plan, epoch: int, boundary: str) -> bool:
    """Whether everything in front of `boundary` has its starting weights during `epoch`."""
    prefix = set(outline.groups[: outline.groups.index(boundary)])
    return not moved_groups(outline, plan, epoch + 1) & prefix


@lru_cache(maxsize=4096)
def adapts_behind(outline: Outline, boundary: str) -> bool:
    """Whether the outline has an adapter, which has no part in what flows into `boundary`.

    Activations there are those of the backbone without it.
    """
    cut = (address.partition("/") for address in outline.parameters)
    adapted = {group for group, _, name in cut if adapter_of(name) is not None}
    # What has no parameters, as a wider look at the backbone, is in no group, and has its part.
    return bool(adapted) and adapted.isdisjoint(outline.groups[: outline.groups.index(boundary)])


def head_epochs(outline: Outline, plan: Plan) -> int:
    """How many epochs at the start of the plan train nothing but a head that can be stacked."""
    if plan.objective is not None and not OBJECTIVES.get(plan.objective.name).traits.stacks:
        return 0
    epochs = 0
    for stage in plan.stages:
        head = [address for address in outline.parameters if address.startswith(f"{HEAD}/")]
        rates = {stage.rule_for(address).lr for address in head}
        if not outline.plain_head or moving_groups(outline, stage) != {HEAD} or len(rates) != 1:
            break
        epochs += stage.epochs
    return epochs
