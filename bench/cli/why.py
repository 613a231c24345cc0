"""`bench why`: why a trial was trained, kept, shared, skipped or failed."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

import bench
from bench.cli.console import out_console
from bench.cli.options import RunArgument


def why(
    run: RunArgument,
    trial: Annotated[
        str, typer.Argument(metavar="TRIAL", help="First characters of a trial's id.")
    ],
) -> None:
    """Say why a trial was trained, kept, shared, skipped or failed."""
    for sentence in bench.why(run, trial):
        out_console.print(escape(sentence), highlight=False)
