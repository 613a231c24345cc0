"""One task after the other in the calling process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.executors.agenda import Agenda
from bench.executors.base import OnEpoch
from bench.jobs import EpochDone, Event, JobResult, StateSaved, Task
from bench.machine import keep_large_buffers


class InProcessExecutor:
    """The simplest executor, and the test double of the others."""

    workers = 1

    def __init__(self, *, lanes: int = 1) -> None:
        self._lanes = lanes

    def run(self, tasks: Sequence[Task], on_epoch: OnEpoch) -> Iterator[JobResult]:
        """Run all `tasks`, going on from the state just made where that is possible."""
        from bench.engine import Engine

        keep_large_buffers()
        agenda, engine = Agenda(tasks), Engine(lanes=self._lanes)
        near: str | None = None
        while task := agenda.take(near=near):
            events: list[Event] = []

            def hear(event: Event, events: list[Event] = events) -> None:
                if isinstance(event, EpochDone):
                    on_epoch(event)
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
