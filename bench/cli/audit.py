"""`bench audit`: what is likely wrong with the data."""

from __future__ import annotations

from typing import Annotated, Unpack

import typer
from rich.markup import escape

import bench
from bench.cli.console import error_console, out_console
from bench.cli.options import takes_options
from bench.cli.outcome import interruptible
from bench.errors import counted
from bench.runs.options import ProcessKeywords
from bench.runs.progress import ConsoleReporter


@takes_options(ProcessKeywords)
def audit(
    what: Annotated[
        str,
        typer.Argument(
            metavar="SUITE|RUN", help="A run folder or its URL, or a suite file, which runs first."
        ),
    ],
    **options: Unpack[ProcessKeywords],
) -> None:
    """Name labels and samples that are likely wrong, with a table and of images a contact sheet."""
    with interruptible(), ConsoleReporter(out_console) as reporter:
        found = bench.audit(what, reporter=reporter, **options)
    from bench.results.report.terminal import show_audit

    for part in show_audit(found.found):
        out_console.print(part, highlight=False)
    for note in found.notes:
        out_console.print(f"[yellow]note[/] {escape(note)}", highlight=False)
    for path in found.files:
        out_console.print(escape(str(path)), highlight=False)
    if found.failed:
        number = counted(found.failed, "trial")
        error_console.print(f"[red]{number} of the audit run failed[/]; bench why says why")
        raise typer.Exit(1)
