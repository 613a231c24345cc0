"""`bench compare`: what changed between runs, and what may be claimed of it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

import bench
from bench.cli.console import error_console, out_console
from bench.cli.options import RunArgument
from bench.errors import BenchError, counted


def compare(
    run: RunArgument,
    others: Annotated[list[str], typer.Argument(metavar="RUN…", help="Later runs.")],
    fail_on_regression: Annotated[
        bool,
        typer.Option(
            "--fail-on-regression",
            help="Exit with 1 if a config is shown to be worse (from 3 common seeds on).",
        ),
    ] = False,
) -> None:
    """Compare later runs with a first one: which configs are better, worse or as good."""
    changes = bench.compare(run, *others)
    from bench.results.report.changes import why_nothing
    from bench.results.report.terminal import show_comparison

    for folder, comparison in zip(changes.after, changes.comparisons, strict=True):
        title = escape(f"{changes.before} → {folder}")
        out_console.print(f"[bold]{title}[/]", highlight=False)
        for part in show_comparison(comparison):
            out_console.print(part, highlight=False)
        if not fail_on_regression:
            continue
        if not comparison.compared:
            reason = why_nothing(comparison)
            raise BenchError(f"{run} and {folder} cannot be compared: {reason}")
        if comparison.of_models:
            error_console.print("[yellow]too few common seeds to show any regression[/]")
    if changes.regressions and fail_on_regression:
        number = len(changes.regressions)
        error_console.print(f"[red]{counted(number, 'config')} got worse[/]")
        raise typer.Exit(1)
