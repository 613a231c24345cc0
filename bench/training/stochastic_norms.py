"""Batch norms that normalise each channel by the batch, or by running statistics, as drawn.

Kou et al., "Stochastic Normalization", 2020. Calls are caught, not modules exchanged: evaluation,
states and checkpoints know batch norm alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from bench.keys import derive_seed
from bench.models import Network
from bench.system.transfers import on_device


def stochastic_norms(
    network: Network, probability: float | None, key: tuple[int | str, ...]
) -> AbstractContextManager[TorchFunctionMode | None]:
    """The context of a forward pass in which batch norms in training mode draw.

    A channel is normalised by the batch with this `probability` (1: as ever, to the last bit), else
    by the running statistics from before the step; both times these are updated. Scales and shifts
    are the same. All norms of the network draw, in their order, from `key`: which of them train
    changes no draw. With a probability of None nothing is caught.
    """
    if probability is None:
        return nullcontext()
    return _StochasticNorms(network, probability, derive_seed(*key, "norms"))


class _StochasticNorms(TorchFunctionMode):
    def __init__(self, network: Network, probability: float, seed: int) -> None:
        super().__init__()
        means = [mean for _, norm in network.norm_layers() if (mean := _mean(norm)) is not None]
        # NumPy's, as whatever else draws from torch is split among devices.
        drawn = np.random.default_rng(seed).random(sum(map(len, means))) < probability
        of_all = torch.from_numpy(drawn)
        if means:
            of_all = on_device(of_all, means[0].device)
        own = torch.split(of_all, [len(mean) for mean in means])
        self._by_batch = {id(mean): mask for mean, mask in zip(means, own, strict=True)}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        function = self._batch_norm if func is F.batch_norm else func
        return function(*args, **(kwargs or {}))

    def _batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        by_batch = self._by_batch.get(id(running_mean))
        if not training or by_batch is None or running_mean is None or running_var is None:
            return F.batch_norm(
                input, running_mean, running_var, weight, bias, training, momentum, eps
            )
        # Of copies: the backward pass needs these values, and the next call overwrites them.
        mean, var = running_mean.clone(), running_var.clone()
        fixed = F.batch_norm(input, mean, var, weight, bias, False, momentum, eps)
        of_batch = F.batch_norm(input, running_mean, running_var, weight, bias, True, momentum, eps)
        return torch.where(by_batch.view(1, -1, *[1] * (input.ndim - 2)), of_batch, fixed)


def _mean(norm: torch.nn.Module) -> Tensor | None:
    return norm._buffers.get("running_mean")
