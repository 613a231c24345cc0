"""`bench tune`: search settings first, with equal budgets."""

from __future__ import annotations

import shlex
from typing import Annotated, Unpack

import typer
from rich.markup import escape

import bench
from bench.cli.console import out_console
from bench.cli.options import Plugins, SuiteArgument, takes_options
from bench.cli.outcome import exit_with_failures, interruptible, show_result
from bench.runs.options import ProcessKeywords
from bench.runs.progress import ConsoleReporter


@takes_options(ProcessKeywords)
def tune(
    suite: SuiteArgument,
    trials: Annotated[
        int | None, typer.Option(help="Trials per cell. A larger number than before adds trials.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Optuna's storage (default: a journal in the folder)."),
    ] = None,
    plugins: Plugins = None,
    **options: Unpack[ProcessKeywords],
) -> None:
    """Search settings for every cell with equal budgets, then run the suite with the best ones."""
    with interruptible(), ConsoleReporter(out_console) as reporter:
        result = bench.tune(suite, trials=trials, storage=storage, reporter=reporter, **options)
    show_result(result, options["out"])
    tuned = result.folder / "tuned.yaml"
    out_console.print(f"tuned suite: {escape(str(tuned))}")
    again = ["bench", "run", str(tuned), "--out", str(options["out"]), "--retry", "failed"]
    again += [part for plugin in plugins or () for part in ("--plugin", plugin)]
    exit_with_failures(result, shlex.join(again))
