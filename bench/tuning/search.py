"""The search: rounds in which every study suggests, all suggestions train together, all are told.

What is suggested depends on the rounds and not on when a training ends, so the search is the same
with any number of workers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.storages import BaseStorage, get_storage

from bench.errors import BenchError, without_secrets_of
from bench.execution.executors import Executor, Where
from bench.execution.jobs import Job, JobResult, cut
from bench.keys import content_hash
from bench.results.analysis import evenness
from bench.results.folder import Push
from bench.results.metric import metric_called
from bench.runs.lr_find import range_of
from bench.runs.prepare import make_job
from bench.runs.reporter import Reporter
from bench.runs.resolve import OpenSuite, ResolvedRun
from bench.runs.tasks import ready
from bench.suite import BUDGETS, FoundRange, Range, Trial, Tune
from bench.training.lr_range import HIGH, LOW, STEPS
from bench.training.state import EpochRecord, state_cache
from bench.tuning.cells import Cell, cells_of
from bench.tuning.earlier import EarlierRun, first_values
from bench.tuning.journal import open_journal
from bench.tuning.studies import CellStudy, Ranges, Suggestion, beating, directions, make_pruner

JOURNAL = "tuning.journal"
POLL_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class _Try:
    """The jobs of a suggestion, one for each tuning seed, and how far it has come."""

    suggestion: Suggestion
    jobs: tuple[Job, ...]
    stop: int

    @property
    def open_jobs(self) -> list[Job]:
        """Those that go on: the others have stopped early."""
        records = self.suggestion.records
        before = max((s for s in self.suggestion.study.stops if s < self.stop), default=0)
        return [
            replace(job, stop=self.stop)
            for index, job in enumerate(self.jobs)
            if not records or len(records[index]) >= before
        ]


class Search:
    """The studies of a suite's cells, and what they train with."""

    def __init__(
        self,
        opened: OpenSuite,
        tune: Tune,
        *,
        folder: Path,
        storage: str | None,
        where: Where,
        push: Push,
        reporter: Reporter,
        earlier: Sequence[EarlierRun] = (),
    ) -> None:
        self._opened = opened
        self._tune = tune
        self._where = where
        self._executor: Executor | None = None
        self._push = push
        self._reporter = reporter
        self._earlier = earlier
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / ".tuning.lock")
        self.cells = cells_of(opened.trials, tune)
        self._resolved_run = self._first_plan(folder)
        self._sets, self._weights = ready(self._resolved_run, reporter)
        self.studies = self._open_studies(folder, storage)
        if "widen" in tune.method.model_fields_set and not any(s.has_ranges for s in self.studies):
            reporter.note(
                "tune.widen has no effect: no cell searches a range of numbers (a list of numbers "
                "is one with sampler grid only)"
            )

    @property
    def primary(self) -> str:
        """The metric that chooses epochs, for all cells."""
        return self.cells[0].own[0].settings.metric

    def run(self) -> None:
        """Search until every study has spent its budget and no process works on one any more."""
        said = False
        while True:
            with self._lock:
                suggestions = [found for study in self.studies for found in study.ask()]
            if suggestions:
                for found in suggestions:
                    if found.why is not None:
                        self._reporter.note(f"{found.study.cell.label}: {found.why}")
                with beating(suggestions):
                    self._train(suggestions)
                self._push(JOURNAL, wait=True)  # nothing is written to it meanwhile
            elif not any(study.waiting_for_others() for study in self.studies):
                self._say_what_is_even()
                return
            else:
                if not said:
                    self._reporter.note("waiting for trials of another process")
                    said = True
                time.sleep(POLL_SECONDS)

    def close(self) -> None:
        """End the processes that have trained."""
        if self._executor is not None:
            self._executor.close()
            self._executor = None

    # Studies ----------------------------------------------------------------------------------

    def _first_plan(self, folder: Path) -> ResolvedRun:
        seed = self._tune.method.seeds[0]
        trials = [cell.own[0].with_settings(seed=seed) for cell in self.cells]
        return ResolvedRun(
            loaded=self._opened.loaded,
            folder=folder,
            device=self._opened.device,
            dataset=self._opened.dataset,
            trials=tuple(self._opened.resolver.resolved(trial) for trial in trials),
            issues=(),
        )

    def _open_studies(self, folder: Path, url: str | None) -> list[CellStudy]:
        searched = [cell for cell in self.cells if cell.space]
        if not searched:
            raise BenchError("tune.space fits no cell of the suite: there is nothing to search")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with self._lock:
            storage = open_storage(folder, url, self._reporter.note)
            return [self._open_study(cell, storage) for cell in searched]

    def _open_study(self, cell: Cell, storage: BaseStorage) -> CellStudy:
        method = self._tune.method
        resolved = self._opened.resolver.resolved(cell.trial({}, seed=method.seeds[0]))
        study = self._optuna_study(cell, storage)
        study.pruner = make_pruner(method.pruner, epochs=resolved.plan.epochs)
        made = CellStudy(
            cell=cell,
            study=study,
            method=method,
            ranges=self._ranges(cell, study),
            epochs=resolved.plan.epochs,
            images_per_epoch=len(self._sets.splits(resolved).train),
        )
        self._start(made)
        return made

    def _start(self, study: CellStudy) -> None:
        """Its first trials, if it has none yet, and what earlier runs have to do with them."""
        found = [first_values(run, study.cell, study.ranges, study.method) for run in self._earlier]
        if study.enqueue_first([first for first, _ in found if first is not None]):
            for _, said in found:
                self._reporter.note(said)
            return
        late = {first.run for first, _ in found if first is not None} - study.started_from()
        if late:
            self._reporter.note(
                f"{study.cell.label}: tune.from has no effect on a search that has begun "
                f"({', '.join(sorted(late))})"
            )

    def _optuna_study(self, cell: Cell, storage: BaseStorage) -> optuna.Study:
        """The study of this cell, this data and this way to search: another way is another one."""
        method = self._tune.method
        how = {
            "cell": cell.key,
            "space": [item.identity() for item in cell.space.values()],
            "method": method.model_dump(exclude={*BUDGETS, "widen"}),
            "context": self._opened.resolver.resolved(cell.trial({}, seed=0)).id,
        }
        return optuna.create_study(
            study_name=f"{self._opened.loaded.suite.name} · {cell.label} · {content_hash(how)}",
            directions=directions(method, cell.own[0].settings.metric),
            storage=storage,
            load_if_exists=True,
        )

    def _ranges(self, cell: Cell, study: optuna.Study) -> Ranges:
        return {
            name: self._found_range(cell, item.values, study)
            if isinstance(item.values, FoundRange)
            else item.values
            for name, item in cell.space.items()
        }

    def _found_range(self, cell: Cell, values: FoundRange, study: optuna.Study) -> Range:
        """The range around what a range test with the first tuning seed suggests."""
        centre = study.user_attrs.get(values.find)
        if centre is None:
            self._reporter.status(f"testing learning rates of {cell.label}")
            job = self._job(cell.trial({}, seed=self._tune.method.seeds[0]))
            found = range_of(job, low=LOW, high=HIGH, steps=STEPS)
            centre = getattr(found, values.find)
            if centre is None:
                raise BenchError(
                    f"the range test of {cell.label} found no learning rate at which the loss "
                    "falls; give tune.space.lr a range: {low: …, high: …, log: true}"
                )
            study.set_user_attr(values.find, centre)
        return Range(low=centre / values.factor, high=centre * values.factor, log=True)

    def _say_what_is_even(self) -> None:
        """Which cells have their best values inside of what was tried, and which have not."""
        ended = [study for study in self.studies if study.best is not None]
        edges = [edge for study in ended for edge in study.edges()]
        if ended:
            self._reporter.note(evenness([study.cell.label for study in ended], edges))

    # Training ---------------------------------------------------------------------------------

    def _train(self, suggestions: Sequence[Suggestion]) -> None:
        """Train them together, from one look to the next, until all have ended."""
        tries = [made for found in suggestions if (made := self._try(found)) is not None]
        passed = {key for attempt in tries for job in attempt.jobs for key in job.keys[1:]}
        while tries:
            jobs = {job.trial_id: job for attempt in tries for job in attempt.open_jobs}
            results = self._results(list(jobs.values()))
            tries = [then for attempt in tries if (then := self._next(attempt, results))]
        states = state_cache()
        for key in passed:  # nothing goes on from them
            states.retire(key)

    def _try(self, suggestion: Suggestion) -> _Try | None:
        study = suggestion.study
        try:
            jobs = [
                self._job(study.cell.trial(suggestion.params, seed=seed))
                for seed in self._tune.method.seeds
            ]
        except BenchError as error:
            study.fail(suggestion, str(error))
            self._say(suggestion, str(error))
            return None
        return _Try(suggestion=suggestion, jobs=tuple(jobs), stop=study.stops[0])

    def _job(self, trial: Trial) -> Job:
        resolved = self._opened.resolver.resolved(trial)
        job = make_job(self._resolved_run, resolved, self._weights, self._sets)
        if isinstance(job, BenchError):
            raise job
        return replace(job, checkpoint=None)

    def _results(self, jobs: Sequence[Job]) -> Mapping[str, JobResult]:
        tasks = cut(jobs, reuse=True, more=True)
        self._reporter.training(jobs)
        resources = self._opened.loaded.suite.resources
        executor = self._where.executor(tasks, self._opened.device, resources)
        if self._executor is None or executor.workers > self._executor.workers:
            self.close()
            self._executor = executor
        return {r.trial_id: r for r in self._executor.run(tasks, self._reporter.epoch)}

    def _next(self, attempt: _Try, results: Mapping[str, JobResult]) -> _Try | None:
        """The suggestion on its way to the next look, or None if it has ended."""
        suggestion, study = attempt.suggestion, attempt.suggestion.study
        found = [results.get(job.trial_id) for job in attempt.jobs]
        earlier = suggestion.records or [()] * len(found)
        records: list[Sequence[EpochRecord]] = [
            result.records if result is not None else before
            for result, before in zip(found, earlier, strict=True)
        ]
        error = next((result.error for result in found if result and result.error), None)
        if error is not None:
            study.fail(suggestion, error, records)
            self._say(suggestion, error)
            return None
        if study.take(suggestion, records, stop=attempt.stop):
            following = next(stop for stop in study.stops if stop > attempt.stop)
            return replace(attempt, stop=following)
        self._say(suggestion, None)
        return None

    def _say(self, suggestion: Suggestion, error: str | None) -> None:
        study = suggestion.study
        ended = study.study.get_trials(deepcopy=False)[suggestion.number]
        values = ", ".join(f"{name} {_short(value)}" for name, value in suggestion.params.items())
        label = f"{study.cell.label} · trial {suggestion.number}"
        error = error or ended.user_attrs.get("error")
        if error is not None:
            self._reporter.note(f"{label} failed: {error} ({values})")
            return
        shown = metric_called(study.metric)
        named = "" if shown.is_accuracy else f"{shown.label} "
        reached = f"{named}val {shown.compact(ended.user_attrs['val_metric'])}"
        pruned = "" if ended.state == optuna.trial.TrialState.COMPLETE else ", pruned"
        self._reporter.note(f"{label}  {reached}{pruned}  {values}")


def open_storage(folder: Path, url: str | None, note: Callable[[str], None]) -> BaseStorage:
    """Optuna's storage: a journal file in the folder, or the database at `url`.

    `note` is told of damage that was mended. Raises `BenchError` for a database that is not there.
    """
    if url is None:
        return open_journal(folder / JOURNAL, note)
    try:
        return get_storage(url)
    except Exception as error:  # whatever the database's driver raises
        raise BenchError(
            without_secrets_of(
                url, f"--storage must be a URL that Optuna can open, got {url!r}: {error}"
            )
        ) from None


@contextmanager
def database_errors_told(url: str | None) -> Iterator[None]:
    """Raise what the database at `url` refuses in the block as a `BenchError`."""
    try:
        yield
    except Exception as error:
        refused = isinstance(error, optuna.exceptions.StorageInternalError)
        if url is None or not (refused or type(error).__module__.startswith("sqlalchemy.")):
            raise
        said = without_secrets_of(url, str(error.__cause__ or error))
        raise BenchError(
            f"the database at --storage {url} failed: {said}; when it answers again, the same "
            "command continues from what is finished"
        ) from None


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
