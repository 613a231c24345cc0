"""Who is told how a run goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bench.execution.jobs import EpochDone, Job, JobResult
from bench.execution.work import Work
from bench.runs.resolve import ResolvedRun
from bench.system.download import OnProgress


class Reporter(Protocol):
    """Is told how a run goes on; the command line shows it."""

    @property
    def progress(self) -> OnProgress | None:
        """Is told of downloads and of what is prepared."""

    def resolved(self, resolved_run: ResolvedRun) -> None:
        """The suite is checked."""

    def work(self, work: Work) -> None:
        """So much is asked for, and so much has to be done."""

    def training(self, jobs: Sequence[Job]) -> None:
        """These jobs start."""

    def epoch(self, done: EpochDone) -> None:
        """Trials have finished an epoch."""

    def finished(self, job: Job, result: JobResult) -> None:
        """A job has ended."""

    def status(self, message: str) -> None:
        """Something else takes a while."""

    def note(self, message: str) -> None:
        """Something has happened that is worth a line."""


class SilentReporter:
    """Shows nothing."""

    progress: OnProgress | None = None

    def resolved(self, resolved_run: ResolvedRun) -> None: ...
    def work(self, work: Work) -> None: ...
    def training(self, jobs: Sequence[Job]) -> None: ...
    def epoch(self, done: EpochDone) -> None: ...
    def finished(self, job: Job, result: JobResult) -> None: ...
    def status(self, message: str) -> None: ...
    def note(self, message: str) -> None: ...
