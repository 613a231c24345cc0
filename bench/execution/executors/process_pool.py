"""Several local processes, each with one task at a time."""

from __future__ import annotations

import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from bench.errors import BenchError
from bench.execution import PRELOADED
from bench.execution.executors.agenda import Agenda
from bench.execution.executors.base import OnEpoch
from bench.execution.executors.history import History
from bench.execution.jobs import EpochDone, Job, JobResult, StateSaved, Task
from bench.suite import Resources
from bench.system.machine import keep_large_buffers, limit_memory
from bench.system.processes import (
    GRACE_SECONDS,
    end_process,
    exit_cause,
    start_process,
    was_told_to_end,
)
from bench.training.failures import place, took_too_long

MOMENT_SECONDS = 0.001
"""So long a result waits for what others say just now."""

LOOK_SECONDS = 1.0
"""How often the clocks of the workers are looked at; so long, too, a result waits for the worker
that told its last one, which says right after it that it is free."""


class ProcessPoolExecutor:
    """`workers` processes. One that dies, or hangs for longer than `resources` allow, costs its
    trials, which come back as errors with the epochs that they had finished.

    Each process sees one of `gpus`, as `CUDA_VISIBLE_DEVICES` names them, if there are any.

    Raises `BenchError` where memory cannot be limited.
    """

    def __init__(
        self,
        workers: int,
        *,
        parallel_batches: int = 1,
        resources: Resources | None = None,
        gpus: Sequence[str] = (),
    ) -> None:
        self.workers = workers
        self._lanes = parallel_batches
        self._resources = resources or Resources()
        self._gpus = gpus
        self._idle: list[_Worker] = []
        if self._resources.memory_gib is not None and not sys.platform.startswith("linux"):
            raise BenchError(
                "resources.memory_gib works on Linux only; remove it to run on this machine"
            )

    def run(self, tasks: Sequence[Task], on_epoch: OnEpoch) -> Iterator[JobResult]:
        """Run all `tasks`, the next one on whichever process is free."""
        agenda = Agenda(tasks)
        busy: dict[Connection, _Worker] = {}
        history = History()
        results: deque[JobResult] = deque()
        try:
            while True:
                self._hand_out(agenda, busy, history)
                if not busy and not results:
                    return
                heard = False
                # Whoever takes a result may take long: until then, others get their next tasks.
                for worker, messages in self._heard(busy, _patience(busy, results)):
                    heard = True
                    for message in messages:
                        if isinstance(message, EpochDone):
                            history.note(message)
                            on_epoch(message)
                        elif isinstance(message, _TaskDone):
                            del busy[worker.connection]
                            if worker.alive:
                                self._idle.append(worker)
                            elif worker.unread:
                                agenda.put_back(worker.unread)
                        elif not isinstance(message, _TaskRead):
                            agenda.note(message)
                            if isinstance(message, JobResult):
                                results.append(message)
                if results and (not heard or len(results) > self.workers):
                    yield results.popleft()
        except KeyboardInterrupt:
            yield from results  # what is finished is handed out first
            raise
        finally:
            for worker in busy.values():
                worker.stop()

    def close(self) -> None:
        """End the processes that wait for further tasks."""
        while self._idle:
            self._idle.pop().stop()

    def _hand_out(self, agenda: Agenda, busy: dict[Connection, _Worker], history: History) -> None:
        """Give every free process a task, as long as there are any that are ready."""
        while len(busy) < self.workers:
            near = self._idle[-1].near if self._idle else None
            task = agenda.take(near=near)
            if task is None:
                return
            device = task.jobs[0].device
            worker = self._idle.pop() if self._idle else self._hired(device, busy.values())
            worker.start(task, history)
            busy[worker.connection] = worker

    def _hired(self, device: str, others: Iterable[_Worker]) -> _Worker:
        """A new process, on the GPU that the fewest `others` are on."""
        taken = Counter(worker.gpu for worker in others)
        gpu = min(self._gpus, key=lambda each: taken[each], default=None)
        return _Worker(self._lanes, self._resources, device, gpu)

    def _heard(
        self, busy: dict[Connection, _Worker], seconds: float | None
    ) -> Iterator[tuple[_Worker, list[Any]]]:
        """What the workers have to say, and the end of one that has been silent for too long.

        Waits for `seconds` at most (None: until there is something).

        Their clocks stand still while nobody listens here: while results are written, or this
        process was suspended.
        """
        limited = self._resources.minutes is not None
        listening = time.monotonic()
        if seconds is None and limited:
            seconds = LOOK_SECONDS
        ready = {
            connection
            for connection in wait(list(busy), seconds)
            if isinstance(connection, Connection)
        }
        passed = min(time.monotonic() - listening, 2 * LOOK_SECONDS)
        workers = list(busy.values())
        for worker in workers:
            if worker.connection in ready:
                worker.silent_seconds = 0.0
                yield worker, worker.receive()
            else:
                worker.silent_seconds += passed
        limit = self._resources.seconds
        late = [w for w in workers if limit is not None and w.silent_for(limit)]
        if late:
            # It may have held what the others were waiting for, so they get their time anew.
            longest = max(late, key=lambda worker: worker.silent_seconds)
            for worker in workers:
                worker.silent_seconds = 0.0
            yield longest, longest.expire()


def _patience(busy: Mapping[Connection, _Worker], results: Sequence[JobResult]) -> float | None:
    """For how many seconds the workers are listened to before a result is handed out."""
    if not results:
        return None
    ends = any(worker.has_told_all for worker in busy.values())
    return LOOK_SECONDS if ends else MOMENT_SECONDS


class _TaskRead:
    """The first message of a task."""


@dataclass(frozen=True)
class _TaskDone:
    """The last message of a task; the process may end with it."""

    ends: bool = False


class _Worker:
    """One process and the pipe to it; `near` is the epoch key of the state that it saved last.

    `unread` is the task that it has been given and, idle since the one before, may have died
    without reading. It has been silent for `silent_seconds`.
    """

    def __init__(
        self, parallel_batches: int, resources: Resources, device: str, gpu: str | None
    ) -> None:
        self.gpu = gpu
        self.connection, theirs = Pipe()
        self._process = start_process(
            _serve,
            theirs,
            parallel_batches,
            resources.memory_gib,
            device,
            device=device,
            environment={} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu},
            preload=PRELOADED,
        )
        theirs.close()
        self.alive = True
        self.near: str | None = None
        self.unread: Task | None = None
        self.silent_seconds = 0.0
        self._minutes = resources.minutes
        self._served = False
        self._reads = False
        self._open: dict[str, Job] = {}

    def start(self, task: Task, history: History) -> None:
        """Hand the task over; `history` hears of its epochs."""
        self._history = history
        self._open = {job.trial_id: job for job in task.jobs}
        self._first_epoch = task.start
        self._started = datetime.now(UTC)
        self._reads = False
        self.silent_seconds = 0.0
        self.unread = task if self._served else None
        with suppress(OSError):  # the process is dead, which `receive` finds
            self.connection.send(task)

    def receive(self) -> list[Any]:
        """The next message; of a dead process the errors of its trials, and that it is done."""
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            self._process.join(GRACE_SECONDS)  # its own end, and not one that `stop` gives it
            self.stop()
            return [_TaskDone()] if self.unread else [*self._deaths(), _TaskDone()]
        self.unread = None
        self._served = self._reads = True
        if isinstance(message, StateSaved):
            self.near = message.key
            for trial in message.trials:
                self._open.pop(trial)
        if isinstance(message, JobResult):
            self._open.pop(message.trial_id)
        if isinstance(message, _TaskDone) and message.ends:
            self.stop()
        return [message]

    @property
    def has_told_all(self) -> bool:
        """Whether no trial of its task is left, so that it says next that it is free."""
        return not self._open

    def silent_for(self, seconds: float) -> bool:
        """Whether it has not been heard of for longer than that, nor is it just now."""
        return self.alive and self.silent_seconds > seconds and not self.connection.poll()

    def expire(self) -> list[Any]:
        """End the process, whatever it does: the errors of its trials, and that it is done."""
        assert self._minutes is not None
        self.stop()
        self.unread = None
        errors = [
            self._error(job, took_too_long(self._minutes, self._place(job)))
            for job in self._open.values()
        ]
        return [*errors, _TaskDone()]

    def _deaths(self) -> Iterator[JobResult]:
        code = self._process.exitcode
        external = was_told_to_end(code)
        for job in self._open.values():
            error = f"the worker process died ({exit_cause(code)}){self._place(job)}"
            yield self._error(job, error, external=external)

    def _place(self, job: Job) -> str:
        if not self._reads:
            return ""
        records = self._history.records(job.trial_id)
        return place(records[-1].epoch if records else self._first_epoch, job.end)

    def _error(self, job: Job, error: str, *, external: bool = False) -> JobResult:
        return JobResult(
            trial_id=job.trial_id,
            started=self._started,
            finished=datetime.now(UTC),
            records=self._history.records(job.trial_id),
            error=error,
            external=external,
        )

    def stop(self) -> None:
        self.alive = False
        self.connection.close()
        end_process(self._process)


def _serve(
    connection: Connection, parallel_batches: int, memory_gib: float | None, device: str
) -> None:
    """A worker process: tasks in, events out, until the pipe closes."""
    keep_large_buffers()
    from bench.execution.engine import Engine

    if memory_gib is not None:
        limit_memory(memory_gib, device)
    engine = Engine(parallel_batches=parallel_batches)
    try:
        while True:
            task: Task = connection.recv()
            connection.send(_TaskRead())
            engine.perform(task, connection.send)
            # What ran out of memory leaves it in pieces, and a GPU that failed is lost to this
            # process: the next task gets a fresh one.
            connection.send(_TaskDone(ends=engine.spent))
            if engine.spent:
                return
    except (EOFError, OSError):
        return
