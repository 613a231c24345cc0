"""`bench compare`: what changed between runs by more than chance."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

import bench
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
    changes = bench.compare(run, *others)
    from bench.results.report.terminal import show_comparison

    for folder, comparison in zip(changes.after, changes.comparisons, strict=True):
        title = escape(f"{changes.before} → {folder}")
        out_console.print(f"[bold]{title}[/]", highlight=False)
        for part in show_comparison(comparison):
            out_console.print(part, highlight=False)
        if fail_on_regression and not comparison.changes:
            raise BenchError(f"{run} and {folder} share no config and seed: nothing was compared")
    if changes.regressions and fail_on_regression:
        error_console.print(f"[red]{len(changes.regressions)} configs got worse[/]")
        raise typer.Exit(1)
