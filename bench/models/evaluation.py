"""What a network makes of samples once it no longer trains: the same bits whoever asks.

Training, kept features and predictions of a finished trial all compute here, in batches of fixed
sizes, so that their numbers are equal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from bench.methods.plan import HEAD
from bench.models.fused import FusedGroups, fuses
from bench.models.network import Network
from bench.system.gpu_arithmetic import gpu_arithmetic
from bench.system.token_rows import PADDING, width_for
from bench.system.transfers import on_device

FROZEN_BATCH = 16
"""What passes frozen groups at once on a CPU, padded if need be.

More activations than these leave its caches between two operations.
"""

FROZEN_BATCH_ELSEWHERE = 32
"""The same on other devices, of which fewer samples would leave more idle."""

EVALUATION_BATCH = 64
"""Fixed, because the batch size can change the last bits of a logit."""

EVALUATION_BATCH_ON_CUDA = 128
"""Fixed too: fewer samples would leave much of a GPU idle."""


def evaluation_batch(device: torch.device) -> int:
    """How many samples are evaluated at once on `device`."""
    return EVALUATION_BATCH_ON_CUDA if device.type == "cuda" else EVALUATION_BATCH


def view_batch(network: Network, device: torch.device) -> int:
    """How many samples of a view frozen groups are given at once: texts are sorted among them."""
    return frozen_batch(device) * (TEXTS_AMONG if network.takes_texts else 1)


def frozen_batch(device: torch.device) -> int:
    """How many samples pass frozen groups at once on `device`."""
    return FROZEN_BATCH if device.type == "cpu" else FROZEN_BATCH_ELSEWHERE


TEXTS_AMONG = 64
"""So many times what passes frozen groups at once, texts of one length are looked for among."""


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


def text_lengths(ids: Tensor) -> list[int]:
    """How many tokens each text has; of pairs [n, 3, length] that are mixed, the longer one."""
    texts = ids[:, :2] if ids.ndim == 3 else ids[:, None]
    found: list[int] = (texts >= 0).sum(dim=2).amax(dim=1).tolist()
    return found


class Trunk:
    """The first groups of a network up to `boundary`, without gradient, in evaluation mode.

    On CPUs they are fused (`bench.models.fused`), from copies of their weights that are kept for
    further passes unless they are large. `precision` is `fp32`, `bf16` or `fp16`.

    Each batch is computed by one CPU thread, so many `parallel_batches` at once: that is faster
    than several threads for one batch, and their number changes no bit.
    """

    def __init__(
        self, network: Network, boundary: str, *, precision: str, parallel_batches: int
    ) -> None:
        self._network = network
        self._boundary = boundary
        self._device = next(network.parameters()).device
        self._precision = precision
        self.parallel_batches = parallel_batches
        self._batch = frozen_batch(self._device)
        self._fused = None
        if fuses(self._device, precision) and not network.takes_texts:
            dtype = torch.bfloat16 if precision == "bf16" else torch.float32
            self._fused = FusedGroups(network, boundary, dtype)

    def __call__(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Activations `[n, ...]`, channels last, of each batch of what the network takes."""
        try:
            yield from self._passed(batches)
        finally:
            if self._fused is not None:
                self._fused.free()

    def _passed(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        if self._network.takes_texts:
            yield from map(self._of_texts, batches)
            return
        yield from self._computed_pieces(
            batch[at : at + self._batch]
            for batch in batches
            for at in range(0, len(batch), self._batch)
        )

    def _of_texts(self, ids: Tensor) -> Tensor:
        """Texts of one width together, so that what a text gives depends on its own tokens alone.

        Beside them stands a row of one token: libraries compute otherwise where nothing is padded.
        """
        widths = torch.tensor([width_for(length) for length in text_lengths(ids)])
        pieces = [
            piece
            for width in sorted({*widths.tolist()})
            for piece in (widths == width).nonzero().flatten().split(self._batch - 1)
        ]
        beside = torch.full_like(ids[:1], PADDING)
        beside[..., 0] = 0
        rows = (
            torch.cat([ids[on_device(piece, ids.device)], beside])[..., : int(widths[piece[0]])]
            for piece in pieces
        )
        found = torch.cat([each[:-1] for each in self._computed_pieces(rows)])
        return found[on_device(torch.cat(pieces).argsort(), found.device)]

    def _computed_pieces(self, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
        """What each piece, of at most as many rows as a batch, gives."""
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
        if count < self._batch:
            padding = batch.new_zeros(self._batch - count, *batch.shape[1:])
            batch = torch.cat([batch, padding])
        if batch.ndim == 4:
            batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), autocast(self._device, self._precision):
            activations = self._computed(batch)[:count]
        return _rows(activations)

    def _computed(self, batch: Tensor) -> Tensor:
        if self._fused is not None:
            return self._fused(batch)
        activations: Tensor = self._network(batch, stop=self._boundary)
        return activations


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
        self._trunk = (
            None
            if boundary is None
            else Trunk(network, boundary, precision=precision, parallel_batches=1)
        )

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
        if self._trunk is not None:
            batch = as_input(torch.cat(list(self._trunk([batch]))))
        with torch.no_grad():
            if self._boundary != HEAD:
                with autocast(self._device, self._precision):
                    batch = self._network(batch, start=self._boundary, stop=HEAD)
            logits: Tensor = self._network(batch.float(), start=HEAD)
        return logits if self._device.type == "cuda" else logits.cpu()
