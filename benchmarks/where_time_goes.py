"""Where the time of an epoch of `bench` goes: a profile of its own training code on the CPU.

Profiled are an epoch of full fine-tuning, the one pass of a frozen network that a linear probe
needs with the first epoch on its features, and an epoch of the topmost layer group on the
activations in front of it. The network's work is told apart by operation, everything else by the
function of `bench` that does it. Each profiled epoch stands between epochs without the profiler.

    python benchmarks/where_time_goes.py --data FOLDER --work FOLDER --precision bf16
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial, wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from torch import nn
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function
from workload import prepare

from bench.data import ImageData, prepare_images
from bench.data.images.augmentations import Augmenter
from bench.data.images.inputs import ImageInputs
from bench.execution.engine import make_training
from bench.execution.jobs import Job, trial_splits
from bench.methods.objectives import CrossEntropy
from bench.models.evaluation import Trunk
from bench.runs.resolve import resolve_run
from bench.runs.run import counted_trials
from bench.system.machine import describe_machine, keep_large_buffers
from bench.training import loop, one_device, stacked_heads
from bench.training.frozen_features import FeatureStore
from bench.training.loop import Branch, isolated
from bench.training.stacked_heads import HeadTrial, train_heads
from bench.training.state import EpochRecord
from bench.training.trial import Training

SUITE = Path(__file__).parent / "reference_grid.yaml"
SHOWN_IMAGES = 32
"""Milliseconds are given for so many images: the last batch of an epoch is smaller."""

FORWARD, BACKWARD = "convolution, forward", "convolution, backward"
DEPTHWISE_FORWARD = "depthwise convolution, forward"
DEPTHWISE_BACKWARD = "depthwise convolution, backward"
NORM = "batch norm, forward and backward"
ELEMENTWISE = "activation, addition, pooling"
LINEAR = "linear layers"
OPTIMISER = "optimiser"
READING = "reading images or features"
AUGMENTING = "augmenting"
NORMALISING = "normalising images"
COPYING = "copying and conversion"
LOSS = "loss and bookkeeping"
HEADS = "training the stacked heads"
KEEPING = "keeping features and the best epoch"
VALIDATION = "validation, all of it"
OTHER = "Python and other"
CATEGORIES = (
    *(FORWARD, BACKWARD, DEPTHWISE_FORWARD, DEPTHWISE_BACKWARD, NORM, ELEMENTWISE, LINEAR),
    *(COPYING, OPTIMISER, LOSS, READING, AUGMENTING, NORMALISING, HEADS, KEEPING, VALIDATION),
    OTHER,
)

DEPTHWISE_OF = {FORWARD: DEPTHWISE_FORWARD, BACKWARD: DEPTHWISE_BACKWARD}

EPOCH, FROZEN, DEPTHWISE = "epoch", "frozen groups", "depthwise"
SPLIT_BY_OPERATION = (EPOCH, FROZEN)
"""Scopes whose time is told apart by operation; all others are a category as a whole."""

SCOPES: Sequence[tuple[Any, str, str]] = (
    (one_device, "training_batch", READING),
    (stacked_heads, "training_batch", READING),
    (Augmenter, "images", AUGMENTING),
    (ImageInputs, "batch", NORMALISING),
    (Trunk, "_forward", FROZEN),
    (CrossEntropy, "loss", LOSS),
    (stacked_heads._Stack, "_step", HEADS),
    (FeatureStore, "_add", KEEPING),
    (Branch, "_tensors", KEEPING),
    (loop, "predict", VALIDATION),
    (stacked_heads._Stack, "_scored", VALIDATION),
)
"""(module or class, function, what the profile calls its time)"""

OPERATIONS: Sequence[tuple[str, Sequence[str]]] = (
    (NORM, ("batchnorm",)),
    (LINEAR, ("addmm", "linear", "::mm", "matmul")),
    (LOSS, ("nllloss", "crossentropy", "logsoftmax", "argmax", "::eq", "::sum")),
    (COPYING, ("copy", "contiguous", "clone", "::cat")),
    (ELEMENTWISE, ("relu", "threshold", "hardtanh", "clamp", "pool", "mean", "add", "::mul")),
)
"""What the names of a category's operations contain, underscores left out; first match wins."""

PARTS: Mapping[str, Sequence[str]] = {
    "finetune": ("strategy=full_finetune", "augmentation=flip_crop"),
    "probe": ("strategy=linear_probe", "augmentation=none"),
    "partial": ("strategy={name: partial_finetune, top: 1}", "augmentation=none"),
}


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One profiled epoch: seconds by category, and how fast epochs are with and without.

    `images` go through the network to be trained on (of a probe: through its frozen part, those of
    all splits); `unprofiled` and `profiled` are the seconds in which they do.
    """

    part: str
    images: int
    seconds: Mapping[str, float]
    unprofiled: Sequence[float]
    profiled: float

    @property
    def milliseconds(self) -> Mapping[str, float]:
        """For `SHOWN_IMAGES` images, in the order of `CATEGORIES`."""
        return {
            category: 1000 * self.seconds[category] * SHOWN_IMAGES / self.images
            for category in CATEGORIES
            if category in self.seconds
        }


# What is profiled ---------------------------------------------------------------------------------


def prepared_training(given: argparse.Namespace, part: str) -> tuple[Training, Job]:
    """The part's only trial as `bench run` plans it."""
    fixed = (f"precision={given.precision}", f"threads={given.threads}", "lr=0.001", "seed=0")
    schedule = "schedule={name: step, step_size: 7}"
    workload = prepare(
        SUITE,
        model=given.model,
        data=given.data,
        work=given.work,
        overrides=(f"name={part}", *PARTS[part], schedule, *fixed),
    )
    resolved_run = resolve_run(
        workload.suite, out=given.work / "resolved", device="cpu", overrides=workload.overrides
    )
    (resolved,), (counted,) = resolved_run.trials, counted_trials(resolved_run)
    resize = resolved.trial.settings.resize
    folder = prepare_images(resolved_run.dataset, image_size=resolved.input_size, resize=resize)
    data = ImageData.open(folder)
    job = replace(counted.job, data=folder)
    return make_training(job, data, trial_splits(job.trial, data)), job


def epochs_of_a_branch(training: Training, features: Path) -> Callable[[], EpochRecord]:
    """Each call trains the next epoch; the first one also computes what is frozen."""
    training.features = FeatureStore(features)
    training.load({})
    return Branch(training=training).train_epoch


def frozen_pass(training: Training, job: Job, work: Path) -> EpochRecord:
    """The first epoch of a linear probe whose features nobody has computed yet."""
    with TemporaryDirectory(dir=work) as features:
        training.features = FeatureStore(Path(features))
        trial = HeadTrial(training=training, epochs=1, keys=job.keys)
        ((_, record),) = train_heads([trial])
        return record


def measured(given: argparse.Namespace, part: str) -> Profile:
    """Profile one epoch of the part between `given.repeats` epochs without the profiler."""
    training, job = prepared_training(given, part)
    with TemporaryDirectory(dir=given.work) as features, isolated(given.threads):
        if part == "probe":
            next_epoch: Callable[[], EpochRecord] = partial(frozen_pass, training, job, given.work)
            images = len(training.data)
        else:
            next_epoch = epochs_of_a_branch(training, Path(features))
            images = len(training.splits.train)
        next_epoch()  # a warm-up
        unprofiled = [next_epoch().train_seconds]
        record, events = profiled(next_epoch)
        unprofiled += [next_epoch().train_seconds for _ in range(given.repeats - 1)]
    if given.operations:
        show_operations(events, given.operations)
    return Profile(
        part=part,
        images=images,
        seconds=by_category(events),
        unprofiled=unprofiled,
        profiled=record.train_seconds,
    )


# The profile --------------------------------------------------------------------------------------


def profiled(epoch: Callable[[], EpochRecord]) -> tuple[EpochRecord, list[FunctionEvent]]:
    """Run the epoch; everything that happened in it."""
    # Recording shapes would keep memory from being used again, and so slow down what is measured.
    seen = profile(activities=[ProfilerActivity.CPU])
    with scopes(), seen, record_function(EPOCH):
        record = epoch()
    events = seen.events()  # type: ignore[no-untyped-call]
    assert events is not None
    return record, [event for event in events if any(e.name == EPOCH for e in upwards(event))]


@contextmanager
def scopes() -> Iterator[None]:
    """Let the profiler see the functions of `SCOPES`, and which convolutions are depthwise."""
    with ExitStack() as stack:
        convolution = _depthwise_seen(nn.Conv2d._conv_forward)
        stack.enter_context(patch.object(nn.Conv2d, "_conv_forward", convolution))
        for owner, name, scope in SCOPES:
            seen = _seen(getattr(owner, name), scope)
            stack.enter_context(patch.object(owner, name, seen))
        yield


def _seen(function: Callable[..., Any], scope: str) -> Callable[..., Any]:
    @wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        with record_function(scope):
            return function(*arguments, **options)

    return wrapped


def _depthwise_seen(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def wrapped(module: nn.Conv2d, *arguments: Any) -> Any:
        if 1 < module.groups == module.in_channels:
            with record_function(DEPTHWISE):
                return function(module, *arguments)
        return function(module, *arguments)

    return wrapped


def by_category(events: Sequence[FunctionEvent]) -> dict[str, float]:
    """Seconds by category: every event counts without what is nested in it."""
    seconds: defaultdict[str, float] = defaultdict(float)
    depthwise = depthwise_numbers(events)
    for event in events:
        seconds[category_of(event, depthwise)] += event.self_cpu_time_total / 1e6
    return dict(seconds)


def depthwise_numbers(events: Sequence[FunctionEvent]) -> set[int]:
    """What the backward operations of depthwise convolutions share with the forward ones."""
    return {
        event.sequence_nr
        for event in events
        if event.sequence_nr >= 0 and any(each.name == DEPTHWISE for each in upwards(event))
    }


def category_of(event: FunctionEvent, depthwise: set[int]) -> str:
    """By the innermost scope, and in what is told apart by the innermost known operation."""
    scoped = {scope for _, _, scope in SCOPES} | {EPOCH}
    lineage = list(upwards(event))
    if any(each.name == VALIDATION for each in lineage):
        return VALIDATION
    operation = None
    for each in lineage:
        if each.name.startswith("Optimizer."):
            return OPTIMISER
        if each.name in scoped:
            if each.name not in SPLIT_BY_OPERATION:
                return each.name
            if any(_is_depthwise(e, depthwise) for e in lineage):
                operation = DEPTHWISE_OF.get(operation or OTHER, operation)
            return operation or OTHER
        operation = operation or operation_of(each)
    raise AssertionError("the event lies in no epoch")


def _is_depthwise(event: FunctionEvent, numbers: set[int]) -> bool:
    backward = "ConvolutionBackward" in event.name
    return event.name == DEPTHWISE or (backward and event.sequence_nr in numbers)


def operation_of(event: FunctionEvent) -> str | None:
    """The category of an operation of torch; None if it may belong to any."""
    name = event.name.lower().replace("_", "")
    if "conv" in name:
        return BACKWARD if "backward" in name else FORWARD
    if name == "aten::to":
        return COPYING
    matching = (cat for cat, parts in OPERATIONS if any(part in name for part in parts))
    return next(matching, None)


def upwards(event: FunctionEvent) -> Iterator[FunctionEvent]:
    """The event, and everything that it is nested in."""
    each: FunctionEvent | None = event
    while each is not None:
        yield each
        each = each.cpu_parent


# Output -------------------------------------------------------------------------------------------


def show(found: Profile) -> None:
    """A Markdown table: share of the epoch's wall time, milliseconds for 32 images."""
    total = sum(found.seconds.values())
    alone = statistics.median(found.unprofiled)
    print(
        f"{found.images} images in {alone:.2f} s (n = {len(found.unprofiled)}, "
        f"{min(found.unprofiled):.2f}–{max(found.unprofiled):.2f}): {found.images / alone:.1f} "
        f"images a second; under the profiler {found.profiled:.2f} s: "
        f"{found.images / found.profiled:.1f}\n"
    )
    print(f"| {found.part} | share | ms for {SHOWN_IMAGES} images |\n| --- | ---: | ---: |")
    for category, milliseconds in found.milliseconds.items():
        print(
            f"| {category} | {100 * found.seconds[category] / total:.1f} % | {milliseconds:,.1f} |"
        )
    print(f"| all | 100 % | {sum(found.milliseconds.values()):,.1f} |\n", flush=True)


def show_operations(events: Sequence[FunctionEvent], count: int) -> None:
    """The operations that take longest, with their category, so that it can be checked."""
    seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
    depthwise = depthwise_numbers(events)
    for event in events:
        seconds[event.name, category_of(event, depthwise)] += event.self_cpu_time_total / 1e6
    for (name, category), value in sorted(seconds.items(), key=lambda item: -item[1])[:count]:
        print(f"{value:8.3f} s  {name}  ({category})")
    print()


def record_line(given: argparse.Namespace, found: Profile) -> None:
    """Append what was found to the record."""
    line = {
        **asdict(found),
        **{name: getattr(given, name) for name in ("model", "precision", "threads")},
        "milliseconds": found.milliseconds,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine("cpu"),
    }
    given.record.parent.mkdir(parents=True, exist_ok=True)
    with given.record.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def main() -> None:
    """Profile the chosen parts, one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and val/")
    parser.add_argument("--work", type=Path, required=True, help="weights, cache, passing files")
    parser.add_argument("--model", default="resnet18", help="a torchvision classifier")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=2, help="epochs without the profiler")
    parser.add_argument("--operations", type=int, default=0, help="also list so many operations")
    parser.add_argument("--record", type=Path, help="JSON lines, appended to")
    given = parser.parse_args()
    given.data, given.work = given.data.resolve(), given.work.resolve()
    keep_large_buffers()
    for part in given.parts:
        started = time.perf_counter()
        found = measured(given, part)
        print(f"{given.model}, {given.precision}, {given.threads} threads: {part}")
        show(found)
        if given.record:
            record_line(given, found)
        print(f"({time.perf_counter() - started:.0f} s)\n", flush=True)


if __name__ == "__main__":
    main()
