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
from bench.runs.reporter import SilentReporter
from bench.runs.resolve import resolve_run
from bench.runs.time_estimate import Timings

MINUTES = 10.0
"""How long a proposed suite may train, unless more is asked for."""

FAR = 2.0
"""By what factor a grid may be quicker than its pixels let expect."""

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
    """The first grid that is trained in `minutes`, else the quickest.

    A smaller size is measured only once its grid may fit, or is the last: measuring takes long.
    """
    proposals: list[Proposal] = []
    listed = list(grids)
    for grid in listed:
        if proposals and grid is not listed[-1] and _hopeless(grid, proposals[-1]):
            continue
        proposals.append(Proposal(grid=grid, seconds=seconds_of(grid), minutes=minutes))
        if proposals[-1].fits:
            return proposals[-1]
    return min(proposals, key=lambda proposal: proposal.seconds)


def _hopeless(grid: ChosenGrid, measured: Proposal) -> bool:
    """Whether a grid of another size, by its pixels, would take far longer than was asked for."""
    if grid.size == measured.grid.size or grid.shots is not None:
        return False
    pixels = (grid.size / measured.grid.size) ** 2
    epochs = grid.num_trials * grid.epochs / (measured.grid.num_trials * measured.grid.epochs)
    return measured.seconds * pixels * epochs > FAR * 60 * measured.minutes


def timed(text_of: Callable[[ChosenGrid], str], folder: Path) -> SecondsOf:
    """What `bench plan` estimates for the suite `text_of(grid)`, with equal work timed once.

    All sizes are timed in the precision that is measured to be faster at the first one. `folder`
    need not exist: nothing is written there.
    """
    known: list[tuple[Timings, str]] = []

    def seconds_of(grid: ChosenGrid) -> float:
        precision = [f"precision={known[0][1]}"] if known else []
        resolved = resolve_run(text_of(grid), out=folder, overrides=precision)
        if not known:
            timings = Timings(resolved.dataset, resolved.device)
            known.append((timings, resolved.trials[0].precision))
        plan = plan_run(resolved, RunOptions(), Where(), SilentReporter(), known[0][0])
        return plan.time.seconds

    return seconds_of
