"""`bench init`: look at a folder and write a suite for it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

import bench
from bench.cli.console import out_console
from bench.runs.progress import ConsoleReporter


def init(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="Your folder of images or of .txt files, an archive of one, or a table of labels.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Suite file to write.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace a suite file that exists.")] = False,
    minutes: Annotated[
        float, typer.Option(help="Minutes that the suite may train on this machine.")
    ] = 10.0,
) -> None:
    """Look at a folder or table of images or texts and write a suite for it, ready to run."""
    with ConsoleReporter(out_console) as reporter:
        written = bench.init(folder, output=output, force=force, minutes=minutes, reporter=reporter)
    out_console.print(written.summary, markup=False, emoji=False, highlight=False)
    command = escape(shlex.join(["bench", "run", str(written.path)]))
    out_console.print(f"\nnext: [bold]{command}[/]", emoji=False, highlight=False)
