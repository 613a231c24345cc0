"""How a run goes on, in a terminal or below the cell of a notebook: one line for every trial."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from bench.errors import counted, without_secrets
from bench.suite import cell_labels, trial_label
from bench.system.visible_text import visible

if TYPE_CHECKING:
    from bench.execution.jobs import EpochDone, Job, JobResult
    from bench.execution.work import Work
    from bench.runs.resolve import ResolvedRun


class PlainConsole(Console):
    """A console that no text can steer: of control characters only line ends and tabs pass.

    rich leaves escape sequences in what it prints, and puts emoji in for names such as `:bomb:`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(soft_wrap=True, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Markup to text, as rich's own."""
        return super().render_str(visible(text, keep="\n\t"), **options)


class ConsoleReporter:
    """Shows progress bars on a terminal, and plain lines where output goes to a file."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._labels: Mapping[str, str] = {}
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._transfers: dict[str, TaskID] = {}
        self._epochs: TaskID | None = None
        self._done = self._started = self._total = 0

    def __enter__(self) -> ConsoleReporter:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def progress(self, what: str, done: int, total: int | None) -> None:
        """A download or the decoding of images goes on."""
        if what not in self._transfers:
            self._transfers[what] = self._bars.add_task(escape(visible(what)), total=total)
            if not self._console.is_terminal:
                self._console.print(f"{what} …", markup=False)
        self._bars.update(self._transfers[what], completed=done, total=total)
        if total is not None and done >= total:
            self._bars.update(self._transfers[what], visible=False)

    def resolved(self, resolved_run: ResolvedRun) -> None:
        """Say what will be done."""
        complete = sum(trial.complete for trial in resolved_run.trials)
        skipped = sum(trial.skip_reason is not None for trial in resolved_run.trials)
        parts = [
            counted(len(resolved_run.trials), "trial"),
            f"{complete} complete",
            f"{len(resolved_run.pending)} to train",
        ]
        if skipped:
            parts.append(f"{skipped} skipped")
        if resolved_run.failed:
            parts.append(
                f"{len(resolved_run.failed)} skipped that failed in an earlier run "
                "(--retry failed runs them again)"
            )
        self._labels = cell_labels(trial.trial for trial in resolved_run.trials)
        self._done, self._started, self._total = 0, 0, len(resolved_run.pending)
        self._console.print(
            f"[bold]{escape(resolved_run.loaded.suite.name)}[/]: {', '.join(parts)}"
        )

    def work(self, work: Work) -> None:
        """Say what is shared."""
        self._console.print(f"[dim]{work.sentence()}[/]", highlight=False)

    def training(self, jobs: Sequence[Job]) -> None:
        """Jobs start: one bar counts their epochs."""
        if self._epochs is not None:
            self._bars.remove_task(self._epochs)
        self._epochs = self._bars.add_task("epochs", total=sum(job.end for job in jobs))
        self._started += sum(not _is_source(job) for job in jobs)
        self._total = max(self._total, self._started)  # a race adds trials
        sources = sorted({job.trial.backbone.name for job in jobs if _is_source(job)})
        if sources:
            text = (
                f"pretraining {', '.join(sources)} on fractals, once: the cache keeps the weights"
            )
            self._console.print(escape(text), highlight=False)

    def epoch(self, done: EpochDone) -> None:
        """One epoch more of these trials."""
        if self._epochs is not None:
            self._bars.advance(self._epochs, len(done.trials))

    def finished(self, job: Job, result: JobResult) -> None:
        """One line for a trial."""
        if self._epochs is not None:
            # Early stopping and errors leave epochs out.
            self._bars.advance(self._epochs, job.end - len(result.records))
        count = self._count(job)
        label = escape(_label(job, self._labels))
        if result.outcome is None:
            reason = escape(str(result.error))
            self._console.print(f"{count} [red]failed[/] {label}: {reason}", highlight=False)
            return
        best, seconds = result.outcome.best, (result.finished - result.started).total_seconds()
        splits = {"test": best.test.metrics}
        if best.val is not None:
            splits = {"val": best.val.metrics, **splits}
        scores = _scores(job, splits)
        untrained = "untrained" if job.plan.fit is None else "fitted"
        epoch = f"epoch {best.epoch}" if best.epoch else untrained
        self._console.print(
            f"{count} {label}  [bold]{scores}[/]  [dim]{epoch}, {seconds:.0f} s[/]", highlight=False
        )

    def _count(self, job: Job) -> str:
        """How many trials are done; source tasks do not count."""
        width = len(str(self._total))
        if _is_source(job):
            return " " * (2 * width + 1)
        self._done += 1
        return f"[dim]{self._done:>{width}}/{self._total}[/]"

    def status(self, message: str) -> None:
        """Something else goes on."""
        if self._epochs is not None:
            self._bars.remove_task(self._epochs)
            self._epochs = None
        self._bars.add_task(escape(visible(message)), total=None)

    def note(self, message: str) -> None:
        """A line that stays."""
        self._console.print(escape(without_secrets(message)), highlight=False)


def notebook_reporter() -> ConsoleReporter | None:
    """Plain lines for the cell that runs; None outside of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if not hasattr(shell, "kernel"):
        return None
    return ConsoleReporter(PlainConsole(force_terminal=False, force_jupyter=False))


def _scores(job: Job, splits: Mapping[str, Mapping[str, float]]) -> str:
    """The figures of the metric that chose the epoch, and which one it is unless accuracy."""
    from bench.results.metric import metric_called

    shown = metric_called(job.trial.settings.metric)
    named = "" if shown.is_accuracy else f"{escape(shown.label)} "
    return named + "  ".join(
        f"{split} {shown.compact(scores[shown.name])}" for split, scores in splits.items()
    )


def _is_source(job: Job) -> bool:
    from bench.runs.source_weights import SUITE

    return job.trial.suite == SUITE


def _label(job: Job, labels: Mapping[str, str]) -> str:
    if _is_source(job):
        classes = job.trial.dataset.options["classes"]
        return f"{job.trial.backbone.name} pretrained on {classes} fractal classes"
    return trial_label(job.trial, labels)
