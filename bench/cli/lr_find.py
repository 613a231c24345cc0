"""`bench lr-find`: the learning-rate range test of every cell."""

from __future__ import annotations

from typing import Annotated, Unpack

import typer
from rich.markup import escape

import bench
from bench.cli.console import out_console
from bench.cli.options import SuiteArgument, takes_options
from bench.runs.options import SelectionKeywords
from bench.runs.progress import ConsoleReporter


@takes_options(SelectionKeywords)
def lr_find(
    suite: SuiteArgument,
    low: Annotated[float, typer.Option(help="Learning rate of the first step.")] = 1e-6,
    high: Annotated[float, typer.Option(help="Learning rate of the last step.")] = 10.0,
    steps: Annotated[int, typer.Option(help="Steps of each test.")] = 100,
    **options: Unpack[SelectionKeywords],
) -> None:
    """Test each cell over a range of learning rates, and suggest one: the LR range test."""
    with ConsoleReporter(out_console) as reporter:
        found = bench.lr_find(suite, low=low, high=high, steps=steps, reporter=reporter, **options)
    from bench.results.report.terminal import show_lr_ranges

    if found.cells:
        out_console.print(show_lr_ranges(found.cells), highlight=False)
    for cell in found.untested:
        mark = "[red]failed[/]" if cell.failed else "[dim]left out[/]"
        out_console.print(f"{mark} {escape(f'{cell.label}: {cell.reason}')}", highlight=False)
    if found.plot is not None:
        out_console.print(f"plot: {escape(str(found.plot))}")
    if found.failed:
        raise typer.Exit(1)
