"""What a network makes of samples once it no longer trains: the same bits whoever asks.

Training, kept features and predictions of a finished trial all compute here, in batches of fixed
sizes, so that their numbers are equal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from bench.methods.plan import HEAD
from bench.models.network import Network
from bench.system.gpu_arithmetic import gpu_arithmetic
from bench.system.transfers import on_device

FROZEN_BATCH = 32
"""What passes frozen groups at once, padded if need be."""

EVALUATION_BATCH = 64
"""Fixed, because the batch size can change the last bits of a logit."""

EVALUATION_BATCH_ON_CUDA = 128
"""Fixed too: fewer samples would leave much of a GPU idle."""


def evaluation_batch(device: torch.device) -> int:
    """How many samples are evaluated at once on `device`."""
    return EVALUATION_BATCH_ON_CUDA if device.type == "cuda" else EVALUATION_BATCH


@contextmanager
def one_thread() -> Iterator[None]:
    """What is computed within has the same bits whatever the caller's number of threads.

    That number decides how products are cut, and their last bits.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context that runs matrix work in a trial's precision: `fp32`, `bf16` or `fp16`."""
    half = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=half, enabled=precision != "fp32")


class Trunk:
    """The first groups of a network up to `boundary`, without gradient, in evaluation mode.

    Each batch is computed by one CPU thread, so many `parallel_batches` at once: that is faster
    than several threads for one batch, and their number changes no bit.
    """

    def __init__(
        self,
        network: Network,
        boundary: str,
        *,
        autocast: Callable[[], torch.autocast],
        parallel_batches: int,
    ) -> None:
        self._network = network
        self._boundary = boundary
        self._autocast = autocast
        self.parallel_batches = parallel_batches

    def __call__(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Activations `[n, ...]`, channels last, of each batch of what the network takes."""
        pieces = (
            batch[at : at + FROZEN_BATCH]
            for batch in batches
            for at in range(0, len(batch), FROZEN_BATCH)
        )
        if self.parallel_batches == 1:
            yield from map(one_thread()(self._forward), pieces)
            return
        enter = partial(torch.set_num_threads, 1)
        with ThreadPoolExecutor(self.parallel_batches, initializer=enter) as pool:
            ahead = []
            for piece in pieces:
                ahead.append(pool.submit(self._forward, piece))
                if len(ahead) > self.parallel_batches:
                    yield ahead.pop(0).result()
            for future in ahead:
                yield future.result()

    def _forward(self, batch: Tensor) -> Tensor:
        count = len(batch)
        if count < FROZEN_BATCH:
            padding = batch.new_zeros(FROZEN_BATCH - count, *batch.shape[1:])
            batch = torch.cat([batch, padding])
        if batch.ndim == 4:
            batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), self._autocast():
            activations = self._network(batch, stop=self._boundary)[:count]
        return _rows(activations)


def _rows(activations: Tensor) -> Tensor:
    """Contiguous with channels last: a row a sample, as they are stored and gathered."""
    return activations.movedim(1, -1).contiguous() if activations.ndim == 4 else activations


def as_input(rows: Tensor) -> Tensor:
    """Stored rows as the network takes them."""
    return rows.movedim(-1, 1) if rows.ndim == 4 else rows


class Evaluation:
    """A finished network in evaluation mode, on the device where its parameters are.

    Groups in front of `boundary` (None: none) run as they did when they were kept frozen. So many
    `parallel_batches` run at once, each with `threads` intra-op threads: that changes no number.
    """

    def __init__(
        self,
        network: Network,
        *,
        boundary: str | None,
        precision: str,
        threads: int = 1,
        parallel_batches: int = 1,
    ) -> None:
        self._network = network.eval()
        self._boundary = boundary
        self._device = next(network.parameters()).device
        self._precision = precision
        self._threads = threads
        self.parallel_batches = parallel_batches

    def __call__(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Logits `[n, classes]` in fp32 on the CPU of each batch of what the network takes.

        Batches of `evaluation_batch` give the bits of a trial's own evaluation.
        """
        if self._device.type == "cuda":
            yield from self._one_behind(batches)
            return
        if self.parallel_batches == 1:
            yield from map(self._logits, batches)
            return
        with ThreadPoolExecutor(self.parallel_batches, initializer=self._enter_thread) as pool:
            ahead: deque[Future[Tensor]] = deque()
            for batch in batches:
                ahead.append(pool.submit(self._logits, batch))
                if len(ahead) > self.parallel_batches:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _one_behind(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Each result is waited for when the next batch is on its way."""
        before: Tensor | None = None
        for batch in batches:
            current = self._logits(batch)
            if before is not None:
                yield before.cpu()
            before = current
        if before is not None:
            yield before.cpu()

    def _enter_thread(self) -> None:
        torch.set_num_threads(self._threads)

    def _logits(self, batch: Tensor) -> Tensor:
        """On the CPU, but for those of a CUDA device."""
        with gpu_arithmetic(self._device):
            return self._computed(batch)

    def _computed(self, batch: Tensor) -> Tensor:
        batch = on_device(batch, self._device)
        if self._boundary is not None:
            trunk = Trunk(
                self._network,
                self._boundary,
                autocast=self._autocast,
                parallel_batches=1,
            )
            batch = as_input(torch.cat(list(trunk([batch]))))
        with torch.no_grad():
            if self._boundary != HEAD:
                with self._autocast():
                    batch = self._network(batch, start=self._boundary, stop=HEAD)
            logits: Tensor = self._network(batch.float(), start=HEAD)
        return logits if self._device.type == "cuda" else logits.cpu()

    def _autocast(self) -> torch.autocast:
        return autocast(self._device, self._precision)
