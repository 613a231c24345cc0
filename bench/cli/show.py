"""`bench show`: a run, or one of its trials, in the terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from bench.cli.console import out_console
from bench.cli.options import RunArgument


def show(
    run: RunArgument,
    trial: Annotated[
        str | None, typer.Argument(metavar="[TRIAL]", help="The beginning of a trial's id.")
    ] = None,
) -> None:
    """Show a run, or one trial of it, in the terminal."""
    from bench.results.folder import read_run
    from bench.results.report.reasons import find_trial
    from bench.results.report.terminal import show_run, show_trial

    found = read_run(run)
    shown = show_run(found) if trial is None else show_trial(found, find_trial(found, trial))
    for part in shown:
        out_console.print(part, highlight=False)
