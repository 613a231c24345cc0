"""Fitting: of the grids that may be chosen, the first one that this machine trains in time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.execution.executors import Where
from bench.results.analysis.outlook import outlook
from bench.runs.init.choose import ChosenGrid
from bench.runs.options import RunOptions
from bench.runs.plan import plan_run
from bench.runs.resolve import resolve_run
from bench.runs.run import SilentReporter
from bench.runs.time_estimate import Timings

MINUTES = 10.0
"""How long a proposed suite may train, unless more is asked for."""

SecondsOf = Callable[[ChosenGrid], float]
"""How long a grid takes to train."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A grid and about how many `seconds` it takes, where `minutes` were asked for."""

    grid: ChosenGrid
    seconds: float
    minutes: float

    @property
    def fits(self) -> bool:
        """Whether it takes no longer than was asked for."""
        return self.seconds <= 60 * self.minutes

    def outlook(self, test_samples: int) -> str:
        """Which differences it will show: what `bench plan` says of it."""
        return outlook(len(self.grid.strategies), len(self.grid.seeds), test_samples)


def fitting(grids: Iterable[ChosenGrid], seconds_of: SecondsOf, *, minutes: float) -> Proposal:
    """The first grid that is trained in `minutes`, else the quickest."""
    proposals = []
    for grid in grids:
        proposals.append(Proposal(grid=grid, seconds=seconds_of(grid), minutes=minutes))
        if proposals[-1].fits:
            return proposals[-1]
    return min(proposals, key=lambda proposal: proposal.seconds)


def timed(text_of: Callable[[ChosenGrid], str], folder: Path) -> SecondsOf:
    """What `bench plan` estimates for the suite `text_of(grid)`, with equal work timed once.

    `folder` need not exist: nothing is written there.
    """
    timings: list[Timings] = []

    def seconds_of(grid: ChosenGrid) -> float:
        resolved = resolve_run(text_of(grid), out=folder)
        timings.append(timings[0] if timings else Timings(resolved.dataset, resolved.device))
        plan = plan_run(resolved, RunOptions(), Where(), SilentReporter(), timings[0])
        return plan.time.seconds

    return seconds_of
