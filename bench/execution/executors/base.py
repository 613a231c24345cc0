"""The seam between what is to be trained and where it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from bench.execution.jobs import EpochDone, JobResult, Task

OnEpoch = Callable[[EpochDone], None]


class Executor(Protocol):
    """Runs tasks and yields one result a trial, in the order in which they finish.

    `on_epoch` is called in the caller's process for every finished epoch. A task starts when the
    state that it needs is saved. Closing the iterator stops what still runs. Results do not depend
    on the executor. Its processes stay for further calls of `run`, one after another, until it is
    closed.
    """

    @property
    def workers(self) -> int:
        """How many tasks run at once."""
        ...

    def run(self, tasks: Sequence[Task], on_epoch: OnEpoch) -> Iterator[JobResult]:
        """Run all `tasks`."""
        ...

    def close(self) -> None:
        """End what waits for further tasks."""
        ...
