"""`bench plan`: what a run would do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from rich.markup import escape
from rich.table import Table

import bench
from bench.cli.console import out_console
from bench.cli.options import SuiteArgument, takes_options
from bench.errors import counted
from bench.runs.options import RunKeywords
from bench.runs.progress import ConsoleReporter

if TYPE_CHECKING:
    from bench.runs.plan import RunPlan


@takes_options(RunKeywords)
def plan(suite: SuiteArgument, **options: Unpack[RunKeywords]) -> None:
    """Show what a run would do, what is reused or skipped, and about how long it takes."""
    with ConsoleReporter(out_console) as reporter:
        planned = bench.plan(suite, reporter=reporter, **options)
    out_console.print(_table(planned))
    for failure in planned.failed:
        out_console.print(f"[red]failed[/] {escape(failure)}", highlight=False)
    if planned.failed:
        count = len(planned.failed)
        are, them = ("is", "it") if count == 1 else ("are", "them")
        out_console.print(
            f"{counted(count, 'trial')} failed in an earlier run and {are} skipped; "
            f"add --retry failed to run {them} again",
            highlight=False,
        )
    for note in planned.notes:
        out_console.print(f"[yellow]note[/] {escape(note)}", highlight=False)
    for sentence in planned.sentences:
        out_console.print(escape(sentence), highlight=False)


def _table(planned: RunPlan) -> Table:
    from bench.runs.plan import COLUMNS

    table = Table(*COLUMNS, box=None, pad_edge=False)
    for row in planned.rows:
        table.add_row(*map(escape, row))
    return table
