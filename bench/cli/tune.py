"""`bench tune`: search settings first, with equal budgets."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer
from rich.markup import escape

from bench.cli.console import ConsoleReporter, out_console
from bench.cli.options import ProcessOptions, SuiteArgument, SuiteOptions, takes_options
from bench.cli.outcome import exit_with_failures, interruptible, show_result


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
    processes.prepare(place.device)
    from bench.tuning import tune as tune_suite

    with interruptible(), ConsoleReporter(out_console) as reporter:
        result = tune_suite(
            suite,
            **place.arguments(),
            **processes.arguments(),
            trials=trials,
            storage=storage,
            reporter=reporter,
        )
    show_result(result, place.out)
    tuned = result.folder / "tuned.yaml"
    out_console.print(f"tuned suite: {escape(str(tuned))}")
    again = ["bench", "run", str(tuned), "--out", place.out, "--retry", "failed"]
    again += [part for plugin in place.plugins or () for part in ("--plugin", plugin)]
    exit_with_failures(result, shlex.join(again))
