"""What a run would do: counted, shared, skipped, and about how long it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import counted
from bench.execution.executors import Where
from bench.execution.jobs import cut
from bench.execution.work import CountedTrial, Work, count_work
from bench.results.analysis.outlook import outlook
from bench.results.folder.inputs import InputRule
from bench.results.report.blocks import Table, paragraph
from bench.results.report.inputs import input_sentences
from bench.results.report.notebook import html
from bench.runs.disk_estimate import DiskEstimate, disk_estimate
from bench.runs.inputs import describe_inputs
from bench.runs.options import RunOptions
from bench.runs.prepare import counted_trials
from bench.runs.race import race_notes
from bench.runs.reporter import Reporter
from bench.runs.resolve import ResolvedRun, ResolvedTrial
from bench.runs.run import earlier_notes
from bench.runs.split_check import check_sentence
from bench.runs.time_estimate import TimeEstimate, Timings, duration, estimate
from bench.suite import Trial, cell_labels, trial_label


@dataclass(frozen=True, kw_only=True)
class PlannedConfig:
    """A config with its seeds: of its `trials`, `pending` are to be trained, `epochs` in all.

    With `folds`, each seed has so many trials.
    """

    label: str
    seeds: tuple[int, ...]
    trials: int
    pending: int
    epochs: int
    skip_reason: str | None
    folds: int | None = None


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run would do; `str` and a notebook show it.

    `failed` are trials that failed earlier and stay so, `notes` what the suite says without effect
    or against its weights, and what `--decide` does with it. `outlook` tells what so many seeds can
    decide, `after` what finished trials are made into, `check` what `split_check` trains, `search`
    what `tune` would search, `inputs` how samples become inputs.
    """

    suite: str
    folder: Path
    device: str
    workers: int
    configs: tuple[PlannedConfig, ...]
    failed: tuple[str, ...]
    notes: tuple[str, ...]
    work: Work
    time: TimeEstimate
    disk: DiskEstimate
    outlook: str | None
    check: str | None = None
    after: str | None = None
    search: str | None = None
    inputs: tuple[str, ...] = ()
    sample: str = "image"

    @property
    def sentences(self) -> Iterator[str]:
        """The inputs, what is shared, what can be decided, time and disk, what is searched."""
        yield from self.inputs
        yield self.work.sentence()
        if self.outlook is not None:
            yield self.outlook
        time = self.time
        trained = counted(time.trained_samples, self.sample)
        yield (
            f"{counted(time.epochs, 'epoch')}, {trained} to train on and "
            f"{time.evaluated_samples:,} to evaluate; about {duration(time.seconds)} "
            f"with {counted(self.workers, 'trial')} at once on {self.device}"
        )
        yield self.disk.sentence()
        if self.after is not None:
            yield self.after
        if self.check is not None:
            yield self.check
        if self.search is not None:
            yield self.search

    @property
    def rows(self) -> Iterator[tuple[str, ...]]:
        """The cells of a table with the columns `COLUMNS`."""
        for config in self.configs:
            note = f"  (skipped: {config.skip_reason})" if config.skip_reason else ""
            folds = f" × {config.folds} folds" if config.folds is not None else ""
            yield (
                str(config.trials),
                str(config.pending),
                str(config.epochs),
                config.label + note,
                ", ".join(map(str, config.seeds)) + folds,
            )

    def __str__(self) -> str:
        rows = ["\t".join(row) for row in (COLUMNS, *self.rows)]
        failed = [f"failed {text}" for text in self.failed]
        notes = [f"note {text}" for text in self.notes]
        return "\n".join([*rows, *failed, *notes, *self.sentences])

    def _repr_html_(self) -> str:
        table = Table("plan", COLUMNS, tuple(self.rows), (0, 1, 2))
        failed = (paragraph(f"failed {text}") for text in self.failed)
        notes = (paragraph(f"note: {text}") for text in self.notes)
        return html([table, *failed, *notes, *map(paragraph, self.sentences)])


COLUMNS = ("trials", "to train", "epochs", "cell", "seeds")


def plan_run(
    resolved_run: ResolvedRun,
    options: RunOptions,
    where: Where,
    reporter: Reporter,
    timings: Timings | None = None,
) -> RunPlan:
    """Count what the run would do, and time a few batches of it on this machine.

    Of a race, what it has trained and would start with: who gets further seeds is not known yet.
    """
    counted = counted_trials(resolved_run)
    work = count_work(counted, reuse=resolved_run.reuse)
    tasks = cut([c.job for c in counted if not c.complete], reuse=resolved_run.reuse)
    resources = resolved_run.loaded.suite.resources
    workers = where.executor(tasks, resolved_run.device, resources).workers
    reporter.resolved(resolved_run)
    reporter.status("timing a few batches on this machine")
    time = estimate(resolved_run, work, workers=workers, timings=timings)
    words = resolved_run.words
    outlook = _outlook(
        trials_of(resolved_run),
        max((len(c.splits.test) for c in counted), default=0),
        _groups_tested(resolved_run, counted),
    )
    return RunPlan(
        suite=resolved_run.loaded.suite.name,
        folder=resolved_run.folder,
        device=resolved_run.device,
        workers=workers,
        configs=tuple(_configs(resolved_run)),
        failed=tuple(_failures(resolved_run)),
        notes=(
            *resolved_run.notes,
            *earlier_notes(resolved_run),
            *race_notes(resolved_run, options),
        ),
        work=work,
        time=time,
        disk=disk_estimate(
            resolved_run, counted, work, tasks, epoch_seconds=time.epoch_seconds(workers)
        ),
        outlook=None if outlook is None else words(outlook),
        inputs=tuple(input_sentences([*map(InputRule.of, describe_inputs(resolved_run))])),
        after=_after(resolved_run),
        check=check_sentence(
            resolved_run.loaded.suite, trials_of(resolved_run), _all_seconds(resolved_run, time)
        ),
        sample=words("image"),
    )


def trials_of(resolved_run: ResolvedRun) -> list[Trial]:
    """The trials that are not skipped."""
    return [each.trial for each in resolved_run.trials if each.skip_reason is None]


def _configs(resolved_run: ResolvedRun) -> Iterator[PlannedConfig]:
    configs: dict[str, list[ResolvedTrial]] = {}
    for resolved in resolved_run.trials:
        configs.setdefault(resolved.trial.config, []).append(resolved)
    labels = cell_labels(each.trial for each in resolved_run.trials)
    for config, trials in configs.items():
        pending = [resolved for resolved in trials if resolved.pending]
        yield PlannedConfig(
            label=labels[config],
            seeds=tuple(dict.fromkeys(resolved.trial.settings.seed for resolved in trials)),
            trials=len(trials),
            pending=len(pending),
            epochs=sum(resolved.plan.epochs for resolved in pending),
            skip_reason=trials[0].skip_reason,
            folds=trials[0].trial.settings.folds,
        )


def _failures(resolved_run: ResolvedRun) -> Iterator[str]:
    labels = cell_labels(each.trial for each in resolved_run.trials)
    for resolved in resolved_run.failed:
        yield f"{trial_label(resolved.trial, labels)}: {resolved.failure}"


def _after(resolved_run: ResolvedRun) -> str | None:
    entries = resolved_run.loaded.suite.after
    if not entries:
        return None
    return f"after training, without further training: {', '.join(each.label for each in entries)}"


def _all_seconds(resolved_run: ResolvedRun, time: TimeEstimate) -> float:
    """What all trials would take, if they take as long each as those that are left; 0 if none."""
    pending = len(resolved_run.pending)
    return time.seconds * len(trials_of(resolved_run)) / pending if pending else 0.0


def _groups_tested(resolved_run: ResolvedRun, counted: Sequence[CountedTrial]) -> int:
    """How many groups test; 0 where no two test images have the same one, and of folds."""
    groups = resolved_run.dataset.groups
    if groups is None or any(each.job.trial.fold is not None for each in counted):
        return 0
    tested = [[groups[index] for index in each.splits.test] for each in counted]
    return min((len(set(own)) for own in tested if len(set(own)) < len(own)), default=0)


def _outlook(trials: list[Trial], test_samples: int, groups: int) -> str | None:
    strategies = {trial.strategy.label for trial in trials}
    if len(strategies) < 2:
        return None
    seeds = len({trial.settings.seed for trial in trials})
    return outlook(len(strategies), seeds, test_samples, groups)
