"""Which task is next: those whose state is there, the longest way to go first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.jobs import Event, JobResult, StateSaved, Task


class Agenda:
    """The tasks that nobody has taken yet."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._waiting = list(tasks)
        self._saved: set[str] = set()
        self._finished: set[str] = set()

    def note(self, event: Event) -> None:
        """A state is there, or a trial has ended: what only it needed is dropped."""
        if isinstance(event, StateSaved):
            self._saved.add(event.key)
        elif isinstance(event, JobResult):
            self._finished.add(event.trial_id)

    def take(self, *, near: str | None = None) -> Task | None:
        """The next task, if one is ready; one that goes on from the state `near` comes first."""
        self._waiting = [task for task in self._waiting if self._live(task)]
        ready = [task for task in self._waiting if task.needs is None or task.needs in self._saved]
        if not ready:
            return None
        # max takes the first of equals: tasks come in the order of the grid.
        chosen = max(ready, key=lambda t: (near is not None and t.needs == near, t.longest))
        self._waiting.remove(chosen)
        jobs = tuple(job for job in chosen.jobs if job.trial_id not in self._finished)
        return replace(chosen, jobs=jobs)

    def put_back(self, task: Task) -> None:
        """Nobody has begun with this task after all."""
        self._waiting.insert(0, task)

    def _live(self, task: Task) -> bool:
        return any(job.trial_id not in self._finished for job in task.jobs)
