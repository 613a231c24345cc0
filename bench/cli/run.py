"""`bench run`: train a suite and report on it."""

from __future__ import annotations

from rich.markup import escape

from bench.cli.console import ConsoleReporter, out_console
from bench.cli.options import (
    ProcessOptions,
    SuiteArgument,
    SuiteOptions,
    Track,
    TrialOptions,
    takes_options,
)
from bench.cli.outcome import exit_with_failures, interruptible, place_of, show_result


@takes_options
def run(
    suite: SuiteArgument,
    place: SuiteOptions,
    processes: ProcessOptions,
    trials: TrialOptions,
    track: Track = "",
) -> None:
    """Train what is not complete, then write tables, plots and a report."""
    from bench.results import trackers

    trackers.known_trackers(track)
    processes.prepare(place.device)
    from bench.results.folder import push_run
    from bench.runs.run import run as run_suite

    with interruptible(), ConsoleReporter(out_console) as reporter:
        result = run_suite(
            suite,
            **place.arguments(),
            **processes.arguments(),
            **trials.arguments(),
            reporter=reporter,
        )
    show_result(result, place.out)
    for tracked in trackers.track(result, track):
        out_console.print(f"tracked: {escape(tracked)}")
    if track:
        push_run(place_of(result, place.out))
    exit_with_failures(result, "the same command with --retry failed")
