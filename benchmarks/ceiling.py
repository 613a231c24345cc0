"""The bare ceiling: how fast this machine trains when there is nothing but the network.

Forward, backward and one SGD step on a batch that lies in memory already, channels last, with large
buffers kept between steps. And the floor below which no loop gets: each convolution of the network
timed alone, by its shape, as kernels of one size are several times as fast as those of another.

    python benchmarks/ceiling.py --model resnet18 --precision fp32 --threads 1 --processes 2
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from bench.system.machine import keep_large_buffers

if TYPE_CHECKING:
    from torch import nn

Precision = Literal["fp32", "bf16"]

WARM_UP = 3
"""Untimed calls at the start: the first ones choose kernels and take memory."""

ROUNDS = 3
"""Step and convolutions are timed in turns: a machine is not equally fast all the time."""


def measured(
    model_name: str,
    precision: Precision,
    threads: int,
    batch: int,
    size: int,
    seconds: float,
    shape_seconds: float,
) -> dict[str, Any]:
    """Images a second of this process, its floor, and the convolutions that the floor comes from.

    The step takes about `seconds` seconds, each convolution about `shape_seconds` forward and as
    many backward; what counts is the median over the rounds. With one thread, seconds are those of
    the processor: whatever else runs must not lift the floor. Must be called before torch allocates
    anything large in this process. `size` is the side of the square images in pixels.
    """
    keep_large_buffers()
    import torch
    from torchvision import models

    torch.set_num_threads(threads)
    clock = time.thread_time if threads == 1 else time.perf_counter
    model = models.get_model(model_name, weights=None, num_classes=2)
    counts = convolution_shapes(model, size)
    step = _training_step(model, precision, batch, size)
    steps: list[float] = []
    alone: dict[Shape, tuple[list[float], list[float]]] = {shape: ([], []) for shape in counts}
    for _ in range(ROUNDS):
        steps += _times(step, seconds / ROUNDS, clock)
        for shape, found in alone.items():
            calls = _convolution(shape, precision, batch)
            for call, times in zip(calls, found, strict=True):
                times += _times(call, shape_seconds / ROUNDS, clock)
    rows = [
        _row(shape, counts[shape], batch, *map(statistics.median, found))
        for shape, found in alone.items()
    ]
    return {
        "images_per_second": batch / statistics.median(steps),
        "floor_seconds": floor_seconds(rows),
        "convolutions": rows,
    }


def _training_step(
    model: nn.Module, precision: Precision, batch: int, size: int
) -> Callable[[], object]:
    import torch
    import torch.nn.functional as F

    from bench.models.evaluation import autocast
    from bench.training.depthwise import depthwise_gradients

    cpu = torch.device("cpu")
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    images = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
    labels = torch.arange(batch) % 2

    def step() -> None:
        with autocast(cpu, precision), depthwise_gradients(cpu, precision):
            logits = model(images)
        loss = F.cross_entropy(logits.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A convolution: channels in and out, and (height, width) of everything in pixels."""

    channels: int
    outputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    image: tuple[int, int]
    from_images: bool
    """Whether its input is the images themselves, of which no gradient is asked."""

    def forward_flops(self) -> int:
        """Operations for one image, an addition and a multiplication each."""
        sides = zip(
            *(self.image, self.kernel, self.stride, self.padding, self.dilation), strict=True
        )
        height, width = (
            (side + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
            for side, taps, stride, padding, dilation in sides
        )
        taps = self.kernel[0] * self.kernel[1] * self.channels // self.groups
        return 2 * height * width * self.outputs * taps


def convolution_shapes(model: nn.Module, size: int) -> Counter[Shape]:
    """How often a forward pass of one image of `size` pixels a side convolves in which shape."""
    import torch
    from torch import nn

    found: Counter[Shape] = Counter()

    def note(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(layer, nn.Conv2d)
        assert not isinstance(layer.padding, str)
        found[
            Shape(
                channels=layer.in_channels,
                outputs=layer.out_channels,
                kernel=_pair(layer.kernel_size),
                stride=_pair(layer.stride),
                padding=_pair(layer.padding),
                dilation=_pair(layer.dilation),
                groups=layer.groups,
                image=_pair(inputs[0].shape[2:]),
                from_images=inputs[0] is images,
            )
        ] += 1

    images = torch.zeros(1, 3, size, size)
    hooks = [
        layer.register_forward_pre_hook(note)
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d)
    ]
    with torch.no_grad():
        model.eval()(images)
    for hook in hooks:
        hook.remove()
    return found


def _pair(values: Any) -> tuple[int, int]:
    height, width = values
    return int(height), int(width)


def _convolution(
    shape: Shape, precision: Precision, batch: int
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Forward, and backward as `bench` trains: gradients of input and weight, of depthwise
    convolutions in fp32 where bf16 is slow."""
    import torch
    import torch.nn.functional as F

    from bench.training.depthwise import depthwise_gradients

    cpu = torch.device("cpu")
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    images = torch.randn(batch, shape.channels, *shape.image).to(dtype)
    images = images.contiguous(memory_format=torch.channels_last)
    weight = torch.randn(shape.outputs, shape.channels // shape.groups, *shape.kernel).to(dtype)
    weight = weight.contiguous(memory_format=torch.channels_last).requires_grad_()
    leaves = [weight] if shape.from_images else [images.requires_grad_(), weight]

    def convolve() -> torch.Tensor:
        with depthwise_gradients(cpu, precision):
            return F.conv2d(
                *(images, weight, None, shape.stride, shape.padding, shape.dilation, shape.groups)
            )

    output = convolve()
    upstream = torch.randn_like(output)
    return convolve, lambda: torch.autograd.grad(output, leaves, upstream, retain_graph=True)


def _row(shape: Shape, count: int, batch: int, forward: float, backward: float) -> dict[str, Any]:
    """How often the network has it, seconds a batch, and 10⁹ operations a second of both."""
    passes = 2 if shape.from_images else 3
    return {
        **asdict(shape),
        "count": count,
        "forward_seconds": forward,
        "backward_seconds": backward,
        "gflops": passes * batch * shape.forward_flops() / (forward + backward) / 1e9,
    }


def floor_seconds(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds that all convolutions take for a batch: of a forward pass, and of a training step."""
    forward = sum(row["count"] * row["forward_seconds"] for row in rows)
    backward = sum(row["count"] * row["backward_seconds"] for row in rows)
    return {"forward": forward, "training": forward + backward}


def _times(
    call: Callable[[], object], seconds: float, clock: Callable[[], float]
) -> Iterator[float]:
    """How long each of some calls took that take about `seconds` together, after untimed ones."""
    for _ in range(WARM_UP):
        call()
    total = 0.0
    while total < seconds:
        started = clock()
        call()
        taken = clock() - started
        total += taken
        yield taken


def main() -> None:
    """Print one JSON line: images a second of each of the processes, run at once, and the floor."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="resnet18", help="a torchvision classifier")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--processes", type=int, default=1, help="how many run at once")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--seconds", type=float, default=20.0, help="measured time of the step")
    parser.add_argument(
        "--shape-seconds", type=float, default=0.3, help="measured time of each convolution"
    )
    given = parser.parse_args()
    asked = (given.model, given.precision, given.threads, given.batch, given.size)
    seconds = (given.seconds, given.shape_seconds)
    with multiprocessing.get_context("spawn").Pool(given.processes) as pool:
        found = pool.starmap(measured, [(*asked, *seconds)] * given.processes, chunksize=1)
    print(
        json.dumps(
            {
                **vars(given),
                "images_per_second": [own["images_per_second"] for own in found],
                "floor_seconds": [own["floor_seconds"] for own in found],
                "convolutions": found[0]["convolutions"],
            }
        )
    )


if __name__ == "__main__":
    main()
