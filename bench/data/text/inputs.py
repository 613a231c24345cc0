"""Texts as a network takes them: rows of tokens on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bench.data.inputs import CENTRAL
from bench.data.splits import Samples
from bench.data.text.tokens import Tokens
from bench.system.transfers import on_device

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class TextInputs:
    """`Inputs` of texts: batches are int32 [n, length] of token ids, with padding behind them."""

    varies = False
    mixes = False

    def __init__(self, ids: Tokens, device: torch.device) -> None:
        self._ids = ids
        self._device = device

    def view(self, epoch: int) -> tuple[Any, ...]:
        """The same in every epoch."""
        return CENTRAL

    def batch(self, samples: Samples, epoch: int) -> Tensor:
        """The tokens of `samples`."""
        import torch

        return on_device(torch.from_numpy(np.ascontiguousarray(self._ids[samples])), self._device)

    def mix(self, batch: Tensor, labels: Tensor, *, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Tokens have no mixture."""
        raise NotImplementedError
