"""The processes that train one trial together: each computes its rows of every batch.

They are started, and end, elsewhere; here is what each of them knows of the others, and what they
work out together. One process alone is the first of one, and computes as if none of this existed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from shutil import rmtree
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")

PATIENCE = timedelta(hours=2)
"""A rank that lives may keep the others waiting for so long: to write a state, to compute the
features of a large data set. One that dies is noticed at once."""

JOINING = timedelta(minutes=2)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """The `rows` that one rank computes of a `piece` of a batch, which all ranks share.

    Where there are fewer rows than ranks, a rank without one computes the first again, so that
    it takes part in whatever the ranks do together; its results do not `count`.
    """

    piece: slice
    rows: slice
    counts: bool

    @property
    def size(self) -> int:
        """How many rows that are."""
        return int(self.rows.stop - self.rows.start)


class Ranks:
    """This process is the one of `rank`, from 0, among the `count` that train a trial together."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank = rank
        self.count = count
        self._step: DistributedDataParallel | None = None

    @property
    def leads(self) -> bool:
        """Whether this one decides, and keeps what is to be kept."""
        return self.rank == 0

    def shard(self, piece: slice, together: int = 1) -> Shard:
        """The part of this rank in a piece of a batch, of which so many neighbours stay `together`;
        the first ranks get what is over.
        """
        size, more = divmod((piece.stop - piece.start) // together, self.count)
        start = piece.start + (self.rank * size + min(self.rank, more)) * together
        rows = slice(start, start + (size + (self.rank < more)) * together)
        if rows.start == rows.stop:
            rows = slice(piece.start, piece.start + together)
            return Shard(piece=piece, rows=rows, counts=False)
        return Shard(piece=piece, rows=rows, counts=True)

    def total(self, values: Tensor) -> Tensor:
        """The sum over all ranks, the same to the last bit on each; may change `values`."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def from_first(self, find: Callable[[], T]) -> T:
        """What the first rank finds; the tensors of it are on the CPU elsewhere."""
        if self.count == 1:
            return find()
        if self.leads:
            found, buffer = find(), BytesIO()
            torch.save(found, buffer)
            dist.broadcast_object_list([buffer.getvalue()], src=0)
            return found
        content: list[bytes] = [b""]
        dist.broadcast_object_list(content, src=0)
        # From our own first rank, and with its data classes in it.
        received: T = torch.load(BytesIO(content[0]), map_location="cpu", weights_only=False)
        return received

    def train(self, parameters: Iterable[nn.Parameter]) -> None:
        """From here on `compute` leaves gradients of these, averaged over the ranks.

        To be said anew for each epoch: what trains may change, and the order in which gradients
        are added up must not depend on how many epochs were trained before in this process.
        """
        self._step = None
        if self.count > 1:
            # Without a sync at the start: all have the same bits already.
            self._step = DistributedDataParallel(
                _Step(parameters), find_unused_parameters=True, init_sync=False
            )

    def compute(
        self, forward: Callable[[], tuple[Tensor, Tensor]], *, last: bool
    ) -> tuple[Tensor, Tensor]:
        """(loss, logits) of `forward`; the loss's `backward` adds gradients, those averaged with
        the `last` piece of a batch."""
        if self._step is None:
            return forward()
        alone: AbstractContextManager[None] = nullcontext() if last else self._step.no_sync()
        with alone:
            result: tuple[Tensor, Tensor] = self._step(forward)
        return result


class _Step(nn.Module):
    """What DDP takes for the network: parameters, and nothing of its names or buffers."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__()
        self.trained = nn.ParameterList(parameters)
        # Some networks leave parameters unused, and DDP has to look for them; where it finds none
        # it would print a warning.
        self.unused = nn.Parameter(torch.zeros(1, device=self.trained[0].device))

    def forward(self, compute: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        return compute()


@contextmanager
def joined(folder: Path, rank: int, count: int, device: str) -> Iterator[None]:
    """Be one of `count` processes of this machine that meet in `folder`, which is theirs alone.

    Tensors on the CPU travel by Gloo over the loopback device, those on a GPU by NCCL. Gloo needs
    the folder only until all are there, and it is removed.
    """
    cuda = device.startswith("cuda")
    store = dist.FileStore(str(folder / "rendezvous"), count)  # type: ignore[attr-defined]
    store.set_timeout(JOINING)
    with _loopback():
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            store=store,
            rank=rank,
            world_size=count,
            timeout=PATIENCE,
        )
    dist.all_reduce(torch.zeros(1))  # all are there
    if rank == 0 and not cuda:
        rmtree(folder)
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def _loopback() -> Iterator[None]:
    """Gloo listens where nobody outside can reach it; it would take the host's own address."""
    name = "GLOO_SOCKET_IFNAME"
    ours = sys.platform.startswith("linux") and name not in os.environ
    if ours:
        os.environ[name] = "lo"
    try:
        yield
    finally:
        if ours:
            del os.environ[name]
