"""Batch norms that normalise each channel by the batch, or by running statistics, as drawn.

Kou et al., "Stochastic Normalization", 2020. Calls are caught, not modules exchanged: evaluation,
states and checkpoints know batch norm alone.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.keys import derive_seed
from bench.models import Network
from bench.system.transfers import on_device
from bench.training.caught_calls import BatchNorm, Caught


def stochastic_norms(
    network: Network, probability: float | None, key: tuple[int | str, ...]
) -> AbstractContextManager[Caught | None]:
    """The context of a forward pass in which batch norms in training mode draw.

    A channel is normalised by the batch with this `probability` (1: as ever, to the last bit), else
    by the running statistics from before the step; both times these are updated. Scales and shifts
    are the same. All norms of the network draw, in their order, from `key`: which of them train
    changes no draw. With a probability of None nothing is caught.
    """
    if probability is None:
        return nullcontext()
    drawn = _StochasticNorms(network, probability, derive_seed(*key, "norms"))
    return Caught(F.batch_norm, drawn.batch_norm)


class _StochasticNorms:
    def __init__(self, network: Network, probability: float, seed: int) -> None:
        means = [mean for _, norm in network.norm_layers() if (mean := _mean(norm)) is not None]
        # NumPy's, as whatever else draws from torch is split among devices.
        drawn = np.random.default_rng(seed).random(sum(map(len, means))) < probability
        of_all = torch.from_numpy(drawn)
        if means:
            of_all = on_device(of_all, means[0].device)
        own = torch.split(of_all, [len(mean) for mean in means])
        self._by_batch = {id(mean): mask for mean, mask in zip(means, own, strict=True)}

    def batch_norm(self, *args: Any, **kwargs: Any) -> Tensor:
        """`F.batch_norm`."""
        call = BatchNorm(*args, **kwargs)
        mean, var = call.running_mean, call.running_var
        by_batch = self._by_batch.get(id(mean))
        if not call.training or by_batch is None or mean is None or var is None:
            return call.result()
        # Of copies: the backward pass needs these values, and the next call overwrites them.
        copies = call._replace(running_mean=mean.clone(), running_var=var.clone(), training=False)
        fixed, of_batch = copies.result(), call.result()
        return torch.where(by_batch.view(1, -1, *[1] * (fixed.ndim - 2)), of_batch, fixed)


def _mean(norm: torch.nn.Module) -> Tensor | None:
    return norm._buffers.get("running_mean")
