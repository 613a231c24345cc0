"""`bench lr-find`: the learning-rate range test of every cell."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from bench.cli.console import ConsoleReporter, out_console
from bench.cli.options import Only, SuiteArgument, SuiteOptions, takes_options


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
    from bench.results.analysis import lr_cells
    from bench.results.folder import read_lr_ranges, write_lr_ranges
    from bench.results.plots import write_lr_range_panels
    from bench.results.report.terminal import show_lr_ranges
    from bench.runs.lr_find import find_lrs, step_rows
    from bench.runs.resolve import resolve_run

    with ConsoleReporter(out_console) as reporter:
        resolved = resolve_run(
            suite, **place.arguments(), only=only or (), progress=reporter.progress
        )
        found = find_lrs(resolved, low=low, high=high, steps=steps, reporter=reporter)
    write_lr_ranges(resolved.folder, step_rows(resolved, found))
    tested = lr_cells(read_lr_ranges(resolved.folder))
    if tested:
        out_console.print(show_lr_ranges(tested), highlight=False)
    for cell in found:
        if cell.reason is not None:
            mark = "[red]failed[/]" if cell.failed else "[dim]left out[/]"
            text = f"{cell.resolved.trial.label}: {cell.reason}"
            out_console.print(f"{mark} {escape(text)}", highlight=False)
    plot = write_lr_range_panels(tested, resolved.folder / "plots")
    if plot is not None:
        out_console.print(f"plot: {escape(str(plot))}")
    if resolved.remote is not None:
        resolved.remote.push()
    if any(cell.failed for cell in found):
        raise typer.Exit(1)
