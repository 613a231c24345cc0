"""Gradients on a GPU in a fixed order of additions, where the network has operations that can.

Only where torch is told to refuse any other order does attention take the backward pass that has
one; told to warn, it warns and takes the other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from bench.training.trial import Step, Training

logger = logging.getLogger(__name__)

T = TypeVar("T")


def in_fixed_order(training: Training, step: Step, compute: Callable[[], T]) -> T:
    """What `compute` gives: gradients of a step, which change nothing else but norm statistics.

    On a CUDA device in a fixed order of additions. A network that has an operation without one is
    told of in the log, at the first step of an epoch, and computed in any order from there on.
    """
    if training.device.type != "cuda" or not training.fixed_order:
        return compute()
    first = step.number == 0
    buffers = list(training.network.buffers()) if first else []
    before = [buffer.clone() for buffer in buffers]
    try:
        with deterministic(warns=False):
            return compute()
    except RuntimeError as error:
        if not first or "determinis" not in str(error).lower():
            raise
        logger.warning(
            "gradients of this network depend on the order of additions, which is not fixed on "
            "this GPU: the last bits may be others in every run (%s)",
            str(error).partition(", but")[0],
        )
    training.fixed_order = False
    with torch.no_grad():
        for buffer, values in zip(buffers, before, strict=True):
            buffer.copy_(values)
    training.optimizer.zero_grad(set_to_none=True)
    return compute()


@contextmanager
def deterministic(*, warns: bool) -> Iterator[None]:
    """Deterministic algorithms where torch has them; it refuses others, or `warns` of them."""
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=warns)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
