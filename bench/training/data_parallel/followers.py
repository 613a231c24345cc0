"""The processes beside this one that train a trial with it, whatever runs this one.

They do the same work with the same code, and keep and tell nothing. They stay for the work that
follows, and end with this process however it ends: each of them waits at a pipe from it. What work
is, whoever starts them says.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from queue import SimpleQueue
from shutil import rmtree
from typing import Any

import torch
import torch.distributed as dist

from bench.errors import BenchError
from bench.system.machine import check_devices, device_of_rank, keep_large_buffers
from bench.system.processes import (
    GRACE_SECONDS,
    end_process,
    exit_cause,
    start_process,
    temporary_folder,
    was_told_to_end,
)
from bench.training.data_parallel.ranks import Ranks, joined
from bench.training.failures import Failure, RankError, is_out_of_memory
from bench.training.trial import TrainingDivergedError

FINISHING_SECONDS = 60.0
"""After the first rank has finished its work, the others have next to nothing left to do."""

Follow = Callable[[Any, Ranks], Failure | None]
"""Does the work of a rank; returns what went wrong here, unless all ranks find that alike."""


@dataclass(frozen=True)
class _Report:
    """What a follower says when its work is over; `failure` ends it, at a time of the system."""

    failure: Failure | None = None
    at: float = 0.0


class Followers:
    """The `count` - 1 processes that follow this one, which leads, on `device` and the next ones.

    `make_follow` gives each of them what it does; it is called there, and has to be picklable. They
    import the modules `preload` first.
    Raises `BenchError` if there are not so many devices, `RankError` if a follower does not start.
    """

    def __init__(
        self,
        count: int,
        device: str,
        make_follow: Callable[[], Follow],
        *,
        preload: Sequence[str] = (),
    ) -> None:
        check_devices(device, count)
        if dist.is_initialized():
            raise BenchError(
                "this process uses torch.distributed itself, so that it cannot train a trial on "
                "several devices; use --executor processes"
            )
        self.count = count
        self.device = device
        self._followers: list[_Follower] = []
        self._ends = ExitStack()
        self._ending = threading.Event()
        try:
            self._start(make_follow, preload)
        except BaseException:
            self.close()
            raise

    def _start(self, make_follow: Callable[[], Follow], preload: Sequence[str]) -> None:
        folder = temporary_folder("ranks")
        self._ends.callback(rmtree, folder, ignore_errors=True)
        for rank in range(1, self.count):
            device = device_of_rank(self.device, rank)
            self._followers.append(
                _Follower(rank, self.count, folder, device, make_follow, preload)
            )
        for follower in self._followers:
            follower.receive()  # it has imported all it needs
            if follower.failure is not None:
                raise RankError(follower.rank, self.count, follower.failure)
        self._ends.enter_context(joined(folder, 0, self.count, self.device))
        if self.device.startswith("cuda"):
            sentinels = [follower.sentinel for follower in self._followers]
            arguments = (sentinels, dist.group.WORLD, self._ending)
            threading.Thread(target=_abort_with_a_follower, args=arguments, daemon=True).start()

    @property
    def alive(self) -> bool:
        """Whether they take more work."""
        return all(follower.alive for follower in self._followers)

    @contextmanager
    def working(self, work_on: Callable[[str], Any]) -> Iterator[Ranks]:
        """Be the first rank meanwhile; the others do the work that `work_on` says for their device.

        An error leaves as its cause, a `RankError` where another rank has failed before. They are
        ended unless all have finished alike.
        """
        for follower in self._followers:
            follower.begin(work_on(follower.device))
        try:
            yield Ranks(0, self.count)
        except TrainingDivergedError:
            self._finish()  # which all ranks find, from the same losses
            raise
        except Exception as error:
            cause = self._cause(error)
            self.close()
            if cause is error:
                raise
            raise cause from error
        except BaseException:
            self.close()
            raise
        self._finish()

    def close(self) -> None:
        """End the group, then the followers: NCCL would wait for those that are gone.

        Where one of them is in the middle of something, the group is not left but broken off.
        """
        self._ending.set()
        if all(follower.alive and not follower.busy for follower in self._followers):
            for follower in self._followers:
                follower.leave()
        elif self.device.startswith("cuda") and dist.is_initialized():
            _abort(dist.group.WORLD)
        try:
            self._ends.close()
        finally:
            for follower in self._followers:
                follower.end()

    def _finish(self) -> None:
        deadline = time.monotonic() + FINISHING_SECONDS
        for follower in self._followers:
            follower.receive(max(0.0, deadline - time.monotonic()))
            if follower.busy or not follower.alive:
                self.close()
                return

    def _cause(self, error: Exception) -> Exception:
        """The error here, or that of the follower which failed before: ranks that wait for one
        that is gone find their connection closed."""
        if not isinstance(error, RuntimeError) or is_out_of_memory(error):
            return error
        failed_at = time.monotonic()
        deadline = failed_at + GRACE_SECONDS
        for follower in self._followers:
            follower.receive(max(0.0, deadline - time.monotonic()))
        failed = [f for f in self._followers if f.failure is not None and f.failed_at < failed_at]
        if not failed:
            return error
        first = min(failed, key=lambda follower: follower.failed_at)
        assert first.failure is not None
        return RankError(first.rank, self.count, first.failure)


def _abort_with_a_follower(sentinels: Sequence[int], group: Any, ending: threading.Event) -> None:
    """NCCL would wait for a dead rank; let it give up when the first follower ends.

    Unless all end, and the group before them: two threads must not end it at once.
    """
    wait(sentinels)
    if not ending.is_set():
        _abort(group)


def _abort(group: Any) -> None:
    with suppress(Exception):  # the group has ended meanwhile
        group.abort()


class _Follower:
    """A process and the pipe to it; `failure`, if there is one, ended it."""

    def __init__(
        self,
        rank: int,
        count: int,
        folder: Path,
        device: str,
        make_follow: Callable[[], Follow],
        preload: Sequence[str],
    ) -> None:
        self.rank = rank
        self.device = device
        self.failure: Failure | None = None
        self.failed_at = 0.0
        self.busy = True
        self._connection, theirs = Pipe()
        arguments = (theirs, rank, count, folder, device, make_follow)
        self._process = start_process(_follow, *arguments, device=device, preload=preload)
        theirs.close()

    @property
    def sentinel(self) -> int:
        """Ready when the process has ended."""
        return self._process.sentinel

    @property
    def alive(self) -> bool:
        """Whether it takes more work."""
        return self.failure is None and self._process.is_alive()

    def begin(self, work: Any) -> None:
        """Let it do this."""
        self.busy = True
        with suppress(OSError):  # it is dead, which the first rank finds
            self._connection.send(work)

    def leave(self) -> None:
        """Let it leave the group, as this process is about to do."""
        with suppress(OSError):
            self._connection.send(None)

    def receive(self, seconds: float | None = None) -> None:
        """Note what it has to say, or that it has died; waits so long for it."""
        try:
            if not self.busy or not self._connection.poll(seconds):
                return
            report: _Report = self._connection.recv()
            self.failure, self.failed_at = report.failure, report.at
        except (EOFError, OSError):
            self._process.join(GRACE_SECONDS)
            code = self._process.exitcode
            self.failure = Failure(
                error=f"the process died ({exit_cause(code)})", external=was_told_to_end(code)
            )
        self.busy = False

    def end(self) -> None:
        """End it, whatever it does."""
        self._connection.close()
        end_process(self._process)


# A follower -----------------------------------------------------------------------------------


def _follow(
    connection: Connection,
    rank: int,
    count: int,
    folder: Path,
    device: str,
    make_follow: Callable[[], Follow],
) -> None:
    """A follower: work in, how it ends out, until the leader ends."""
    keep_large_buffers()
    follow = make_follow()
    received: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_hear, args=(connection, received, folder), daemon=True).start()
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    connection.send(_Report())
    with joined(folder, rank, count, device):
        while (work := received.get()) is not None:
            failure = follow(work, Ranks(rank, count))
            connection.send(_Report(failure, time.monotonic()))
            if failure is not None:
                return  # closes its connections: nobody waits for it any longer


def _hear(connection: Connection, received: SimpleQueue[Any], folder: Path) -> None:
    """Hand work on as it comes; end with the leader, in the middle of whatever is done."""
    try:
        while True:
            received.put(connection.recv())
    except (EOFError, OSError):
        rmtree(folder, ignore_errors=True)
        os._exit(0)
