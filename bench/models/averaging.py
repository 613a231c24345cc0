"""Networks from the weights of several: their mean, and norm statistics that fit it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from bench.models.network import Network
from bench.system.transfers import on_device

STATISTICS = ("running_mean", "running_var")
"""What the buffers of a batch norm that training moves are called."""

State = Mapping[str, Tensor]


def averaged(states: Sequence[State], weights: Sequence[float]) -> dict[str, Tensor]:
    """Σ weight · state for every tensor, by name; counters and indices are those of the first.

    A state with weight 0 has no part in it, and what is equal in all stays the same bits where the
    weights are a mean's: sums are kept in double precision.
    """
    used = [(state, weight) for state, weight in zip(states, weights, strict=True) if weight]
    first, _ = used[0]
    total = sum(weight for _, weight in used)
    found = {}
    for name, tensor in first.items():
        if not tensor.is_floating_point():
            found[name] = tensor.clone()
            continue
        mean = sum(weight * state[name].double() for state, weight in used) / total
        found[name] = torch.as_tensor(mean).to(tensor.dtype)
    return found


def moved_norms(states: Sequence[State]) -> frozenset[str]:
    """The norms whose statistics are not equal in all states: those of the others were fixed."""
    first, *others = states
    names = [name for name in first if name.rpartition(".")[2] in STATISTICS]
    return frozenset(
        name.rpartition(".")[0]
        for name in names
        if any(not torch.equal(first[name], other[name]) for other in others)
    )


def batch_norms(network: Network) -> frozenset[str]:
    """The names of all batch norms that keep running statistics."""
    return frozenset(
        name
        for name, module in network.model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    )


def recompute_statistics(
    network: Network, batches: Iterable[Tensor], norms: Collection[str]
) -> None:
    """Give the batch norms of these names the statistics of `batches` of what the network takes.

    Each batch counts alike, so they are to be of about one size. All other norms keep theirs, and
    nothing trains; the network is in evaluation mode afterwards.
    """
    network.eval()
    found = [
        module
        for name, module in network.model.named_modules()
        if name in norms and isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    before = [norm.momentum for norm in found]
    device = next(network.parameters()).device
    for norm in found:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    with torch.no_grad():
        for batch in batches if found else ():
            network(on_device(batch, device))
    for norm, momentum in zip(found, before, strict=True):
        norm.momentum = momentum
        norm.eval()
