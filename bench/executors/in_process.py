"""One job after the other in the calling process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.jobs import Emit, Job, JobResult, perform
from bench.machine import keep_large_buffers


class InProcessExecutor:
    """The simplest executor, and the test double of the others."""

    workers = 1

    def run(self, jobs: Sequence[Job], emit: Emit) -> Iterator[JobResult]:
        """Run all `jobs` in order."""
        keep_large_buffers()
        for job in jobs:
            yield perform(job, emit)
