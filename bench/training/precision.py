"""Whether a format of two bytes pays: measured once for a model on a machine, and remembered."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from bench.errors import BenchError
from bench.methods.objectives import recorded_loss
from bench.models import (
    OUTSIDE_BACKBONES,
    Network,
    build_network,
    describe_weights,
    sample_shape,
    takes,
)
from bench.models.evaluation import autocast
from bench.models.flops import group_flops
from bench.models.weights import NONE
from bench.suite import Entry, Trial
from bench.system.cache import atomic_file, cache_lock, cache_root, make_folder
from bench.system.cache_mirror import fetch_file
from bench.system.gpu_arithmetic import gpu_arithmetic
from bench.system.machine import cpu_name, half_precision, keep_large_buffers
from bench.training.depthwise import depthwise_gradients
from bench.training.random_state import own_random_state
from bench.training.trial import NUMERICS_VERSION

logger = logging.getLogger(__name__)

NEEDED_SPEEDUP = 1.1
"""A format of two bytes must be that many times faster: below, its rounding buys nothing."""

_FORMATS = ("fp32", "bf16", "fp16")
_NUM_CLASSES = 2
_ROUNDS, _SECONDS = 5, 8.0
"""Rounds after the first one; no new one begins once all have taken so long."""

_COSTLY, _CLEAR = 0.3, 1.3
"""The first round is enough where each of its steps takes so many seconds, beside which what torch
sets up in a first step is little, and their ratio is so many times off `NEEDED_SPEEDUP`."""

_FLOPS_PER_STEP, _VALUES_PER_STEP = 4e11, 32 * 3 * 224**2
"""Each some seconds of one core in single precision: of models that compute much, and of models
that move much memory."""


def resolve_precision(trial: Trial, input_size: int, device: str) -> str:
    """The trial's precision; `auto` is what is measured to be faster for its model and sizes.

    Raises `BenchError` for a format that the device does not train in.
    """
    precision = trial.settings.precision
    if precision == "fp16" and not device.startswith("cuda"):
        raise BenchError(
            f"precision: fp16 needs a CUDA device, and this run is on {device}; set precision to "
            "auto, bf16 or fp32"
        )
    if precision != "auto":
        return precision
    return measured_precision(trial.backbone.name, input_size, device, samples_at_once(trial))


def samples_at_once(trial: Trial) -> int:
    """How many samples of a batch pass a device at once."""
    settings = trial.settings
    pieces = min(settings.batch_size, settings.micro_batch or settings.batch_size)
    return pieces // settings.devices


def measured_precision(backbone: str, input_size: int, device: str, batch_size: int) -> str:
    """`bf16` where the device computes in it natively and trains this model faster, else `fp32`.

    On CUDA devices without native bf16, `fp16` takes its place.

    What was measured is kept in the cache folder, by backbone, input size, samples per step,
    processor, version of torch and of our numerics: the answer on a machine stays the same. Samples
    per step are `batch_size`, on a CPU fewer for costly models and large samples. The caller's
    threads and random state are left as they were. Raises `BenchError` for an unknown backbone or
    an impossible size.
    """
    half = half_precision(device)
    if half is None:
        logger.info("precision fp32: %s has no native bfloat16", device)
        return "fp32"
    samples = _samples_per_step(backbone, input_size, device, batch_size)
    key = {
        "backbone": backbone,
        "input_size": input_size,
        "samples_per_step": samples,
        "device": _device_name(device),
        "torch": torch.__version__,
        "numerics": NUMERICS_VERSION,
    }
    if backbone in OUTSIDE_BACKBONES:
        key["code"] = OUTSIDE_BACKBONES.get(backbone).origin
    path = _folder() / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.json"
    kept = _kept_answer(path)
    if kept is not None:
        logger.info("precision %s for %s: measured before, %s", kept, backbone, path)
        return kept
    with cache_lock(path.with_suffix(".lock")):  # two at once would disturb each other
        fetch_file(path)
        kept = _kept_answer(path)
        if kept is not None:
            return kept
        seconds = step_seconds(backbone, input_size, device, samples, half)
        answer = faster_precision(seconds)
        logger.info("precision %s for %s: seconds a step are %s", answer, backbone, seconds)
        with atomic_file(path) as temporary:
            temporary.write_text(
                json.dumps({**key, "seconds_per_step": seconds, "precision": answer}, indent=2)
            )
    return answer


def faster_precision(seconds: Mapping[str, float]) -> str:
    """The other format if it is at least `NEEDED_SPEEDUP` times faster than `fp32`, else `fp32`."""
    (half,) = seconds.keys() - {"fp32"}
    return half if seconds["fp32"] >= NEEDED_SPEEDUP * seconds[half] else "fp32"


def step_seconds(
    backbone: str, input_size: int, device: str, samples: int, half: str = "bf16"
) -> dict[str, float]:
    """Seconds of a training step of so many random `samples` in `fp32` and in `half`.

    Forward and backward pass of the whole network with random values, on one thread, the two
    formats in turns; the shortest of several, on a CPU of processor time: whatever else runs on
    the machine must not decide.
    """
    keep_large_buffers()
    place = torch.device(device)
    with _undisturbed(place):
        network = _random_network(backbone, input_size).to(place)
        network.to(memory_format=torch.channels_last)
        network.train()
        shape = sample_shape(backbone, input_size)
        drawn = torch.zeros if takes(backbone) == "text" else torch.randn
        batch = drawn(samples, *shape, device=place)
        if batch.ndim == 4:
            batch = batch.contiguous(memory_format=torch.channels_last)
        labels = torch.arange(samples, device=place) % _NUM_CLASSES
        taken: dict[str, list[float]] = {precision: [] for precision in ("fp32", half)}
        for precision in taken:
            _timed_step(network, batch[:2], labels[:2], precision)
        for done in range(1 + _ROUNDS):
            if done == 1 and _is_clear([first for (first,) in taken.values()]):
                break
            if done > 1 and sum(map(sum, taken.values())) > _SECONDS:
                break
            for precision in taken:
                taken[precision].append(_timed_step(network, batch, labels, precision))
    return {precision: min(times[1:] or times) for precision, times in taken.items()}


def _is_clear(first: Sequence[float]) -> bool:
    """Whether the first step in `fp32` and the first in the other format tell the answer."""
    single, half = first
    surely = max(single / half / NEEDED_SPEEDUP, NEEDED_SPEEDUP * half / single)
    return min(first) >= _COSTLY and surely >= _CLEAR


def _timed_step(
    network: Network, batch: torch.Tensor, labels: torch.Tensor, precision: str
) -> float:
    network.zero_grad(set_to_none=True)
    _wait_for(batch.device)
    # With one thread, all of a step on a CPU runs in the calling one.
    clock = time.thread_time if batch.device.type == "cpu" else time.perf_counter
    start = clock()
    with autocast(batch.device, precision):
        with depthwise_gradients(batch.device, precision):
            logits = network(batch)
        loss = recorded_loss(logits, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    _wait_for(batch.device)
    return clock() - start


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _random_network(backbone: str, input_size: int) -> Network:
    return build_network(
        backbone,
        weights=describe_weights(backbone, Entry(name=NONE)),
        head=Entry(name="linear"),
        num_classes=_NUM_CLASSES,
        seed=0,
        image_size=input_size,
    )


def _samples_per_step(backbone: str, input_size: int, device: str, batch_size: int) -> int:
    """At least two: batch statistics need them."""
    if device != "cpu":
        return max(2, batch_size)
    forward = sum(group_flops(backbone, input_size, _NUM_CLASSES).values())
    values = math.prod(sample_shape(backbone, input_size))
    affordable = min(_FLOPS_PER_STEP / (3 * max(1, forward)), _VALUES_PER_STEP / values)
    return max(2, min(batch_size, int(affordable)))


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else cpu_name()


def _folder() -> Path:
    folder = cache_root() / "precision"
    make_folder(folder)
    return folder


def _kept_answer(path: Path) -> str | None:
    """The answer in the file; None if there is none, or none that makes sense."""
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    answer = kept.get("precision") if isinstance(kept, dict) else None
    return next((name for name in _FORMATS if name == answer), None)


@contextmanager
def _undisturbed(device: torch.device) -> Iterator[None]:
    """One thread and random numbers of our own; the caller's come back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with own_random_state(device), gpu_arithmetic(device):
            torch.manual_seed(0)
            yield
    finally:
        torch.set_num_threads(threads)
