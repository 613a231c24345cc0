"""Jobs of a resolved run with all that they need, and tasks handed to an executor."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import closing

from bench.errors import BenchError
from bench.execution.executors import Executor, Where
from bench.execution.jobs import Job, JobResult, Task, cut
from bench.execution.states_in_use import StatesInUse
from bench.runs.prepare import PreparedSets, StartingWeights, make_job
from bench.runs.reporter import Reporter
from bench.runs.resolve import ResolvedRun
from bench.training.state import state_cache

logger = logging.getLogger(__name__)


def ready_jobs(
    resolved_run: ResolvedRun, reporter: Reporter, where: Where | None = None
) -> list[Job | BenchError]:
    """A job with its keys for every pending trial: data prepared, weights fetched or made.

    Where the weights cannot be had, the reason stands in the job's place.
    """
    sets, weights = ready(resolved_run, reporter, where)
    return [make_job(resolved_run, resolved, weights, sets) for resolved in resolved_run.pending]


def ready(
    resolved_run: ResolvedRun, reporter: Reporter, where: Where | None = None
) -> tuple[PreparedSets, StartingWeights]:
    """The data of the pending trials, prepared, and their weights, made `where` they are to be."""
    sets = PreparedSets(resolved_run, reporter.progress)
    weights = StartingWeights(resolved_run, reporter.progress)
    tasks = cut(list(weights.source_jobs().values()), reuse=False)
    run_tasks(tasks, resolved_run, weights.note_source, where or Where(), reporter)
    return sets, weights


def run_tasks(
    tasks: Sequence[Task],
    resolved_run: ResolvedRun,
    keep: Callable[[JobResult], None],
    where: Where,
    reporter: Reporter,
) -> None:
    """Have the tasks done; `keep` gets the result of each job as it ends."""
    by_id = {job.trial_id: job for task in tasks for job in task.jobs}
    if not by_id:
        return
    logger.info("%d trials are cut into %d tasks", len(by_id), len(tasks))
    reporter.training(list(by_id.values()))
    executor = where.executor(tasks, resolved_run.device, resolved_run.loaded.suite.resources)
    states = StatesInUse(by_id.values(), state_cache())
    with closing(executor), closing(_results(executor, tasks, reporter)) as results:
        for result in results:
            keep(result)
            states.finished(by_id[result.trial_id], result)
            reporter.finished(by_id[result.trial_id], result)


def _results(
    executor: Executor, tasks: Sequence[Task], reporter: Reporter
) -> Generator[JobResult, None, None]:
    yield from executor.run(tasks, reporter.epoch)
