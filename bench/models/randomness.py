"""Random initialisation that depends on a key alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def keyed_initialisation(seed: int, purpose: str) -> Iterator[None]:
    """Within the block, torch's CPU draws are those of (`seed`, `purpose`), whatever came before.

    The global state is as it was afterwards. New modules are made on the CPU, whatever the default
    device is, so that the numbers are the same on every machine.
    """
    import torch

    digest = hashlib.sha256(f"{purpose}/{seed}".encode()).digest()
    state = torch.get_rng_state()
    try:
        torch.default_generator.manual_seed(int.from_bytes(digest[:8]) >> 1)
        with torch.device("cpu"):
            yield
    finally:
        torch.set_rng_state(state)
