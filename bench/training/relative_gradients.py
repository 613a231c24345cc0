"""Auto-RGN: rates of layer groups by the relative norms of their gradients.

Lee et al., "Surgical Fine-Tuning Improves Adaptation to Distribution Shifts", 2023. A block here is
a layer group.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from bench.models.companions import is_companion
from bench.training.trial import Step, Training, apply_stage


def relative_rates(training: Training, epoch: int, steps: Sequence[Step]) -> dict[str, float]:
    """For each layer group that trains ‖gradient‖ / ‖parameters‖, over the largest of these.

    The gradients are those of the objective, without penalties, over the first of an epoch's
    `steps`, as many as the plan says; their norms are averaged. The network is in evaluation mode
    meanwhile, and afterwards as it was: the result depends on its state and the training split
    alone. A batch whose gradients are not finite is left out. A group without a ratio, as it is all
    zeros, trains at the whole rate. Empty where the plan does not ask for it.
    """
    count = training.plan.gradient_batches
    if count is None:
        return {}
    groups = _trained(training)
    training.network.eval()
    own_sizes, finite = _measured(training, steps[:count], groups)
    training.optimizer.zero_grad(set_to_none=True)
    apply_stage(training.network, training.plan.stage_at(epoch))
    ratios = {
        name: sum(own[at] for own in finite) / len(finite) / size
        for at, (name, size) in enumerate(zip(groups, own_sizes, strict=True))
        if finite and size
    }
    largest = max(ratios.values(), default=0.0)
    return {name: ratio / largest for name, ratio in ratios.items()} if largest else {}


def _measured(
    training: Training, steps: Sequence[Step], groups: Mapping[str, Sequence[nn.Parameter]]
) -> tuple[list[float], list[list[float]]]:
    """The norm of the parameters of each group, and of its gradients in each finite batch.

    In fp16 losses are scaled, at first too much: less, until there is a finite batch.
    """
    sizes = torch.stack([get_total_norm([p.detach() for p in own]) for own in groups.values()])
    while True:
        measured = [_norms(training, step, groups.values()) for step in steps]
        # Read together: for that alone the host waits.
        own_sizes, *norms = torch.stack([sizes, *measured]).tolist()
        finite = [own for own in norms if all(map(math.isfinite, own))]
        scaler = training.scaler
        if finite or scaler is None or scaler.get_scale() <= 1:
            return own_sizes, finite
        scaler.update(scaler.get_scale() * scaler.get_backoff_factor())


def _norms(training: Training, step: Step, groups: Iterable[Sequence[nn.Parameter]]) -> Tensor:
    """The norm of the gradients of each group of parameters `[groups]`, in one batch.

    In fp16 all have the factor that losses are scaled by, which no ratio keeps.
    """
    training.optimizer.zero_grad(set_to_none=True)
    training.compute.add_gradients(training, replace(step, held=None, beside=None))
    return torch.stack([get_total_norm(map(_gradient, parameters)) for parameters in groups])


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _trained(training: Training) -> dict[str, list[nn.Parameter]]:
    """The parameters that train, by layer group."""
    network = training.network
    groups: dict[str, list[nn.Parameter]] = {}
    for name, parameter in network.model.named_parameters():
        if parameter.requires_grad and not is_companion(name):
            groups.setdefault(network.group_of(name).name, []).append(parameter)
    return groups
