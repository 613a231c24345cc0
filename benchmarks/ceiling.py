"""The bare ceiling: how fast this machine trains when there is nothing but the network.

Forward, backward and one SGD step on a batch that lies in memory already, channels last, with large
buffers kept between steps; and the speed of one large matrix product for scale.

    python benchmarks/ceiling.py --model resnet18 --precision fp32 --threads 1 --processes 2
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import Literal

from bench.system.machine import keep_large_buffers

Precision = Literal["fp32", "bf16"]

MATRIX_SIDE = 2048
WARM_UP = 3
"""Untimed calls at the start: the first ones choose kernels and take memory."""


def images_per_second(
    model_name: str, precision: Precision, threads: int, batch: int, size: int, seconds: float
) -> float:
    """Images a second of this process: `batch` over the median step in about `seconds` seconds.

    Must be called before torch allocates anything large in this process. `size` is the side of the
    square images in pixels.
    """
    keep_large_buffers()
    import torch
    import torch.nn.functional as F
    from torchvision import models

    torch.set_num_threads(threads)
    model = models.get_model(model_name, weights=None, num_classes=2)
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    images = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
    labels = torch.arange(batch) % 2

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            logits = model(images)
        loss = F.cross_entropy(logits.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return batch / _median_seconds(step, seconds)


def gemm_peak(precision: Precision, threads: int, seconds: float = 3.0) -> float:
    """GFLOP/s (10⁹ operations a second) of a square matrix product: the median of many."""
    keep_large_buffers()
    import torch

    torch.set_num_threads(threads)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(MATRIX_SIDE, MATRIX_SIDE).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    median = _median_seconds(lambda: torch.mm(a, b, out=out), seconds)
    return 2 * MATRIX_SIDE**3 / median / 1e9


def _median_seconds(call: Callable[[], object], seconds: float) -> float:
    for _ in range(WARM_UP):
        call()
    times: list[float] = []
    while sum(times) < seconds:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    """Print one JSON line: images a second and GFLOP/s of each of the processes, run at once."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="resnet18", help="a torchvision classifier")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--processes", type=int, default=1, help="how many run at once")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--seconds", type=float, default=20.0, help="measured time")
    given = parser.parse_args()
    step = (given.model, given.precision, given.threads, given.batch, given.size, given.seconds)
    with multiprocessing.get_context("spawn").Pool(given.processes) as pool:
        speeds = pool.starmap(images_per_second, [step] * given.processes, chunksize=1)
        product = (given.precision, given.threads)
        peaks = pool.starmap(gemm_peak, [product] * given.processes, chunksize=1)
    print(json.dumps({**vars(given), "images_per_second": speeds, "gemm_gflops": peaks}))


if __name__ == "__main__":
    main()
