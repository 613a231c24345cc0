"""What fusing frozen groups gains on a CPU: images a second of a frozen pass, before and after.

Random images pass all groups in front of the head, one thread, buffers kept: as the library's
layers compute them, in batches of 32 (as frozen passes did) and in those of today; and fused. In
turns. Seconds are those of the processor, which other work on the machine disturbs least. Making is
what reading the network and laying out its weights adds to a first batch.

    python benchmarks/frozen_pass.py --rounds 7
    python benchmarks/frozen_pass.py --backbones timm/vit_tiny_patch16_224 --profile
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from bench.system.machine import keep_large_buffers

if TYPE_CHECKING:
    from torch import Tensor

    from bench.models import Network
    from bench.models.fused import FusedGroups

BACKBONES = ("resnet18", "mobilenet_v2", "efficientnet_lite0", "timm/vit_tiny_patch16_224")
BEFORE = 32
"""Images that passed at once before groups were fused."""
MAKING = 5
"""Times that a network is fused anew."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a row of a table for each backbone and precision."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES))
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--profile", action="store_true", help="show where fused passes spend time")
    given = parser.parse_args(arguments)
    keep_large_buffers()
    print(
        "| backbone | precision | eager, 32 at once | eager | fused | ÷ eager, 32 | ÷ eager | ms |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for backbone in given.backbones:
        for precision in given.precisions:
            print(row(backbone, precision, given.size, given.images, given.rounds), flush=True)
            if given.profile:
                show_profile(backbone, precision, given.size)


def row(backbone: str, precision: str, size: int, count: int, rounds: int) -> str:
    """Images a second of the three sides, ratios to the first two, milliseconds of making."""
    import torch

    from bench.methods.plan import HEAD
    from bench.models.evaluation import FROZEN_BATCH, autocast

    torch.set_num_threads(1)
    network = random_network(backbone, size)
    images = torch.randn(count, 3, size, size).contiguous(memory_format=torch.channels_last)

    def passing(compute: Callable[[Tensor], Tensor], at_once: int) -> None:
        for batch in images.split(at_once):  # type: ignore[no-untyped-call]
            # Anew for each batch, as trunks do: it keeps converted weights until it ends.
            with torch.no_grad(), autocast(torch.device("cpu"), precision):
                compute(batch)

    def eager(batch: Tensor) -> Tensor:
        return network(batch, stop=HEAD)  # type: ignore[no-any-return]

    groups = fused(network, precision)
    sides = {
        "before": lambda: passing(eager, BEFORE),
        "eager": lambda: passing(eager, FROZEN_BATCH),
        "fused": lambda: passing(groups, FROZEN_BATCH),
    }
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(1 + rounds):
        for side, pass_all in sides.items():
            taken[side].append(seconds(pass_all))
    taken = {side: values[1:] for side, values in taken.items()}
    images = images[:FROZEN_BATCH]
    later = statistics.median(taken["fused"]) * len(images) / count
    fresh = [fused(network, precision) for _ in range(MAKING)]
    first = [seconds(partial(passing, groups, FROZEN_BATCH)) for groups in fresh]
    making = [1000 * (each - later) for each in first]
    speeds = [spread([count / each for each in taken[side]]) for side in sides]
    ratios = [spread(ratio(taken[side], taken["fused"]), 2) for side in ("before", "eager")]
    cells = [backbone, precision, *speeds, *ratios, spread(making, 0)]
    return f"| {' | '.join(cells)} |"


def show_profile(backbone: str, precision: str, size: int) -> None:
    """The operations that take most of a fused batch."""
    import torch
    from torch.profiler import profile

    from bench.models.evaluation import FROZEN_BATCH, autocast

    network = random_network(backbone, size)
    batch = torch.randn(FROZEN_BATCH, 3, size, size)
    batch = batch.contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), autocast(torch.device("cpu"), precision):
        groups = fused(network, precision)
        groups(batch)
        with profile() as profiled:
            groups(batch)
    print(profiled.key_averages().table(sort_by="self_cpu_time_total", row_limit=8))


def random_network(backbone: str, size: int) -> Network:
    """The backbone with random weights, in evaluation mode, as trials have it in memory."""
    import torch

    from bench.models import build_network, describe_weights
    from bench.suite import Entry

    network = build_network(
        backbone,
        weights=describe_weights(backbone, Entry(name="none")),
        head=Entry(name="linear"),
        num_classes=2,
        seed=0,
        image_size=size,
    )
    network.to(memory_format=torch.channels_last)
    return network.eval().requires_grad_(False)


def fused(network: Network, precision: str) -> FusedGroups:
    """Its groups in front of the head, not made yet."""
    import torch

    from bench.methods.plan import HEAD
    from bench.models.fused import FusedGroups

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return FusedGroups(network, HEAD, dtype)


def seconds(action: Callable[[], object]) -> float:
    """Of the processor, for something that one thread does."""
    began = time.thread_time()
    action()
    return time.thread_time() - began


def ratio(slow: Sequence[float], fast: Sequence[float]) -> list[float]:
    """Of the same rounds."""
    return [one / other for one, other in zip(slow, fast, strict=True)]


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median, smallest and largest."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


if __name__ == "__main__":
    main()
