"""Which states of trainings are still needed: those of finished trials leave the cache first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from bench.execution.jobs import Job, JobResult
from bench.system.lru_folder import LruFolder


class StatesInUse:
    """The epoch keys of trials that are not finished yet.

    What only finished ones passed can serve no other than their extension: it is retired.
    """

    def __init__(self, jobs: Iterable[Job], states: LruFolder) -> None:
        self._states = states
        self._needed = Counter(key for job in jobs for key in job.keys[1:])

    def finished(self, job: Job, result: JobResult) -> None:
        """Note that the trial is complete; one that failed or stopped on the way may go on."""
        if result.outcome is None:
            return
        for key in job.keys[1:]:
            self._needed[key] -= 1
            if not self._needed[key]:
                self._states.retire(key)
