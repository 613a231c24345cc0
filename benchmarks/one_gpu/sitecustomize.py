"""Lets two ranks of a trial share one GPU, in every process that has this folder on PYTHONPATH.

NCCL refuses two ranks on one device, so Gloo carries what it would. Python imports a module of this
name at its start.
"""

from __future__ import annotations

from typing import Any

import torch.distributed as dist

from bench.system.machine import check_devices, device_of_rank

_init_process_group = dist.init_process_group


def _init_by_gloo(backend: str | None = None, **options: Any) -> None:
    by_nccl = backend is not None and "nccl" in backend
    _init_process_group("cpu:gloo,cuda:gloo" if by_nccl else backend, **options)


def _any_count(device: str, count: int) -> None:
    """Instead of `check_devices`: a GPU is as many as are asked for."""


def _first_gpu(device: str, rank: int) -> str:
    """Instead of `device_of_rank`."""
    return "cuda:0" if device.startswith("cuda") else device


dist.init_process_group = _init_by_gloo
# In place: whoever has imported them already means these too.
check_devices.__code__ = _any_count.__code__
device_of_rank.__code__ = _first_gpu.__code__
