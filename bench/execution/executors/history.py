"""The epochs that trials have told of, so that they are not lost with the process that told."""

from __future__ import annotations

from bench.execution.jobs import EpochDone
from bench.training.state import EpochRecord


class History:
    """The epochs that trials have told of, in whichever process."""

    def __init__(self) -> None:
        self._records: dict[str, dict[int, EpochRecord]] = {}

    def note(self, done: EpochDone) -> None:
        """Keep what is told; what is told again is the same."""
        for trial in done.trials:
            self._records.setdefault(trial, {})[done.record.epoch] = done.record

    def records(self, trial: str) -> tuple[EpochRecord, ...]:
        """From the first epoch on."""
        told = self._records.get(trial, {})
        return tuple(told[epoch] for epoch in sorted(told))
