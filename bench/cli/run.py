"""`bench run`: train a suite and report on it."""

from __future__ import annotations

from typing import Unpack

from rich.text import Text

import bench
from bench.cli.console import out_console
from bench.cli.options import SuiteArgument, Track, takes_options
from bench.cli.outcome import exit_with_failures, interruptible, show_result
from bench.runs.check import check_suite
from bench.runs.options import RunKeywords, RunOptions
from bench.runs.progress import ConsoleReporter


@takes_options(RunKeywords)
def run(suite: SuiteArgument, track: Track = "", **options: Unpack[RunKeywords]) -> None:
    """Train the trials that are not complete, then write tables, plots and a report."""
    from bench.runs.unchanged import ending_of

    given = RunOptions(**options)
    checked = check_suite(suite, given)
    with interruptible():
        ending = None if track else ending_of(checked, given)
        known = None if ending is None else ending.known()
        if known is not None:
            name = checked.loaded.suite.name
            told = f"{name}: all trials are complete, and nothing has changed since the last run"
            for line in (told, *known.lines):
                out_console.print(line, markup=False, highlight=False)
            return
        with ConsoleReporter(out_console) as reporter:
            result = bench.run(suite, track=track, reporter=reporter, **options)
    with out_console.capture() as shown:
        show_result(result, options["out"])
    text = Text.from_ansi(shown.get())
    out_console.print(text, end="")
    if bool((result.trials["status"] == "complete").all()):
        # What the run began with, if that is known: data may have changed since.
        ending = ending or ending_of(checked, given)
        if ending is not None:
            ending.keep(text.plain.splitlines())
    exit_with_failures(result, "the same command with --retry failed")
