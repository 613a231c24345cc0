"""`bench show`: a run, or one of its trials, in the terminal."""

from __future__ import annotations

from typing import Annotated

import typer

import bench
from bench.cli.console import out_console
from bench.cli.options import RunArgument


def show(
    run: RunArgument,
    trial: Annotated[
        str | None, typer.Argument(metavar="[TRIAL]", help="First characters of a trial's id.")
    ] = None,
) -> None:
    """Show a run, or one trial of it, in the terminal."""
    for part in bench.show(run, trial).parts:
        out_console.print(part, highlight=False)
