"""The seam between what is to be trained and where it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from bench.jobs import Emit, Job, JobResult


class Executor(Protocol):
    """Runs jobs and yields one result a job, in the order in which they finish.

    `emit` is called in the caller's process for every finished epoch. Closing the iterator stops
    what still runs. Results do not depend on the executor.
    """

    workers: int
    """How many jobs run at once."""

    def run(self, jobs: Sequence[Job], emit: Emit) -> Iterator[JobResult]:
        """Run all `jobs`."""
        ...
