"""Several local processes, each with one task at a time."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from bench.executors.agenda import Agenda
from bench.executors.base import OnEpoch
from bench.jobs import EpochDone, Job, JobResult, StateSaved, Task
from bench.machine import keep_large_buffers
from bench.processes import start_process

GRACE_SECONDS = 5.0


class ProcessPoolExecutor:
    """`workers` processes. One that dies costs its trials, which come back as errors."""

    def __init__(self, workers: int, *, lanes: int = 1) -> None:
        self.workers = workers
        self._lanes = lanes

    def run(self, tasks: Sequence[Task], on_epoch: OnEpoch) -> Iterator[JobResult]:
        """Run all `tasks`, the next one on whichever process is free."""
        agenda = Agenda(tasks)
        busy: dict[Connection, _Worker] = {}
        idle: list[_Worker] = []
        try:
            while True:
                while len(busy) < self.workers:
                    near = idle[-1].near if idle else None
                    task = agenda.take(near=near)
                    if task is None:
                        break
                    worker = idle.pop() if idle else _Worker(self._lanes, task.jobs[0].device)
                    worker.start(task)
                    busy[worker.connection] = worker
                if not busy:
                    return
                for ready in wait(list(busy)):
                    assert isinstance(ready, Connection)
                    worker = busy[ready]
                    for message in worker.receive():
                        if isinstance(message, EpochDone):
                            on_epoch(message)
                            continue
                        if isinstance(message, _TaskDone):
                            del busy[ready]
                            if worker.alive:
                                idle.append(worker)
                            elif worker.unread:
                                agenda.put_back(worker.unread)
                            continue
                        if isinstance(message, _TaskRead):
                            continue
                        agenda.note(message)
                        if isinstance(message, JobResult):
                            yield message
        finally:
            for worker in (*busy.values(), *idle):
                worker.stop()


class _TaskRead:
    """The first message of a task."""


class _TaskDone:
    """The last message of a task."""


class _Worker:
    """One process and the pipe to it; `near` is the epoch key of the state that it saved last.

    `unread` is the task that it has been given and, idle since the one before, may have died
    without reading.
    """

    def __init__(self, lanes: int, device: str) -> None:
        self.connection, theirs = Pipe()
        self._process = start_process(_serve, theirs, lanes, device=device)
        theirs.close()
        self.alive = True
        self.near: str | None = None
        self.unread: Task | None = None
        self._served = False
        self._open: dict[str, Job] = {}

    def start(self, task: Task) -> None:
        """Hand the task over."""
        self._open = {job.trial_id: job for job in task.jobs}
        self._started = datetime.now(UTC)
        self.unread = task if self._served else None
        with suppress(OSError):  # the process is dead, which `receive` finds
            self.connection.send(task)

    def receive(self) -> list[Any]:
        """The next message; of a dead process the errors of its trials, and that it is done."""
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            self.stop()
            return [_TaskDone()] if self.unread else [*self._errors(), _TaskDone()]
        self.unread = None
        self._served = True
        if isinstance(message, StateSaved):
            self.near = message.key
            for trial in message.trials:
                self._open.pop(trial)
        if isinstance(message, JobResult):
            self._open.pop(message.trial_id)
        return [message]

    def _errors(self) -> list[JobResult]:
        error = f"the worker process died ({_cause(self._process.exitcode)})"
        return [
            JobResult(
                trial_id=trial, started=self._started, finished=datetime.now(UTC), error=error
            )
            for trial in self._open
        ]

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


def _serve(connection: Connection, lanes: int) -> None:
    """A worker process: tasks in, events out, until the pipe closes."""
    keep_large_buffers()
    from bench.engine import Engine

    engine = Engine(lanes=lanes)
    try:
        while True:
            task: Task = connection.recv()
            connection.send(_TaskRead())
            engine.perform(task, connection.send)
            connection.send(_TaskDone())
    except (EOFError, OSError):
        return
