"""What gradients of depthwise convolutions in fp32 gain where training runs in bf16 on a CPU.

A training step of random images, channels last, buffers kept: in fp32, in bf16 as torch's autocast
does it, and in bf16 as `bench` trains. In turns; medians and every value. With one thread, seconds
are those of the processor, which other work on the machine disturbs least.

    python benchmarks/depthwise.py --models mobilenet_v2 efficientnet_lite0 --rounds 7
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

from bench.system.machine import keep_large_buffers, usable_cores

SIDES = {"fp32": ("fp32", False), "bf16, autocast": ("bf16", False), "bf16, bench": ("bf16", True)}
"""The precision, and whether depthwise convolutions are caught."""


def step_seconds(
    model: str, size: int, batch: int, rounds: int, threads: int
) -> dict[str, list[float]]:
    """Seconds of a step by side, one a round; the round before the first is not counted.

    Must be called before torch allocates anything large in this process. `size` is in pixels.
    """
    keep_large_buffers()
    import torch
    import torch.nn.functional as F

    from bench.models import build_network, describe_weights
    from bench.models.evaluation import autocast
    from bench.suite import Entry
    from bench.training.depthwise import depthwise_gradients

    torch.set_num_threads(threads)
    clock = time.thread_time if threads == 1 else time.perf_counter
    network = build_network(
        model,
        weights=describe_weights(model, Entry(name="none")),
        head=Entry(name="linear"),
        num_classes=2,
        seed=0,
        image_size=size,
    )
    network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    images = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(batch) % 2
    cpu = torch.device("cpu")

    def seconds(precision: str, caught: bool) -> float:
        network.zero_grad(set_to_none=True)
        started = clock()
        with autocast(cpu, precision), depthwise_gradients(cpu, precision if caught else "fp32"):
            logits = network(images)
        F.cross_entropy(logits.float(), labels).backward()
        return clock() - started

    taken: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(1 + rounds):
        for side, how in SIDES.items():
            taken[side].append(seconds(*how))
    return {side: values[1:] for side, values in taken.items()}


def main() -> None:
    """Print a JSON line a model: seconds of each step, medians and their ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=["mobilenet_v2", "efficientnet_lite0"])
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=usable_cores())
    given = parser.parse_args()
    for model in given.models:
        taken = step_seconds(model, given.size, given.batch, given.rounds, given.threads)
        medians = {side: statistics.median(values) for side, values in taken.items()}
        ours = medians["bf16, bench"]
        ratios = {side: round(median / ours, 3) for side, median in medians.items()}
        print(json.dumps({"model": model, "seconds": taken, "medians": medians, "ratios": ratios}))


if __name__ == "__main__":
    main()
