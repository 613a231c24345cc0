"""`bench run`: train a suite and report on it."""

from __future__ import annotations

from typing import Unpack

import bench
from bench.cli.console import out_console
from bench.cli.options import SuiteArgument, Track, takes_options
from bench.cli.outcome import exit_with_failures, interruptible, show_result
from bench.runs.options import RunKeywords
from bench.runs.progress import ConsoleReporter


@takes_options(RunKeywords)
def run(suite: SuiteArgument, track: Track = "", **options: Unpack[RunKeywords]) -> None:
    """Train the trials that are not complete, then write tables, plots and a report."""
    with interruptible(), ConsoleReporter(out_console) as reporter:
        result = bench.run(suite, track=track, reporter=reporter, **options)
    show_result(result, options["out"])
    exit_with_failures(result, "the same command with --retry failed")
