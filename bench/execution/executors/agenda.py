"""Which task is next: those whose state is there, the longest way to go first."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count

from bench.execution.jobs import Event, Job, JobResult, StateSaved, Task


class _Entry:
    """A task that waits; heaps order entries by the way to go, then by their place in the grid."""

    __slots__ = ("place", "taken", "task")

    def __init__(self, task: Task, place: int) -> None:
        self.task = task
        self.place = place
        self.taken = False

    def __lt__(self, other: _Entry) -> bool:
        return (-self.task.longest, self.place) < (-other.task.longest, other.place)


class Agenda:
    """The tasks that nobody has taken yet; to take one costs the logarithm of their number."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._places = count()
        self._earlier_places = count(-1, -1)
        self._saved: set[str] = set()
        self._finished: set[str] = set()
        self._blocked: defaultdict[str, list[_Entry]] = defaultdict(list)
        self._ready: list[_Entry] = []
        self._ready_after: defaultdict[str, list[_Entry]] = defaultdict(list)
        for task in tasks:
            self._add(_Entry(task, next(self._places)))

    def note(self, event: Event) -> None:
        """A state is there, or a trial has ended: what only it needed is dropped."""
        if isinstance(event, StateSaved):
            self._saved.add(event.key)
            for entry in self._blocked.pop(event.key, ()):
                self._add(entry)
        elif isinstance(event, JobResult):
            self._finished.add(event.trial_id)

    def take(self, *, near: str | None = None) -> Task | None:
        """The next task, if one is ready; one that goes on from the state `near` comes first."""
        after = [] if near is None else self._ready_after.get(near, [])
        found = self._pop(after) or self._pop(self._ready)
        if found is None:
            return None
        found.taken = True
        return replace(found.task, jobs=tuple(self._open_jobs(found.task)))

    def put_back(self, task: Task) -> None:
        """Nobody has begun with this task after all: of equals it is the first again."""
        self._add(_Entry(task, next(self._earlier_places)))

    def _add(self, entry: _Entry) -> None:
        needs = entry.task.needs
        if needs is not None and needs not in self._saved:
            self._blocked[needs].append(entry)
            return
        heapq.heappush(self._ready, entry)
        if needs is not None:
            heapq.heappush(self._ready_after[needs], entry)

    def _pop(self, entries: list[_Entry]) -> _Entry | None:
        """The first that is neither taken from another heap nor without trials by now."""
        while entries:
            entry = heapq.heappop(entries)
            if not entry.taken and next(self._open_jobs(entry.task), None) is not None:
                return entry
        return None

    def _open_jobs(self, task: Task) -> Iterator[Job]:
        return (job for job in task.jobs if job.trial_id not in self._finished)
