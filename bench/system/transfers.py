"""Copies to a device for which the host does not wait, and what stays there to be used again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch
    from torch import Tensor

RESIDENT_BYTES = 2**28
"""So much of one kind of thing (the images, or the frozen features, of one view) at most stays on
a GPU for a trial; of more, each batch is copied when it is used."""


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`, with its order in memory; the host does not wait for a CUDA device.

    A copy that nobody waits for must begin in pinned memory, which torch keeps until it has ended.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class ResidentRows:
    """Rows of a table of `count` on `device`: each is made and copied when first asked for."""

    def __init__(self, count: int, device: torch.device) -> None:
        self._here = np.zeros(count, dtype=bool)
        self._device = device
        self._rows: Tensor | None = None

    def of(self, numbers: npt.NDArray[Any], make: Callable[[npt.NDArray[Any]], Tensor]) -> Tensor:
        """Rows `[numbers, ...]`; `make` gives those of other numbers, on the CPU."""
        import torch

        missing = np.unique(numbers[~self._here[numbers]])
        if missing.size:
            made = make(missing)
            if self._rows is None:
                shape = (len(self._here), *made.shape[1:])
                self._rows = torch.empty(shape, dtype=made.dtype, device=self._device)
            self._rows.index_copy_(0, self._numbers(missing), on_device(made, self._device))
            self._here[missing] = True
        assert self._rows is not None, "no rows were asked for"
        return self._rows.index_select(0, self._numbers(numbers))

    def _numbers(self, numbers: npt.NDArray[Any]) -> Tensor:
        import torch

        return on_device(torch.from_numpy(numbers.astype(np.int64)), self._device)
