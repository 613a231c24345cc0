"""Several local processes, each with one job at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from types import ModuleType
from typing import Any

from bench.jobs import Emit, Job, JobResult, perform
from bench.machine import keep_large_buffers

GRACE_SECONDS = 5.0


class ProcessPoolExecutor:
    """`workers` spawned processes. One that dies costs its job, which comes back as an error."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, jobs: Sequence[Job], emit: Emit) -> Iterator[JobResult]:
        """Run all `jobs`, the next one on whichever process is free."""
        waiting = list(reversed(jobs))
        busy: dict[Connection, _Worker] = {}
        idle: list[_Worker] = []
        try:
            while waiting or busy:
                while waiting and len(busy) < self.workers:
                    worker = idle.pop() if idle else _Worker()
                    busy[worker.connection] = worker
                    worker.start(waiting.pop())
                for ready in wait(list(busy)):
                    assert isinstance(ready, Connection)
                    message = busy[ready].receive()
                    if isinstance(message, JobResult):
                        worker = busy.pop(ready)
                        if worker.alive:
                            idle.append(worker)
                        yield message
                    else:
                        emit(*message)
        finally:
            for worker in (*busy.values(), *idle):
                worker.stop()


class _Worker:
    """One process and the pipe to it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        with _passive_threads(), _without_main_module(), _interrupts_ignored():
            self._process.start()
        theirs.close()
        self.alive = True

    def start(self, job: Job) -> None:
        self._job, self._started = job, datetime.now(UTC)
        # A worker that has died meanwhile is found when its result is received.
        with suppress(OSError):
            self.connection.send(job)

    def receive(self) -> Any:
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.stop()
            return JobResult(
                trial_id=self._job.trial_id,
                started=self._started,
                finished=datetime.now(UTC),
                error=f"the worker process died ({_cause(self._process.exitcode)})",
            )

    def stop(self) -> None:
        self.alive = False
        self.connection.close()
        if self._process.is_alive():
            self._process.terminate()
        self._process.join(GRACE_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _cause(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        hint = ", often for want of memory" if name == "SIGKILL" else ""
        return f"signal {name}{hint}"
    return f"exit code {exitcode}"


def _serve(connection: Connection) -> None:
    """A worker process: jobs in, epoch records and results out, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_large_buffers()
    try:
        while True:
            job: Job = connection.recv()
            result = perform(job, lambda trial_id, record: connection.send((trial_id, record)))
            connection.send(result)
    except (EOFError, OSError):
        return


@contextmanager
def _passive_threads() -> Iterator[None]:
    """Idle OpenMP threads of new processes sleep: spinning ones would take the others' cores."""
    before = os.environ.get("OMP_WAIT_POLICY")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_WAIT_POLICY"]


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """New processes leave Ctrl-C to the caller from their first instruction on."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _without_main_module() -> Iterator[None]:
    """Spawned processes do not import the caller's script again: it need not be guarded."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
