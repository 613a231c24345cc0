"""How a CUDA device multiplies while something is computed there: one policy, in one place.

Single precision is what it says, in convolutions as in matrix products: TF32, which torch allows in
the former alone, keeps 10 bits of 23. Who wants its speed takes `bf16` or `fp16`, which have more
of it. And cuBLAS works in memory of a fixed size: otherwise it may add up in another order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

WORKSPACE_VARIABLE = "CUBLAS_WORKSPACE_CONFIG"
WORKSPACE = ":4096:8"
"""What cuBLAS may have, unless the variable says something else: it is read when it starts."""


@contextmanager
def gpu_arithmetic(device: torch.device) -> Iterator[None]:
    """What is computed within follows the policy; on other devices than CUDA nothing changes."""
    if device.type != "cuda":
        yield
        return
    import torch

    os.environ.setdefault(WORKSPACE_VARIABLE, WORKSPACE)
    cudnn: Any = torch.backends.cudnn
    kinds = (cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul)
    before = [kind.fp32_precision for kind in kinds]
    for kind in kinds:
        kind.fp32_precision = "ieee"
    try:
        yield
    finally:
        for kind, precision in zip(kinds, before, strict=True):
            kind.fp32_precision = precision


def policy() -> dict[str, Any]:
    """What `gpu_arithmetic` sets."""
    return {"tf32": False, "cublas_workspace": os.environ.get(WORKSPACE_VARIABLE, WORKSPACE)}
