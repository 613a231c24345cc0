"""Networks from the weights of several: their mean, and norm statistics that fit it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from bench.models.network import Network

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


def same_statistics(states: Sequence[State]) -> bool:
    """Whether the norm statistics of all are equal: they were fixed, and need not be found anew."""
    first, *others = states
    names = [name for name in first if name.rpartition(".")[2] in STATISTICS]
    return all(torch.equal(first[name], other[name]) for name in names for other in others)


def recompute_statistics(network: Network, batches: Iterable[Tensor]) -> None:
    """Give every batch norm the statistics of `batches` of what the network takes, each alike.

    Nothing else trains; the network is in evaluation mode afterwards.
    """
    network.eval()
    norms = [
        module
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
    before = [norm.momentum for norm in norms]
    device = next(network.parameters()).device
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    with torch.no_grad():
        for batch in batches if norms else ():
            network(batch.to(device))
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
        norm.eval()


def load_state(network: Network, state: State) -> None:
    """Copy a state of the library's model into the network."""
    own = network.model.state_dict()
    with torch.no_grad():
        for name, tensor in state.items():
            own[name].copy_(tensor)
