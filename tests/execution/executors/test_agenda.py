"""The agenda against the plain rule that it stands for."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bench.execution.executors.agenda import Agenda
from bench.execution.jobs import Event, Job, JobResult, StateSaved, Task
from tests.tiny import make_job, make_trial

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def job() -> Job:
    return make_job(make_trial(), trial_id="")


class Plain:
    """The rule: of the tasks that are ready those after `near` first, then the longest way."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.waiting = list(tasks)
        self.saved: set[str] = set()
        self.finished: set[str] = set()

    def note(self, event: Event) -> None:
        if isinstance(event, StateSaved):
            self.saved.add(event.key)
        elif isinstance(event, JobResult):
            self.finished.add(event.trial_id)

    def take(self, *, near: str | None) -> Task | None:
        ready = [
            task
            for task in self.waiting
            if (task.needs is None or task.needs in self.saved) and self.open(task)
        ]
        if not ready:
            return None
        chosen = max(ready, key=lambda t: (near is not None and t.needs == near, t.longest))
        self.waiting.remove(chosen)
        return replace(chosen, jobs=self.open(chosen))

    def put_back(self, task: Task) -> None:
        self.waiting.insert(0, task)

    def open(self, task: Task) -> tuple[Job, ...]:
        return tuple(job for job in task.jobs if job.trial_id not in self.finished)


def forest(draw: random.Random, job: Job) -> list[Task]:
    """Tasks of a random training tree; a state is called by the place of its task."""
    tasks: list[Task] = []
    for place in range(draw.randint(1, 25)):
        parent = draw.choice([None, *range(place)])
        names = draw.sample(range(12), draw.randint(1, 3))
        tasks.append(
            Task(
                kind="segment",
                jobs=tuple(replace(job, trial_id=f"trial-{name}") for name in names),
                start=place,
                needs=None if parent is None else f"state-{parent}",
                longest=draw.randint(1, 4),
            )
        )
    return tasks


@pytest.mark.parametrize("seed", range(200))
def test_random_days(seed: int, job: Job) -> None:
    draw = random.Random(seed)
    tasks = forest(draw, job)
    agenda, plain = Agenda(tasks), Plain(tasks)
    running: list[Task] = []
    for _ in range(80):
        what = draw.choice(["take", "take", "saved", "finished", "put back"])
        if what == "take":
            near = draw.choice([None, *(f"state-{place}" for place in range(len(tasks)))])
            taken = agenda.take(near=near)
            assert taken == plain.take(near=near)
            running += [taken] if taken else []
        elif running:
            task = draw.choice(running)
            if what == "put back":
                running.remove(task)
                agenda.put_back(task)
                plain.put_back(task)
                continue
            event: Event = (
                StateSaved(key=f"state-{task.start}", trials=())
                if what == "saved"
                else JobResult(trial_id=draw.choice(task.jobs).trial_id, started=NOW, finished=NOW)
            )
            agenda.note(event)
            plain.note(event)
