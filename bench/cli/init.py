"""`bench init`: look at a folder and write a suite for it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from bench.cli.console import ConsoleReporter, out_console


def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Your folder of images.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Suite file to write.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace a suite file that exists.")] = False,
) -> None:
    """Look at a folder of images and write a suite for it, ready to run."""
    from bench.runs.init.write import write_suite

    with ConsoleReporter(out_console) as reporter:
        written = write_suite(folder, output, force=force, progress=reporter.progress)
    out_console.print(written.summary, markup=False, emoji=False, highlight=False)
    command = escape(shlex.join(["bench", "run", str(written.path)]))
    out_console.print(f"\nnext: [bold]{command}[/]", emoji=False, highlight=False)
