"""Calls of torch that a block computes otherwise: nothing of a network is exchanged for that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Caught(TorchFunctionMode):
    """A block in which `instead` is called where `function` would be, with the same arguments.

    `function` itself may be called by `instead`.
    """

    def __init__(self, function: Callable[..., Any], instead: Callable[..., Any]) -> None:
        super().__init__()
        self._function, self._instead = function, instead

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return (self._instead if func is self._function else func)(*args, **(kwargs or {}))


class BatchNorm(NamedTuple):
    """The arguments of `F.batch_norm`."""

    input: Tensor
    running_mean: Tensor | None
    running_var: Tensor | None
    weight: Tensor | None = None
    bias: Tensor | None = None
    training: bool = False
    momentum: float = 0.1
    eps: float = 1e-5

    def result(self) -> Tensor:
        """What torch makes of them."""
        return F.batch_norm(*self)
