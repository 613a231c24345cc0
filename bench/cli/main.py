"""The command line. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import _thread
import io
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.markup import escape
from rich.table import Table

from bench.cli.console import PlainConsole
from bench.errors import BenchError, MachineError, SuiteError, nearest
from bench.execution import PRELOADED
from bench.system.object_store import is_url
from bench.system.processes import import_early

if TYPE_CHECKING:
    from bench.results.folder import Run
    from bench.runs.resolve import ResolvedRun

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Benchmark transfer-learning strategies: one suite file in, curves and a report out.",
)
out_console = PlainConsole()
error_console = PlainConsole(stderr=True)

INTERRUPTED = 130
"""The exit code of a command that a signal has ended."""

SuiteArgument = Annotated[Path, typer.Argument(metavar="SUITE", help="A suite file (YAML).")]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run folder, or its URL in an object store.")
]
Out = Annotated[
    str, typer.Option(help="Folder that run folders go to, or a URL (s3://bucket/prefix).")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Workers = Annotated[
    int | None, typer.Option(help="Trials at once. Default: the cores on a CPU, else 1.")
]
ExecutorName = Annotated[
    str, typer.Option("--executor", help="auto, in-process, processes or ray.")
]
Address = Annotated[
    str | None, typer.Option(help="Of a Ray cluster (default: one here, started if need be).")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a suite value, by dotted path."),
]
Only = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Only these trials, such as strategy=linear_probe."),
]
Track = Annotated[
    str, typer.Option(metavar="NAMES", help="Also export to tensorboard, mlflow (comma-separated).")
]
NoReuse = Annotated[bool, typer.Option("--no-reuse", help="Train every trial anew, by itself.")]
Retry = Annotated[
    str | None, typer.Option(metavar="failed", help="Also train the trials that failed before.")
]


@app.command()
def run(
    suite: SuiteArgument,
    out: Out = "results",
    device: Device = "auto",
    workers: Workers = None,
    executor: ExecutorName = "auto",
    address: Address = None,
    overrides: Set = None,
    only: Only = None,
    no_reuse: NoReuse = False,
    retry: Retry = None,
    track: Track = "",
) -> None:
    """Train what is not complete, then write tables, plots and a report."""
    from bench.results import trackers

    trackers.known_trackers(track)
    _prepare_processes(workers, executor, device)
    from bench.cli.console import ConsoleReporter
    from bench.results.folder import push_run
    from bench.runs.run import run as run_suite

    with _interruptible(), ConsoleReporter(out_console) as reporter:
        result = run_suite(
            suite,
            out=out,
            device=device,
            workers=workers,
            executor=executor,
            address=address,
            overrides=overrides or (),
            only=only or (),
            reuse=not no_reuse,
            retry=retry,
            reporter=reporter,
        )
    _show_result(result, out)
    for place in trackers.track(result, track):
        out_console.print(f"tracked: {escape(place)}")
    if track:
        push_run(_place(result, out))
    _exit_with_failures(result, "the same command with --retry failed")


def _prepare_processes(workers: int | None, executor: str, device: str) -> None:
    """Where processes of this machine will train, begin to import what they need."""
    if workers != 1 and executor in ("auto", "processes") and device in ("auto", "cpu"):
        import_early(*PRELOADED)


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        error_console.print("interrupted; the same command goes on from what is finished")
        raise typer.Exit(INTERRUPTED) from None


def _show_result(result: Run, out: str) -> None:
    _show_ranking(result)
    for name in ("report.md", "report.html"):
        out_console.print(f"report: {escape(str(result.folder / name))}")
    if is_url(out):
        out_console.print(f"stored: {escape(_place(result, out))}")


def _place(result: Run, out: str) -> str:
    return f"{out.rstrip('/')}/{result.folder.name}"


def _exit_with_failures(result: Run, again: str) -> None:
    """Exit with 1 if trials have failed; `again` is the command that tries them once more."""
    failed = result.trials[result.trials["status"] == "failed"]
    if failed.empty:
        return
    text = f"[red]{len(failed)} trials failed[/]; their errors are in the report"
    tried = int(failed["started"].notna().sum())
    if tried:
        text += f"; {tried} of them stay failed until {escape(again)} tries them again"
    error_console.print(text, highlight=False)
    raise typer.Exit(1)


@app.command()
def tune(
    suite: SuiteArgument,
    out: Out = "results",
    device: Device = "auto",
    workers: Workers = None,
    executor: ExecutorName = "auto",
    address: Address = None,
    overrides: Set = None,
    trials: Annotated[
        int | None, typer.Option(help="Trials per cell; more than before adds to them.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Optuna's storage (default: a journal in the folder)."),
    ] = None,
) -> None:
    """Search settings for every cell with equal budgets, then run the suite with what was found."""
    _prepare_processes(workers, executor, device)
    from bench.cli.console import ConsoleReporter
    from bench.tuning import tune as tune_suite

    with _interruptible(), ConsoleReporter(out_console) as reporter:
        result = tune_suite(
            suite,
            out=out,
            device=device,
            workers=workers,
            executor=executor,
            address=address,
            overrides=overrides or (),
            trials=trials,
            storage=storage,
            reporter=reporter,
        )
    _show_result(result, out)
    tuned = result.folder / "tuned.yaml"
    out_console.print(f"tuned suite: {escape(str(tuned))}")
    again = ["bench", "run", str(tuned), "--out", str(out), "--retry", "failed"]
    _exit_with_failures(result, shlex.join(again))


@app.command()
def plan(
    suite: SuiteArgument,
    out: Out = "results",
    device: Device = "auto",
    workers: Workers = None,
    executor: ExecutorName = "auto",
    address: Address = None,
    overrides: Set = None,
    only: Only = None,
    no_reuse: NoReuse = False,
    retry: Retry = None,
) -> None:
    """Show what a run would do, what is reused or skipped, and about how long it takes."""
    from bench.cli.console import ConsoleReporter
    from bench.execution.executors import Where
    from bench.execution.jobs import cut
    from bench.execution.work import count_work
    from bench.results.analysis import outlook
    from bench.runs.prepare import counted_trials
    from bench.runs.resolve import resolve_run
    from bench.runs.time_estimate import estimate
    from bench.tuning.cells import search_in_words

    where = Where(name=executor, workers=workers, address=address)
    with ConsoleReporter(out_console) as reporter:
        resolved = resolve_run(
            suite,
            out=out,
            device=device,
            overrides=overrides or (),
            only=only or (),
            reuse=not no_reuse,
            retry=retry,
            progress=reporter.progress,
        )
        counted = counted_trials(resolved)
        accounts = count_work(counted, reuse=resolved.reuse)
        tasks = cut([c.job for c in counted if not c.complete], reuse=resolved.reuse)
        resources = resolved.loaded.suite.resources
        used = where.executor(tasks, resolved.device, resources).workers
        reporter.resolved(resolved)
        reporter.status("timing a few batches on this machine")
        work = estimate(resolved, accounts, workers=used)
    out_console.print(_plan_table(resolved))
    _show_earlier_failures(resolved)
    for issue in resolved.issues:
        out_console.print(f"[yellow]note[/] {escape(issue.message)}", highlight=False)
    out_console.print(accounts.sentence(), highlight=False)
    going = [trial.trial for trial in resolved.trials if trial.skip_reason is None]
    strategies = {trial.strategy.label for trial in going}
    if len(strategies) > 1:
        seeds = len({trial.settings.seed for trial in going})
        out_console.print(outlook(len(strategies), seeds), highlight=False)
    out_console.print(
        f"{work.epochs} epochs, {work.trained_images:,} images to train on and "
        f"{work.evaluated_images:,} to evaluate; about {_duration(work.seconds)} "
        f"with {used} at once on {escape(resolved.device)}",
        highlight=False,
    )
    if resolved.loaded.suite.tune is not None:
        out_console.print(search_in_words(going, resolved.loaded.suite.tune), highlight=False)


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


@app.command(name="lr-find")
def lr_find(
    suite: SuiteArgument,
    out: Out = "results",
    device: Device = "auto",
    overrides: Set = None,
    only: Only = None,
    low: Annotated[float, typer.Option(help="Learning rate of the first step.")] = 1e-6,
    high: Annotated[float, typer.Option(help="Learning rate of the last step.")] = 10.0,
    steps: Annotated[int, typer.Option(help="Steps of each test.")] = 100,
) -> None:
    """Test each cell over a range of learning rates, and suggest one: the LR range test."""
    from bench.cli.console import ConsoleReporter
    from bench.results.analysis import lr_cells
    from bench.results.folder import read_lr_ranges, write_lr_ranges
    from bench.results.plots import write_lr_range_panels
    from bench.results.report.terminal import show_lr_ranges
    from bench.runs.lr_find import find_lrs, step_rows
    from bench.runs.resolve import resolve_run

    with ConsoleReporter(out_console) as reporter:
        resolved = resolve_run(
            suite,
            out=out,
            device=device,
            overrides=overrides or (),
            only=only or (),
            progress=reporter.progress,
        )
        found = find_lrs(resolved, low=low, high=high, steps=steps, reporter=reporter)
    write_lr_ranges(resolved.folder, step_rows(resolved, found))
    tested = lr_cells(read_lr_ranges(resolved.folder))
    if tested:
        out_console.print(show_lr_ranges(tested), highlight=False)
    for cell in found:
        if cell.reason is not None:
            mark = "[red]failed[/]" if cell.failed else "[dim]left out[/]"
            text = f"{cell.resolved.trial.label}: {cell.reason}"
            out_console.print(f"{mark} {escape(text)}", highlight=False)
    plot = write_lr_range_panels(tested, resolved.folder / "plots")
    if plot is not None:
        out_console.print(f"plot: {escape(str(plot))}")
    if resolved.remote is not None:
        resolved.remote.push()
    if any(cell.failed for cell in found):
        raise typer.Exit(1)


@app.command()
def report(
    run: RunArgument,
    formats: Annotated[
        str, typer.Option("--format", help="Comma-separated: md, html, csv, latex.")
    ] = "md,html",
    track: Track = "",
) -> None:
    """Rebuild plots and report from the files of a run folder."""
    from bench.results import trackers
    from bench.results.folder import push_run, read_run
    from bench.results.report import FORMATS, write_report

    names = [name.strip() for name in formats.split(",")]
    for name in names:
        if name not in FORMATS:
            raise BenchError(
                f"--format must be among {', '.join(FORMATS)}, got {name!r}{nearest(name, FORMATS)}"
            )
    chosen = [name for name in FORMATS if name in names]
    trackers.known_trackers(track)
    found = read_run(run)
    for path in write_report(found, formats=chosen):
        out_console.print(f"report: {escape(str(path))}")
    for place in trackers.track(found, track):
        out_console.print(f"tracked: {escape(place)}")
    push_run(run)


@app.command()
def show(
    run: RunArgument,
    trial: Annotated[
        str | None, typer.Argument(metavar="[TRIAL]", help="The beginning of a trial's id.")
    ] = None,
) -> None:
    """Show a run, or one trial of it, in the terminal."""
    from bench.results.folder import read_run
    from bench.results.report.reasons import find_trial
    from bench.results.report.terminal import show_run, show_trial

    found = read_run(run)
    shown = show_run(found) if trial is None else show_trial(found, find_trial(found, trial))
    for part in shown:
        out_console.print(part, highlight=False)


@app.command()
def why(
    run: RunArgument,
    trial: Annotated[str, typer.Argument(metavar="TRIAL", help="The beginning of a trial's id.")],
) -> None:
    """Say why a trial was trained, kept, shared, skipped or failed."""
    from bench.results.folder import read_run
    from bench.results.report import reasons

    found = read_run(run)
    for sentence in reasons.why(found, reasons.find_trial(found, trial)):
        out_console.print(escape(sentence), highlight=False)


@app.command()
def compare(
    run: RunArgument,
    others: Annotated[list[str], typer.Argument(metavar="RUN…", help="Later runs.")],
    fail_on_regression: Annotated[
        bool, typer.Option("--fail-on-regression", help="Exit with 1 if a config got worse.")
    ] = False,
) -> None:
    """Compare later runs with a first one, config by config: what changed more than by chance."""
    from bench.results.analysis import compare_runs
    from bench.results.folder import read_run
    from bench.results.report.terminal import show_comparison

    before, regressions = read_run(run), 0
    for folder in others:
        comparison = compare_runs(before, read_run(folder))
        out_console.print(f"[bold]{escape(str(run))} → {escape(str(folder))}[/]", highlight=False)
        for part in show_comparison(comparison):
            out_console.print(part, highlight=False)
        regressions += len(comparison.regressions)
        if fail_on_regression and not comparison.changes:
            raise BenchError(f"{run} and {folder} share no config and seed: nothing was compared")
    if regressions and fail_on_regression:
        error_console.print(f"[red]{regressions} configs got worse[/]")
        raise typer.Exit(1)


@app.command(name="list")
def list_catalogue(
    kind: Annotated[str | None, typer.Argument(metavar="[KIND]", help="One kind only.")] = None,
) -> None:
    """Show the catalogue: what a suite may name."""
    from bench.cli.listing import listings, plural

    kinds = listings()
    chosen = [name for name in kinds if kind in (None, name, plural(name))]
    if not chosen:
        raise BenchError(f"KIND must be a known kind, got {kind!r}{nearest(str(kind), kinds)}")
    for name in chosen:
        table = Table(title=plural(name), title_justify="left", box=None, show_header=False)
        for row in kinds[name]:
            table.add_row(*(escape(cell) for cell in row))
        out_console.print(table, "")


@app.command()
def doctor() -> None:
    """Check this machine: packages, devices, memory, cache."""
    from bench.cli.doctor import check

    findings = check()
    for finding in findings:
        mark = "[green]ok[/]  " if finding.ok else "[red]fail[/]"
        out_console.print(f"{mark} {escape(finding.text)}", highlight=False)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Your folder of images.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Suite file to write.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace a suite file that exists.")] = False,
) -> None:
    """Look at a folder of images and write a suite for it, ready to run."""
    from bench.cli.console import ConsoleReporter
    from bench.cli.init import write_suite

    with ConsoleReporter(out_console) as reporter:
        written = write_suite(folder, output, force=force, progress=reporter.progress)
    out_console.print(written.summary, markup=False, emoji=False, highlight=False)
    command = escape(shlex.join(["bench", "run", str(written.path)]))
    out_console.print(f"\nnext: [bold]{command}[/]", emoji=False, highlight=False)


def _show_ranking(result: Run) -> None:
    from bench.results.grid import rank_configs, read_grid

    table = Table("", "cell", "test accuracy", "± sd", "seeds", box=None, pad_edge=False)
    for config in rank_configs(result.trials, read_grid(result.trials)):
        accuracy = config.test_accuracy
        table.add_row(
            str(config.rank),
            escape(config.label),
            f"{accuracy.mean:.1%}",
            f"{accuracy.sd:.1%}" if accuracy.n > 1 else "",
            str(accuracy.n),
        )
    if table.row_count:
        out_console.print(table)


def _plan_table(resolved: ResolvedRun) -> Table:
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


def _fail(error: BenchError, *, code: int = 2) -> NoReturn:
    if isinstance(error, SuiteError):
        for problem in error.problems:
            error_console.print(f"[red]error[/] {escape(str(problem))}", highlight=False)
    else:
        error_console.print(f"[red]error[/] {escape(str(error))}", highlight=False)
    sys.exit(code)


def main() -> None:
    """Entry point: user errors are messages with exit code 2, an interrupt is 130."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the terminal's encoding does not have is no reason to end.
            stream.reconfigure(errors="backslashreplace")
    with _interrupts_heard():
        try:
            app()
        except MachineError as error:
            _fail(error, code=1)
        except BenchError as error:
            _fail(error)
        except OSError as error:
            _fail(MachineError(error), code=1)


@contextmanager
def _interrupts_heard() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does: what is finished is written first."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    unraisable_before = sys.unraisablehook

    def hear_again(unraisable: sys.UnraisableHookArgs) -> None:
        # In a destructor or a callback Python drops the KeyboardInterrupt, and goes on.
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            threading.Timer(0.05, _interrupt_again).start()
        else:
            unraisable_before(unraisable)

    sys.unraisablehook = hear_again
    try:
        yield
    except KeyboardInterrupt:
        _end_interrupted()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _end_interrupted()
        raise
    finally:
        sys.unraisablehook = unraisable_before
        # All is written. A KeyboardInterrupt while Python itself ends would but leave a traceback.
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)


def _interrupt_again() -> None:
    if os.name == "posix":
        os.kill(os.getpid(), signal.SIGTERM)  # wakes the main thread if it waits
    else:
        _thread.interrupt_main()


def _end_interrupted() -> NoReturn:
    """At once: what an interrupt left half done, such as an import, can crash Python's own end."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(INTERRUPTED)
