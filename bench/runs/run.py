"""`bench run`: what is pending is trained, everything is written, the report is made."""

from __future__ import annotations

import json
import math
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Unpack

from bench.data import PreparedData
from bench.data.target_data import WITHOUT_LABELS
from bench.data.text.prepared import TextData
from bench.errors import (
    BenchError,
    argument_without_secrets,
    system_errors_told,
    without_secrets,
)
from bench.execution.executors import Where
from bench.execution.jobs import JobResult, Predictions, cut
from bench.execution.tree import reused_epochs
from bench.execution.work import Work, count_work
from bench.methods.metrics import ACCURACY, measured
from bench.methods.target_tasks import CLASSIFICATION, MULTI_LABEL, REGRESSION
from bench.results import trackers
from bench.results.folder import (
    InputView,
    Push,
    Run,
    RunLock,
    RunStore,
    columns_of_task,
    has_damaged_thumbnails,
    is_whole,
    part_item,
    pushing,
    read_run,
    write_advice,
    write_checked_json,
    write_input_views,
    write_json,
    write_thumbnails,
)
from bench.results.folder.children import has_children
from bench.results.folder.columns import CHOSEN, LABEL_FREE
from bench.results.folder.earlier import complete_others, keep_earlier
from bench.results.folder.looks import FILE as LOOKS
from bench.results.folder.planned import write_planned
from bench.results.report import pictured_samples, write_report
from bench.runs.advise import advice_of_suite, advise_before
from bench.runs.after import after_training
from bench.runs.check import CheckedSuite
from bench.runs.checkpoints import KeptCheckpoints
from bench.runs.earlier import earlier_note
from bench.runs.options import RunKeywords, RunOptions
from bench.runs.prepare import PreparedSets, StartingWeights, counted_trials, make_job
from bench.runs.race import Race, most_seeds, race_notes
from bench.runs.reporter import Reporter, SilentReporter
from bench.runs.resolve import ResolvedRun, ResolvedTrial, resolve_run
from bench.runs.split_check import checked_split, options_within
from bench.runs.tasks import run_tasks
from bench.runs.texts import keep_test_texts
from bench.suite import ADDED_LATER, Settings, SuiteSource, Trial, dump_suite
from bench.suite.plugins import loaded_plugins, plugin_errors_told
from bench.system.cache import atomic_file
from bench.system.cache_mirror import CacheUploads
from bench.system.machine import describe_machine
from bench.training.loop import Outcome
from bench.training.state import Scores

COLUMN_SETTINGS = ("weights", "head", "seed", "epochs", "batch_size", "optimizer", "lr")


@system_errors_told()
@plugin_errors_told()
def run(
    suite: SuiteSource | CheckedSuite,
    *,
    track: Sequence[str] = (),
    reporter: Reporter | None = None,
    **options: Unpack[RunKeywords],
) -> Run:
    """Run a suite and return its tables; the options are those of `RunOptions`.

    `track` are names of trackers that get the run; the reporter is told where each has it.

    Raises `BenchError` if nothing can run, `MachineError` if the disk is full or refuses, or the
    store does. A trial that fails is in the tables with its error.
    """
    started = time.monotonic()
    reporter = reporter or SilentReporter()
    given = RunOptions(**options)
    where = Where(name=given.executor, workers=given.workers, address=given.address)
    with CacheUploads(reporter.note) as uploads:
        resolved_run = resolve_run(suite, progress=reporter.progress, **options)
        reporter.resolved(resolved_run)
        for note in (*resolved_run.notes, *earlier_notes(resolved_run)):
            reporter.note(f"note: {note}")
        for note in race_notes(resolved_run, given):
            reporter.note(f"note: {note}")
        if given.advise and not resolved_run.pending:
            reporter.note("note: --advise has no effect, as no trial is left to train")
        trained: PreparedData | None = None
        with pushing(resolved_run.remote, reporter.note) as push:
            with _RunFolder(resolved_run, push, reporter) as folder:
                folder.write_description(given)
                if resolved_run.pending or not folder.has_data:
                    folder.write_work()
                    advise_before(
                        resolved_run,
                        folder.work,
                        asked=given.advise,
                        where=where,
                        reporter=reporter,
                    )
                    trained = _train_pending(resolved_run, folder, where, uploads, reporter)
                if resolved_run.further is not None:

                    def train(grown: ResolvedRun) -> None:
                        nonlocal trained
                        folder.grow(grown)
                        trained = _train_pending(grown, folder, where, uploads, reporter)

                    race = Race(
                        resolved_run,
                        given,
                        train=train,
                        tables=folder.tables,
                        keep=folder.keep_look,
                        tell=lambda text: reporter.note(resolved_run.words(text)),
                        started=started,
                    )
                    race.run()
                folder.after_training()
            result = read_run(resolved_run.folder)
            _check_split(resolved_run, result, reporter, options)
            reporter.status("plots and report")
            if trained is not None:
                _write_thumbnails(result, trained)
                keep_test_texts(result, trained, device=resolved_run.device)
            write_report(result)
            for place in trackers.track(result, track):
                reporter.note(f"tracked: {place}")
    return result


def _check_split(
    resolved_run: ResolvedRun, result: Run, reporter: Reporter, options: RunKeywords
) -> None:
    """Train what the suite wants to see under a random split too, or what is missing of it."""
    if not resolved_run.loaded.suite.split_check:
        return
    checked = checked_split(resolved_run, result)
    if checked is not None:
        reporter.note("split_check: the same under a random split that takes no notice of groups")
        run(checked, reporter=reporter, **options_within(resolved_run, options))


def earlier_notes(resolved_run: ResolvedRun) -> Iterator[str]:
    """What the folder holds of another suite, in words."""
    rows = [trial_row(resolved_run, each) for each in resolved_run.trials]
    note = earlier_note(resolved_run.folder, rows)
    if note is not None:
        yield note


def _train_pending(
    resolved_run: ResolvedRun,
    folder: _RunFolder,
    where: Where,
    uploads: CacheUploads,
    reporter: Reporter,
) -> PreparedData:
    """Train in two rounds: source tasks beside the trials that need none, then all the others.

    Returns the data that the first trial sees.
    """
    sets = PreparedSets(resolved_run, reporter.progress)
    folder.write_data(sets.describe(), sets.views())
    weights = StartingWeights(resolved_run, reporter.progress)
    sources = weights.source_jobs()
    planned_by_id = {resolved.id: resolved for resolved in resolved_run.pending}

    def keep(result: JobResult) -> None:
        if result.trial_id in planned_by_id:
            folder.write_result(planned_by_id[result.trial_id], result)
        else:
            weights.note_source(result)

    rounds: tuple[list[ResolvedTrial], list[ResolvedTrial]] = ([], [])
    for resolved in resolved_run.pending:
        rounds[resolved.weights.fingerprint in sources].append(resolved)
    for extra, trials in zip((list(sources.values()), []), rounds, strict=True):
        jobs = []
        for resolved in trials:
            job = make_job(resolved_run, resolved, weights, sets)
            if isinstance(job, BenchError):
                folder.write_error(resolved, str(job))
            else:
                jobs.append(job)
        uploads.offer(path for job in (*extra, *jobs) for path in job.cached)
        both = all(rounds)  # which may see the same views
        tasks = [*cut(extra, reuse=False), *cut(jobs, reuse=resolved_run.reuse, more=both)]
        run_tasks(tasks, resolved_run, keep, where, reporter)
    return sets.data(resolved_run.trials[0])


def _write_thumbnails(run: Run, data: PreparedData) -> None:
    """Keep small copies of the samples that the report shows, or an audit; texts have none."""
    if isinstance(data, TextData):
        return
    write_thumbnails(run.folder, data.pictures(pictured_samples(run)))


# Files ----------------------------------------------------------------------------------------


class _RunFolder:
    """Writes the run folder; when it is left, also by an error, the tables are made."""

    def __init__(self, resolved_run: ResolvedRun, push: Push, reporter: Reporter) -> None:
        self._resolved_run = resolved_run
        self._push = push
        self._reporter = reporter
        self._store = RunStore(resolved_run.folder)
        self._lock = RunLock(resolved_run.folder)
        self._checkpoints = KeptCheckpoints(
            resolved_run.folder,
            resolved_run.loaded.suite.checkpoints,
            resolved_run.trials[0].trial.settings.metric,
        )
        self._reused: dict[str, int] = {}
        self._work = Work()

    def __enter__(self) -> _RunFolder:
        self._resolved_run.folder.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        try:
            self._keep_earlier()
            self._write_planned()
            self._write_skipped()
        except BaseException:
            self._lock.release()
            raise
        return self

    def _keep_earlier(self) -> None:
        """What is here of another suite stays readable when this one takes its place."""
        folder = self._resolved_run.folder
        if complete_others(folder, [resolved.id for resolved in self._resolved_run.trials]):
            advice = advice_of_suite(self._resolved_run)
            keep_earlier(folder)
            if advice is not None:  # told of this suite, after the earlier one had run
                write_advice(advice)

    def _write_planned(self) -> None:
        ids = [resolved.id for resolved in self._resolved_run.trials]
        write_planned(self._resolved_run.folder, ids)

    def _write_skipped(self) -> None:
        for resolved in self._resolved_run.trials:
            if resolved.skip_reason is not None and not self._store.has_part(resolved.id):
                row = trial_row(
                    self._resolved_run, resolved, status="skipped", error=resolved.skip_reason
                )
                self._store.write_part(row)

    def __exit__(self, *_: object) -> None:
        try:
            self._consolidate()
        finally:
            self._lock.release()

    def _consolidate(self) -> None:
        self._store.consolidate([resolved.id for resolved in self._resolved_run.trials])
        if not self._checkpoints.settled:
            trials = read_run(self._resolved_run.folder).trials
            self._checkpoints.settle(
                {str(name): value for name, value in row.items()}
                for row in trials.to_dict("records")
            )

    def grow(self, resolved_run: ResolvedRun) -> None:
        """The run has further trials from now on."""
        self._resolved_run = resolved_run
        self._write_planned()
        self._write_work(only_pending=True)

    def tables(self) -> Run:
        """What the run has so far."""
        self._consolidate()
        return read_run(self._resolved_run.folder)

    def after_training(self) -> None:
        """Make of the finished trials what the suite says."""
        folder = self._resolved_run.folder
        if not self._resolved_run.loaded.suite.after and not has_children(folder):
            return
        after_training(
            self._resolved_run,
            self.tables(),
            progress=self._reporter.progress,
            status=lambda what: self._reporter.status(f"after training: {what}"),
            note=self._reporter.note,
        )

    def keep_look(self) -> None:
        """A look at the results is in the folder."""
        self._push(LOOKS)

    def write_description(self, given: RunOptions) -> None:
        folder = self._resolved_run.folder
        with atomic_file(folder / "suite.yaml") as temporary:
            temporary.write_text(dump_suite(self._resolved_run.loaded.suite), encoding="utf-8")
        if not self._resolved_run.pending:
            if is_whole(folder, "environment.json"):
                return
            if (folder / "environment.json").exists():
                self._reporter.note(
                    "note: environment.json was damaged: it now describes this start, and not the "
                    "machine and the versions of earlier trainings"
                )
        environment = {
            **describe_machine(self._resolved_run.device),
            "command": command_line(),
            "overrides": [argument_without_secrets(each) for each in given.suite_overrides],
            **self._racing(given),
            "plugins": [
                {"name": each.name, "digest": each.digest, "place": each.place}
                for each in loaded_plugins()
            ],
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_json(folder / "environment.json", environment)

    def _racing(self, given: RunOptions) -> dict[str, Any]:
        """That the results decide which seeds are added, and within which limits."""
        if self._resolved_run.further is None:
            return {}
        limits = {"max_seeds": most_seeds(self._resolved_run, given), "minutes": given.minutes}
        return {"decide": {name: value for name, value in limits.items() if value is not None}}

    @property
    def has_data(self) -> bool:
        """Whether what is written of data and work, and is read again, can be read."""
        folder = self._resolved_run.folder
        accounts = folder / "accounts.json"  # folders of earlier versions have none
        whole = is_whole(folder, "data.json")
        whole = whole and (not accounts.exists() or is_whole(folder, "accounts.json"))
        return whole and not has_damaged_thumbnails(folder)

    def write_data(self, description: Mapping[str, Any], views: Sequence[InputView]) -> None:
        write_checked_json(self._resolved_run.folder / "data.json", description)
        write_input_views(self._resolved_run.folder, views)

    @property
    def work(self) -> Work:
        """What this start has to do."""
        return self._work

    def write_work(self) -> None:
        """Say in `accounts.json` what the run has to do, and note what its trials share."""
        self._write_work()
        self._reporter.work(self._work)

    def _write_work(self, *, only_pending: bool = False) -> None:
        """The work of this start, in all its rounds; what earlier ones did counts once."""
        resolved_run = self._resolved_run
        counted = counted_trials(resolved_run)
        if resolved_run.reuse:
            self._reused = reused_epochs({c.job.trial_id: c.job.keys for c in counted})
        new = [each for each in counted if not (only_pending and each.complete)]
        self._work = self._work.and_then(count_work(new, reuse=resolved_run.reuse))
        write_json(resolved_run.folder / "accounts.json", self._work.plain())

    def write_error(self, resolved: ResolvedTrial, error: str) -> None:
        self._store.write_part(
            trial_row(self._resolved_run, resolved, status="failed", error=error)
        )

    def write_result(self, resolved: ResolvedTrial, result: JobResult) -> None:
        self._write_log(resolved, result)
        row = trial_row(
            self._resolved_run,
            resolved,
            status="failed" if result.error is not None else "complete",
            error=result.error,
            reused_epochs=min(self._reused.get(resolved.id, 0), len(result.records)),
            **_measured(result, resolved.trial.settings.metric),
        )
        curves = list(_curve_rows(result, _further_metrics(resolved.trial.settings)))
        self._store.write_part(row, curves, _predictions(result))
        self._checkpoints.note(row)
        # What may have to go again waits for the end, when everything is pushed.
        checkpoint = [f"checkpoints/{resolved.id}.safetensors"] if self._checkpoints.settled else []
        self._push(f"logs/{resolved.id}.log", *checkpoint, part_item(resolved.id))

    def _write_log(self, resolved: ResolvedTrial, result: JobResult) -> None:
        """What is known of a failure; the log of an earlier one goes when the trial completes."""
        log = self._resolved_run.folder / "logs" / f"{resolved.id}.log"
        if result.error is None:
            log.unlink(missing_ok=True)
            return
        text = (
            f"{resolved.trial.full_label}\n"
            f"started {result.started:%Y-%m-%d %H:%M:%S} UTC, "
            f"failed {result.finished:%Y-%m-%d %H:%M:%S} UTC "
            f"after {len(result.records)} finished epochs\n{result.error}\n"
        )
        if result.log is not None:
            text += f"\n{result.log}"
        with atomic_file(log) as temporary:
            temporary.write_text(without_secrets(text), encoding="utf-8", errors="backslashreplace")


def command_line() -> str:
    """The command that started this process, or the call that stands for it; without secrets."""
    program = Path(sys.argv[0]).name or "python"
    return shlex.join([program, *map(argument_without_secrets, sys.argv[1:])])


def trial_row(resolved_run: ResolvedRun, resolved: ResolvedTrial, **values: Any) -> dict[str, Any]:
    """The trial's row of `trials`: what the suite says of it, and `values`."""
    trial, settings = resolved.trial, resolved.trial.settings
    if isinstance(error := values.get("error"), str):
        values["error"] = without_secrets(error)
    return {
        "trial": resolved.id,
        "config": trial.config,
        "suite": trial.suite,
        "dataset": resolved_run.dataset.name,
        "backbone": trial.backbone.label,
        "weights": resolved_run.loaded.suite.weights_label(settings.weights),
        "head": settings.head.label,
        "strategy": trial.strategy.label,
        "schedule": trial.schedule.label,
        "augmentation": trial.augmentation.label,
        "seed": settings.seed,
        **({} if trial.fold is None else {"fold": trial.fold + 1}),
        "epochs": resolved.plan.epochs,
        "batch_size": settings.batch_size,
        "optimizer": settings.optimizer,
        "lr": settings.lr,
        "settings": _other_settings(resolved, resolved_run.dataset.kind),
        "reused_epochs": 0,
        # Parts of one run have the same columns, whatever became of their trials.
        **{f"{part}_{settings.metric}": None for part in ("val", "test", "last_val", "last_test")},
        **_columns_of_task(settings),
        **({LABEL_FREE: None} if _has_unlabelled(trial) else {}),
        "device": resolved_run.device,
        "precision": resolved.precision,
        **values,
    }


def _has_unlabelled(trial: Trial) -> bool:
    """Whether its data set has samples without labels, of target data or that gave theirs up."""
    return any(trial.dataset.options.get(name) is not None for name in WITHOUT_LABELS)


def _columns_of_task(settings: Settings) -> dict[str, None]:
    """Columns that only trials have which predict no classes."""
    if settings.task == CLASSIFICATION.name:
        return {}
    further = _further_metrics(settings)
    figures = {f"{part}_{name}": None for name in further for part in ("val", "test")}
    own = {REGRESSION.name: "standardised", MULTI_LABEL.name: "thresholds"}
    return {**figures, own[settings.task]: None}


def _further_metrics(settings: Settings) -> tuple[str, ...]:
    """Metrics that the tables of other tasks have no columns for."""
    return () if settings.task == CLASSIFICATION.name else measured(settings.metric)


def _other_settings(resolved: ResolvedTrial, kind: str) -> str:
    settings = resolved.trial.settings
    others = {k: getattr(settings, k) for k in Settings.model_fields if k not in COLUMN_SETTINGS}
    for name, absent in ADDED_LATER.items():
        if others[name] in absent:
            del others[name]
    size, other = ("max_length", "image_size") if kind == "text" else ("image_size", "max_length")
    others.pop(other, None)
    return json.dumps({**others, size: resolved.input_size})


def _measured(result: JobResult, primary: str) -> dict[str, Any]:
    outcome = result.outcome
    times = {
        # Without a start the trial counts as not tried, and the next run tries it.
        "started": None if result.external else result.started,
        "finished": None if result.external else result.finished,
        "train_seconds": sum(r.train_seconds + r.val_seconds for r in result.records)
        + (0.0 if outcome is None else outcome.fit_seconds),
        "peak_memory_mib": result.peak_memory_mib,
    }
    if outcome is None:
        return times
    best, last = outcome.best, outcome.last
    return {
        **times,
        "best_epoch": best.epoch,
        "val_loss": None if best.val is None else best.val.loss,
        "test_loss": best.test.loss,
        **_figures("val", best.val),
        **_figures("test", best.test),
        **_figures("last_val", last.val, (ACCURACY, primary)),
        **_figures("last_test", last.test, (ACCURACY, primary)),
        **_of_task(outcome),
        **_label_free(outcome),
        **({CHOSEN: json.dumps(dict(outcome.chosen))} if outcome.chosen else {}),
        "trainable_params": outcome.trainable_params,
        "total_params": outcome.total_params,
    }


def _of_task(outcome: Outcome) -> dict[str, str]:
    """What it takes to read the outputs where they are no probabilities of classes, as JSON."""
    told: dict[str, str] = {}
    if outcome.standardised is not None:
        told["standardised"] = json.dumps(asdict(outcome.standardised))
    if outcome.thresholds is not None:
        told["thresholds"] = json.dumps(outcome.thresholds)
    return told


def _label_free(outcome: Outcome) -> dict[str, str]:
    """What validators say without labels, as JSON, where there is anything to look at."""
    found = outcome.label_free
    return {} if found is None else {LABEL_FREE: json.dumps(asdict(found))}


def _figures(
    prefix: str, scores: Scores | None, names: Sequence[str] | None = None
) -> dict[str, float]:
    """The metrics of a split by column, all or those called `names`; none of a split without."""
    if scores is None:
        return {}
    wanted = scores.metrics if names is None else names
    shown = {name: scores.metrics[name] for name in wanted if name in scores.metrics}
    return {f"{prefix}_{name}": _known(value) for name, value in shown.items()}


def _known(figure: float) -> float:
    """Of a metric: an infinite one says no more than that it is not known."""
    return figure if math.isfinite(figure) else math.nan


def _curve_rows(result: JobResult, further: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A row for each epoch and split, with columns of `further` metrics whatever is known."""
    for record in result.records:
        for split, scores, seconds in (
            ("train", record.train, record.train_seconds),
            ("val", record.val, record.val_seconds),
            ("test", record.test, None),
        ):
            if scores is None:
                continue
            yield {
                "epoch": record.epoch,
                "split": split,
                "loss": scores.loss,
                **dict.fromkeys(further),
                **{name: _known(value) for name, value in scores.metrics.items()},
                "lr": record.lr,
                "seconds": seconds,
            }


def _predictions(result: JobResult) -> dict[str, Any]:
    """The columns of what was predicted on the test and on the validation split."""
    sides = [
        _prediction_columns(own, split)
        for split, own in (("test", result.predictions), ("val", result.val_predictions))
        if own is not None
    ]
    names = sides[0] if sides else ()
    return {name: list(chain.from_iterable(side[name] for side in sides)) for name in names}


def _prediction_columns(own: Predictions, split: str) -> dict[str, Any]:
    """As the target task has them."""
    targets = own.targets
    return columns_of_task(
        "classification" if targets is None else targets.task,
        samples=own.samples,
        truth=own.labels if targets is None else targets.values,
        answers=own.probabilities,
        names=own.classes,
        split=split,
        groups=own.groups,
        test_sets=own.test_sets,
    )
