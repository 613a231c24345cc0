"""One task after the other in the calling process."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.execution.executors.agenda import Agenda
from bench.execution.executors.base import OnEpoch
from bench.execution.jobs import EpochDone, Event, JobResult, StateSaved, Task
from bench.suite import Resources
from bench.system.machine import keep_large_buffers

if TYPE_CHECKING:
    from bench.execution.engine import Engine


class InProcessExecutor:
    """The simplest executor, and the test double of the others.

    A time limit is looked at when an epoch ends: nothing can end this process from within it.
    Raises `BenchError` for a limit of memory, which would be that of the caller.
    """

    workers = 1

    def __init__(self, *, parallel_batches: int = 1, resources: Resources | None = None) -> None:
        self._lanes = parallel_batches
        self._resources = resources or Resources()
        self._engine: Engine | None = None
        if self._resources.memory_gib is not None:
            raise BenchError(
                "resources.memory_gib limits worker processes only, and this process trains by "
                "itself; use --executor processes"
            )

    def run(self, tasks: Sequence[Task], on_epoch: OnEpoch) -> Iterator[JobResult]:
        """Run all `tasks`, going on from the state just made where that is possible."""
        from bench.execution.engine import Engine

        keep_large_buffers()
        agenda = Agenda(tasks)
        engine = self._engine = self._engine or Engine(parallel_batches=self._lanes)
        near: str | None = None
        while task := agenda.take(near=near):
            events: list[Event] = []
            clock = _Clock(self._resources)

            def hear(event: Event, events: list[Event] = events, clock: _Clock = clock) -> None:
                if isinstance(event, EpochDone):
                    on_epoch(event)
                    clock.check(event)
                else:
                    events.append(event)

            interrupt: KeyboardInterrupt | None = None
            try:
                engine.perform(task, hear)
            except KeyboardInterrupt as raised:
                interrupt = raised  # what is finished is handed out first
            for event in events:
                agenda.note(event)
                if isinstance(event, StateSaved):
                    near = event.key
                elif isinstance(event, JobResult):
                    yield event
            if interrupt is not None:
                raise interrupt

    def close(self) -> None:
        """Let go of the last task's network, and of the processes that trained it."""
        if self._engine is not None:
            self._engine.close()
        self._engine = None


class _Clock:
    """How long the trials of a task have gone without finishing an epoch."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._since = time.monotonic()

    def check(self, done: EpochDone) -> None:
        """Raise `TookTooLongError`, for all trials of the task, if this epoch took too long."""
        from bench.training.failures import TookTooLongError, took_too_long

        before, self._since = self._since, time.monotonic()
        minutes, seconds = self._resources.minutes, self._resources.seconds
        if minutes is not None and seconds is not None and self._since - before > seconds:
            where = f" in epoch {done.record.epoch}"
            raise TookTooLongError(took_too_long(minutes, where))
