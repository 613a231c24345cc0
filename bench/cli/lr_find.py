"""`bench lr-find`: the learning-rate range test of every cell."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

import bench
from bench.cli.console import out_console
from bench.cli.options import Only, SuiteArgument, SuiteOptions, takes_options
from bench.runs.progress import ConsoleReporter


@takes_options
def lr_find(
    suite: SuiteArgument,
    place: SuiteOptions,
    only: Only = None,
    low: Annotated[float, typer.Option(help="Learning rate of the first step.")] = 1e-6,
    high: Annotated[float, typer.Option(help="Learning rate of the last step.")] = 10.0,
    steps: Annotated[int, typer.Option(help="Steps of each test.")] = 100,
) -> None:
    """Test each cell over a range of learning rates, and suggest one: the LR range test."""
    with ConsoleReporter(out_console) as reporter:
        found = bench.lr_find(
            suite,
            low=low,
            high=high,
            steps=steps,
            reporter=reporter,
            only=only or (),
            **place.arguments(),
        )
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
