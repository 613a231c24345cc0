"""The random state of the process, lent to a trial."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_WITH_STATE = ("cuda", "mps")


@contextmanager
def own_random_state(device: torch.device) -> Iterator[None]:
    """Within the block, draws on the CPU and on `device` are free: both states come back.

    Of all other devices none is touched: to open one takes its memory, and may fail.
    """
    if device.type in _WITH_STATE:
        with torch.random.fork_rng([device], device_type=device.type):
            yield
    else:
        with torch.random.fork_rng([], device_type="cpu"):
            yield
