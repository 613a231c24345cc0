"""`bench tune`: search settings first, with equal budgets."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer
from rich.markup import escape

import bench
from bench.cli.console import out_console
from bench.cli.options import ProcessOptions, SuiteArgument, SuiteOptions, takes_options
from bench.cli.outcome import exit_with_failures, interruptible, show_result
from bench.runs.progress import ConsoleReporter


@takes_options
def tune(
    suite: SuiteArgument,
    place: SuiteOptions,
    processes: ProcessOptions,
    trials: Annotated[
        int | None, typer.Option(help="Trials per cell; more than before adds to them.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Optuna's storage (default: a journal in the folder)."),
    ] = None,
) -> None:
    """Search settings for every cell with equal budgets, then run the suite with what was found."""
    with interruptible(), ConsoleReporter(out_console) as reporter:
        result = bench.tune(
            suite,
            trials=trials,
            storage=storage,
            reporter=reporter,
            **place.arguments(),
            **processes.arguments(),
        )
    show_result(result, place.out)
    tuned = result.folder / "tuned.yaml"
    out_console.print(f"tuned suite: {escape(str(tuned))}")
    again = ["bench", "run", str(tuned), "--out", place.out, "--retry", "failed"]
    again += [part for plugin in place.plugins or () for part in ("--plugin", plugin)]
    exit_with_failures(result, shlex.join(again))
