"""`bench plan`: what a run would do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from bench.cli.console import ConsoleReporter, out_console
from bench.cli.options import (
    ProcessOptions,
    SuiteArgument,
    SuiteOptions,
    TrialOptions,
    takes_options,
)

if TYPE_CHECKING:
    from bench.runs.resolve import ResolvedRun
    from bench.suite import Trial


@takes_options
def plan(
    suite: SuiteArgument,
    place: SuiteOptions,
    processes: ProcessOptions,
    trials: TrialOptions,
) -> None:
    """Show what a run would do, what is reused or skipped, and about how long it takes."""
    from bench.execution.jobs import cut
    from bench.execution.work import count_work
    from bench.runs.prepare import counted_trials
    from bench.runs.resolve import resolve_run
    from bench.runs.time_estimate import estimate

    with ConsoleReporter(out_console) as reporter:
        resolved = resolve_run(
            suite, **place.arguments(), **trials.arguments(), progress=reporter.progress
        )
        counted = counted_trials(resolved)
        work = count_work(counted, reuse=resolved.reuse)
        tasks = cut([c.job for c in counted if not c.complete], reuse=resolved.reuse)
        executor = processes.where().executor(
            tasks, resolved.device, resolved.loaded.suite.resources
        )
        reporter.resolved(resolved)
        reporter.status("timing a few batches on this machine")
        time = estimate(resolved, work, workers=executor.workers)
    out_console.print(_table(resolved))
    _show_earlier_failures(resolved)
    for note in resolved.notes:
        out_console.print(f"[yellow]note[/] {escape(note)}", highlight=False)
    out_console.print(work.sentence(), highlight=False)
    _show_outlook(resolved)
    out_console.print(
        f"{time.epochs} epochs, {time.trained_samples:,} images to train on and "
        f"{time.evaluated_samples:,} to evaluate; about {_duration(time.seconds)} "
        f"with {executor.workers} at once on {escape(resolved.device)}",
        highlight=False,
    )
    _show_search(resolved)


def _show_outlook(resolved: ResolvedRun) -> None:
    """What so many seeds can decide."""
    from bench.results.analysis import outlook

    going = _going(resolved)
    strategies = {trial.strategy.label for trial in going}
    if len(strategies) > 1:
        seeds = len({trial.settings.seed for trial in going})
        out_console.print(outlook(len(strategies), seeds), highlight=False)


def _show_search(resolved: ResolvedRun) -> None:
    from bench.tuning.cells import search_in_words

    tune = resolved.loaded.suite.tune
    if tune is not None:
        out_console.print(search_in_words(_going(resolved), tune), highlight=False)


def _going(resolved: ResolvedRun) -> list[Trial]:
    return [trial.trial for trial in resolved.trials if trial.skip_reason is None]


def _show_earlier_failures(resolved: ResolvedRun) -> None:
    for trial in resolved.failed:
        label = f"{trial.trial.label} · seed {trial.trial.settings.seed}"
        out_console.print(f"[red]failed[/] {escape(f'{label}: {trial.failure}')}", highlight=False)
    if resolved.failed:
        count = len(resolved.failed)
        out_console.print(
            f"{count} trials failed and stay so; --retry failed tries them again", highlight=False
        )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def _table(resolved: ResolvedRun) -> Table:
    table = Table("trials", "to train", "epochs", "cell", "seeds", box=None, pad_edge=False)
    cells: dict[str, list[Any]] = {}
    for trial in resolved.trials:
        cells.setdefault(trial.trial.config, []).append(trial)
    for trials in cells.values():
        seeds = ", ".join(str(trial.trial.settings.seed) for trial in trials)
        pending = sum(trial.pending for trial in trials)
        reason = trials[0].skip_reason
        note = f"  (skipped: {reason})" if reason else ""
        table.add_row(
            str(len(trials)),
            str(pending),
            str(sum(trial.plan.epochs for trial in trials if trial.pending)),
            escape(trials[0].trial.label + note),
            seeds,
        )
    return table
