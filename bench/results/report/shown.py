"""`bench show`: a run, or one of its trials, as text."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from bench.results.folder import Run, read_run
from bench.results.report.blocks import Code
from bench.results.report.notebook import html
from bench.results.report.reasons import find_trial
from bench.results.report.terminal import show_run, show_trial

WIDTH = 120


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """A run or the row of one of its trials; `str` and a notebook show it."""

    run: Run
    trial: Mapping[str, Any] | None

    @property
    def parts(self) -> tuple[RenderableType, ...]:
        """What rich prints."""
        if self.trial is None:
            return tuple(show_run(self.run))
        return tuple(show_trial(self.run, self.trial))

    def __str__(self) -> str:
        written = io.StringIO()
        console = Console(
            file=written, width=WIDTH, color_system=None, force_jupyter=False, emoji=False
        )
        for part in self.parts:
            console.print(part, highlight=False)
        return written.getvalue().rstrip("\n")

    def _repr_html_(self) -> str:
        return html([Code(str(self))])


def show(place: str | Path, trial: str | None = None) -> Shown:
    """The run at `place`, or the trial whose id begins with `trial`.

    Raises `BenchError` as `read_run` and `find_trial` do.
    """
    run = read_run(place)
    return Shown(run=run, trial=None if trial is None else find_trial(run, trial))
