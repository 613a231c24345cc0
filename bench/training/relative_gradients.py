"""Auto-RGN: rates of layer groups by the relative norms of their gradients.

Lee et al., "Surgical Fine-Tuning Improves Adaptation to Distribution Shifts", 2023. A block here is
a layer group.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from bench.training.trial import Step, Training, apply_stage


def relative_rates(training: Training, epoch: int, steps: Sequence[Step]) -> dict[str, float]:
    """For each layer group that trains ‖gradient‖ / ‖parameters‖, over the largest of these.

    The gradients are those of the objective, without penalties, over the first of an epoch's
    `steps`, as many as the plan says; their norms are averaged. The network is in evaluation mode
    meanwhile, and afterwards as it was: the result depends on its state and the training split
    alone. A batch whose gradients are not finite is left out, a group of zeros has no ratio.
    Empty where the plan does not ask for it.
    """
    count = training.plan.gradient_batches
    if count is None:
        return {}
    training.network.eval()
    norms = [_norms(training, step) for step in steps[:count]]
    training.optimizer.zero_grad(set_to_none=True)
    apply_stage(training.network, training.plan.stage_at(epoch))
    finite = [own for own in norms if all(map(torch.isfinite, own.values()))]
    sizes = {
        name: get_total_norm([parameter.detach() for parameter in parameters]).item()
        for name, parameters in _trained(training).items()
    }
    ratios = {
        name: sum(own[name].item() for own in finite) / len(finite) / size
        for name, size in sizes.items()
        if finite and size
    }
    largest = max(ratios.values(), default=0.0)
    return {name: ratio / largest for name, ratio in ratios.items()} if largest else {}


def _norms(training: Training, step: Step) -> dict[str, Tensor]:
    """The norm of the gradients of each layer group that trains, in one batch.

    In fp16 all have the factor that losses are scaled by, which no ratio keeps.
    """
    training.optimizer.zero_grad(set_to_none=True)
    training.compute.add_gradients(training, step)
    return {
        name: get_total_norm([p.grad for p in parameters if p.grad is not None])
        for name, parameters in _trained(training).items()
    }


def _trained(training: Training) -> dict[str, list[nn.Parameter]]:
    """The parameters that train, by layer group."""
    network = training.network
    groups: dict[str, list[nn.Parameter]] = {}
    for name, parameter in network.model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(network.group_of(name).name, []).append(parameter)
    return groups
