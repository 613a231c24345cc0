"""Whose trained weights a run folder keeps, as its suite says (`checkpoints`)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.methods.metrics import metric
from bench.suite import Checkpoints


def checkpoint_path(folder: Path, trial: str) -> Path:
    """The file with the weights of `trial` in the run `folder`."""
    return folder / "checkpoints" / f"{trial}.safetensors"


class KeptCheckpoints:
    """Removes the checkpoints that `best` leaves out: of each config all but its best trial's.

    The best has the best validation value of the metric `primary`, then the lowest loss, and is the
    first one where these are equal or there is no validation split. With `all` nothing is removed;
    with `none` nothing new comes, and what is there stays.
    """

    def __init__(self, folder: Path, kept: Checkpoints, primary: str) -> None:
        self._folder = folder
        self._kept = kept
        self._primary = primary
        self._best: dict[str, Mapping[str, Any]] = {}

    @property
    def settled(self) -> bool:
        """Whether a checkpoint that is there will stay."""
        return self._kept != "best"

    def note(self, row: Mapping[str, Any]) -> None:
        """A trial has ended with this row of `trials`: it, or the best one before it, may go."""
        if self.settled or row["status"] != "complete":
            return
        before = self._best.get(row["config"])
        if before is None or self._merit(row) > self._merit(before):
            self._best[row["config"]], beaten = row, before
        else:
            beaten = row
        if beaten is not None and beaten["trial"] != self._best[row["config"]]["trial"]:
            checkpoint_path(self._folder, beaten["trial"]).unlink(missing_ok=True)

    def settle(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """As `note`, for all rows of the run, in their order."""
        self._best.clear()
        for row in rows:
            self.note(row)

    def _merit(self, row: Mapping[str, Any]) -> tuple[float, float]:
        value, loss = (_known(row.get(column)) for column in (f"val_{self._primary}", "val_loss"))
        return (
            -math.inf if value is None else metric(self._primary).merit(value),
            -math.inf if loss is None else -loss,
        )


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
