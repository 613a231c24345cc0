"""`bench run`: train a suite and report on it."""

from __future__ import annotations

import bench
from bench.cli.console import out_console
from bench.cli.options import (
    ProcessOptions,
    SuiteArgument,
    SuiteOptions,
    Track,
    TrialOptions,
    takes_options,
)
from bench.cli.outcome import exit_with_failures, interruptible, show_result
from bench.runs.progress import ConsoleReporter


@takes_options
def run(
    suite: SuiteArgument,
    place: SuiteOptions,
    processes: ProcessOptions,
    trials: TrialOptions,
    track: Track = "",
) -> None:
    """Train what is not complete, then write tables, plots and a report."""
    with interruptible(), ConsoleReporter(out_console) as reporter:
        result = bench.run(
            suite,
            track=track,
            reporter=reporter,
            **place.arguments(),
            **processes.arguments(),
            **trials.arguments(),
        )
    show_result(result, place.out)
    exit_with_failures(result, "the same command with --retry failed")
