"""`bench compare`: what changed between runs by more than chance."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from bench.cli.console import error_console, out_console
from bench.cli.options import RunArgument
from bench.errors import BenchError


def compare(
    run: RunArgument,
    others: Annotated[list[str], typer.Argument(metavar="RUN…", help="Later runs.")],
    fail_on_regression: Annotated[
        bool, typer.Option("--fail-on-regression", help="Exit with 1 if a config got worse.")
    ] = False,
) -> None:
    """Compare later runs with a first one, config by config: what changed more than by chance."""
    from bench.results.analysis import compare_runs
    from bench.results.folder import read_run
    from bench.results.report.terminal import show_comparison

    before, regressions = read_run(run), 0
    for folder in others:
        comparison = compare_runs(before, read_run(folder))
        out_console.print(f"[bold]{escape(str(run))} → {escape(str(folder))}[/]", highlight=False)
        for part in show_comparison(comparison):
            out_console.print(part, highlight=False)
        regressions += len(comparison.regressions)
        if fail_on_regression and not comparison.changes:
            raise BenchError(f"{run} and {folder} share no config and seed: nothing was compared")
    if regressions and fail_on_regression:
        error_console.print(f"[red]{regressions} configs got worse[/]")
        raise typer.Exit(1)
