"""What training several adapters on one frozen trunk gains on a CPU, over one after the other.

`pass`: K adapters in one pass. Frozen layers see the batches of all K one after the other in one
batch of K × B, each adapter and head its own part of it, and one optimiser steps them all; beside
it, K steps of a network with one adapter. Says too whether logits and gradients keep their bits.

`trunk`: adapters in the top groups alone, as `bench` trains them, beside the same trials without
reuse, and beside trials with adapters in all groups.

In turns; medians, smallest and largest of ratios within a round. With one thread, seconds are those
of the processor, which other work on the machine disturbs least.

    python benchmarks/adapter_stacks.py pass timm/vit_tiny_patch16_224:96:lora --together 4 16
    python benchmarks/adapter_stacks.py trunk timm/vit_tiny_patch16_224:96:2 --trials 8
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.system.machine import keep_large_buffers

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from bench.execution.jobs import Job
    from bench.models import Network

OPTIONS: dict[str, dict[str, Any]] = {
    "lora": {},
    "ssf": {},
    "adaptformer": {"dropout": 0.0},
    "vpt": {},
}
"""Options of the strategies beside their defaults: no masks, so that bits can be compared."""
LEARNING_RATES, RANKS = (3e-4, 1e-3, 3e-3, 1e-2), (4, 8, 16, 2)
IMAGES = {"train_per_class": 24, "val_per_class": 8, "test_per_class": 8}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a row of a table for each case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["pass", "trunk"])
    parser.add_argument("cases", nargs="+", help="BACKBONE:PIXELS:STRATEGY, or BACKBONE:PIXELS:TOP")
    parser.add_argument("--together", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precisions", nargs="+", default=["fp32"])
    given = parser.parse_args(arguments)
    keep_large_buffers()
    import torch

    torch.set_num_threads(given.threads)
    clock = time.thread_time if given.threads == 1 else time.perf_counter
    for case in given.cases:
        backbone, pixels, last = case.rsplit(":", 2)
        for precision in given.precisions:
            label = f"| {backbone}, {pixels} px | {last} | {precision} |"
            if given.what == "trunk":
                jobs = (backbone, int(pixels), int(last), given.trials, given.batch, precision)
                print(label, trunk_row(*jobs, rounds=given.rounds, clock=clock), flush=True)
                continue
            for together in given.together:
                sides = Passes(backbone, int(pixels), last, together, given.batch, precision)
                print(label, sides.row(given.rounds, clock), flush=True)


def in_turns(
    sides: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds by side, one a round; the round before the first is not counted."""
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds + 1):
        for side, work in sides.items():
            started = clock()
            work()
            if number:
                seconds[side].append(clock() - started)
    return seconds


def ratio(slow: Sequence[float], fast: Sequence[float]) -> str:
    """The median ratio of a round, with the smallest and the largest."""
    ratios = [one / other for one, other in zip(slow, fast, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"


# Several adapters in a pass ---------------------------------------------------------------------


class Passes:
    """A network with one adapter, and the same with `together` of them, which all start alike."""

    def __init__(
        self, backbone: str, pixels: int, strategy: str, together: int, batch: int, precision: str
    ) -> None:
        import torch

        self.together, self.precision = together, precision
        shape = (batch, 3, pixels, pixels)
        self.images = torch.randn(shape).contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(0, 2, (batch,))
        self.one = adapted(backbone, pixels, strategy)
        self.all = adapted(backbone, pixels, strategy)
        stack_adapters(self.all, together)
        self.optimizers = {id(each): optimizer(each) for each in (self.one, self.all)}
        repeated = self.images.repeat(together, 1, 1, 1)
        self.repeated = repeated.contiguous(memory_format=torch.channels_last)

    def row(self, rounds: int, clock: Callable[[], float]) -> str:
        """How many at once, milliseconds of a step alone, the ratio, whether bits are equal."""
        import torch

        self.alone(), self.stacked()
        gradients = [
            [parameter.grad for parameter in network.parameters() if parameter.requires_grad]
            for network in (self.one, self.all)
        ]
        equal = all(
            torch.equal(own, part)
            for own, parts in zip(*gradients, strict=True)
            for part in parts  # type: ignore[union-attr]
        )
        sides = {"alone": self.one_after_the_other, "stacked": self.stacked}
        seconds = in_turns(sides, rounds, clock)
        alone = 1e3 * statistics.median(seconds["alone"]) / self.together
        bits = "equal" if equal else "differ"
        found = ratio(seconds["alone"], seconds["stacked"])
        return f"{self.together} | {alone:.0f} | {found} | {bits} |"

    def one_after_the_other(self) -> None:
        """A step of each trial."""
        for _ in range(self.together):
            self.alone()

    def alone(self) -> None:
        """A step of the network with one adapter."""
        self._step(self.one, self.images, self.labels)

    def stacked(self) -> None:
        """A step of all adapters."""
        self._step(self.all, self.repeated, self.labels.repeat(self.together), self.together)

    def _step(self, network: Network, images: Tensor, labels: Tensor, times: int = 1) -> None:
        import torch.nn.functional as F

        from bench.methods.plan import HEAD
        from bench.models.evaluation import autocast
        from bench.training.depthwise import depthwise_gradients

        optimizer, device = self.optimizers[id(network)], images.device
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, self.precision), depthwise_gradients(device, self.precision):
            features = network(images, stop=HEAD)
        logits = network(features.float(), start=HEAD)
        (F.cross_entropy(logits, labels) * times).backward()
        optimizer.step()


def adapted(backbone: str, pixels: int, strategy: str) -> Network:
    """The backbone with random weights, the strategy's adapter and a head, which train."""
    import torch

    from bench.methods.plan import HEAD, adapter_of
    from bench.methods.strategies import STRATEGIES
    from bench.models import build_network, describe_weights, layer_group_names
    from bench.suite import Entry

    plan = STRATEGIES.get(strategy).function(layer_group_names(backbone), 1, **OPTIONS[strategy])
    network = build_network(
        backbone,
        weights=describe_weights(backbone, Entry(name="none")),
        head=Entry(name="linear"),
        num_classes=2,
        seed=0,
        image_size=pixels,
        adapter=plan.adapter,
    )
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for name, parameter in network.model.named_parameters():
        trains = adapter_of(name) is not None or network.group_of(name).name == HEAD
        parameter.requires_grad_(trains)
    return network.eval()


def optimizer(network: Network) -> torch.optim.Optimizer:
    """AdamW over what trains, as trials have it on a CPU."""
    import torch

    return torch.optim.AdamW([each for each in network.parameters() if each.requires_grad])


def stack_adapters(network: Network, together: int) -> None:
    """Exchange adapters and head for ones with so many copies of their parameters.

    What they take and give is a batch of all copies, one after the other.
    """
    from torch import nn
    from torch.func import functional_call

    from bench.models.adapters.base import Adapter
    from bench.models.adapters.lora import LowRank

    class Stacked(nn.Module):
        def __init__(self, each: nn.Module) -> None:
            super().__init__()
            self.each = (each,)  # a tuple, so that it is no submodule
            self.names = [name for name, _ in each.named_parameters()]
            self.copies = nn.ParameterList(
                nn.Parameter(p.detach().expand(together, *p.shape).clone())
                for p in each.parameters()
            )

        def forward(self, *given: Tensor) -> Tensor:
            return run_copies(self.each[0], dict(zip(self.names, self.copies, strict=True)), given)

    def run_copies(each: nn.Module, copies: dict[str, Tensor], given: tuple[Tensor, ...]) -> Tensor:
        import torch

        batched = batched_products(each, copies, given)
        if batched is not None:
            return batched
        parts = zip(*(tensor.chunk(together) for tensor in given), strict=True)
        outputs = [
            functional_call(each, {name: copy[at] for name, copy in copies.items()}, part)
            for at, part in enumerate(parts)
        ]
        return torch.cat(outputs)

    inside = [layer for layer in network.model.modules() if isinstance(layer, LowRank)]
    kinds = (LowRank,) if inside else (Adapter,)
    for parent in list(network.model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, kinds):
                parent._modules[name] = Stacked(child)
    for path, layer in list(network.model.named_modules()):
        if isinstance(layer, nn.Linear) and network.groups[-1].owns(path):
            above, _, name = path.rpartition(".")
            network.model.get_submodule(above)._modules[name] = Stacked(layer)


def batched_products(
    each: nn.Module, copies: dict[str, Tensor], given: tuple[Tensor, ...]
) -> Tensor | None:
    """One batched product a layer for adapters of tokens; None for the other kinds."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    from bench.models.adapters.bottlenecks import UNNORMED, AdaptFormer
    from bench.models.adapters.lora import LowRank
    from bench.models.adapters.prompts import Prompts
    from bench.models.adapters.scale_shift import SSF

    def linear(inputs: Tensor, name: str) -> Tensor:
        weight, bias = copies[f"{name}weight"], copies.get(f"{name}bias")
        rows = inputs.reshape(len(weight), -1, inputs.shape[-1])
        product = torch.bmm(rows, weight.transpose(1, 2))
        product = product if bias is None else product + bias[:, None].to(product.dtype)
        return product.view(*inputs.shape[:-1], weight.shape[1])

    if isinstance(each, nn.Linear):
        return linear(given[0], "")
    if isinstance(each, LowRank) and isinstance(each.down, nn.Linear):
        return linear(linear(given[0], "down."), "up.") * each.scale
    if isinstance(each, AdaptFormer):
        narrow = F.relu(linear(getattr(given[0], UNNORMED), "down."))
        return given[1] + linear(narrow, "up.") * each.scale
    if isinstance(each, SSF):
        scale, shift = copies["scale"], copies["shift"]
        output = given[1].unflatten(0, (len(scale), -1))
        shape = [len(scale), *[1] * (output.ndim - 1)]
        shape[-1 if each.axis == -1 else 2] = -1
        return (output * scale.view(shape) + shift.view(shape)).flatten(0, 1)
    if isinstance(each, Prompts):
        tokens = copies["tokens"]
        begin, rest = each.lead, each.lead if each.first else each.lead + tokens.shape[1]
        prompts = tokens.to(given[0].dtype).repeat_interleave(len(given[0]) // len(tokens), dim=0)
        return torch.cat([given[0][:, :begin], prompts, given[0][:, rest:]], dim=1)
    return None


# Adapters behind one trunk ----------------------------------------------------------------------


def trunk_row(
    backbone: str,
    pixels: int,
    top: int,
    trials: int,
    batch: int,
    precision: str,
    *,
    rounds: int,
    clock: Callable[[], float],
) -> str:
    """Seconds of all trials with adapters in the `top` groups, shared; ratios to the others."""
    from bench.execution.executors import InProcessExecutor
    from bench.execution.jobs import cut

    with tempfile.TemporaryDirectory() as folder:
        os.environ["BENCH_CACHE"] = str(Path(folder) / "images")
        some, every = (
            [lora_job(n, backbone, pixels, each, batch, precision) for n in range(trials)]
            for each in (top, None)
        )
        made = 0

        def run(jobs: Sequence[Job], reuse: bool) -> None:
            nonlocal made
            made += 1
            os.environ["BENCH_CACHE"] = str(Path(folder) / str(made))
            for result in InProcessExecutor().run(cut(jobs, reuse=reuse), lambda _: None):
                assert result.error is None, result.error

        sides: dict[str, Callable[[], object]] = {
            "shared": lambda: run(some, True),
            "alone": lambda: run(some, False),
            "every": lambda: run(every, False),
        }
        seconds = in_turns(sides, rounds, clock)
    shared = statistics.median(seconds["shared"])
    ratios = (ratio(seconds[side], seconds["shared"]) for side in ("alone", "every"))
    return f"{trials} | {shared:.1f} | {' | '.join(ratios)} |"


def lora_job(
    number: int, backbone: str, pixels: int, top: int | None, batch: int, precision: str
) -> Job:
    """The trial of that number: of all combinations of ranks and rates another one each."""
    from tests.tiny import make_job, make_trial

    trial = make_trial(
        "lora",
        options={"r": RANKS[number // len(LEARNING_RATES)], "top": top},
        backbone=backbone,
        data={"image_size": pixels, **IMAGES},
        epochs=2,
        batch_size=batch,
        optimizer="adamw",
        lr=LEARNING_RATES[number % len(LEARNING_RATES)],
        image_size=pixels,
        precision=precision,
    )
    return make_job(trial, trial_id=str(number))


if __name__ == "__main__":
    main()
