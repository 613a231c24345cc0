"""How tasks spread over workers: the real tasks, tree and agenda, with simulated training times.

python benchmarks/schedule.py --trials 24 1000 100000 --workers 1 10 100 1000
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import resource
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.execution.executors.agenda import Agenda
from bench.execution.jobs import JobResult, StateSaved, Task, cut
from bench.execution.work import CountedTrial, count_work
from bench.models import outline
from bench.models.flops import epoch_flops, group_flops
from bench.runs.prepare import counted_trials
from bench.runs.resolve import resolve_run
from bench.training.freezing import moving_groups

SUITE = Path(__file__).with_name("scale_grid.yaml")
CELLS, SEEDS = 12, 50
"""What the suite has of strategies and schedules, and how many seeds at most."""

FLOPS_PER_SECOND = 2e11
TASK_SECONDS = 1.0
"""What a task costs beside its epochs: its data opened, its state read and written."""


def main() -> None:
    """Print, for every number of trials and workers, the makespan and its lower bound."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[24, 1000, 100_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--spread", type=float, default=0.3, help="sd of the log of epoch times")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for trials in given.trials:
        counted, tasks = _planned(trials)
        draw = random.Random(given.seed)
        seconds = {id(task): _seconds(task, counted, draw, given.spread) for task in tasks}
        work, longest = sum(seconds.values()), _critical_path(tasks, seconds)
        for workers in given.workers:
            start = time.perf_counter()
            makespan = simulated(tasks, seconds, workers)
            each = (time.perf_counter() - start) / len(tasks)
            bound = max(work / workers, longest)
            print(
                f"{len(counted):>7} trials  {len(tasks):>7} tasks  {workers:>5} workers  "
                f"makespan {makespan:>12,.0f} s  bound {bound:>12,.0f} s  "
                f"ratio {makespan / bound:.3f}  {1e6 * each:.0f} µs a task",
                flush=True,
            )


def _planned(trials: int) -> tuple[Mapping[str, CountedTrial], Sequence[Task]]:
    """The trials by id and their tasks; says what planning them took."""
    start = time.process_time()
    with TemporaryDirectory() as out:
        resolved_run = resolve_run(SUITE, out=Path(out), device="cpu", overrides=_axes(trials))
    counted = counted_trials(resolved_run)
    resolved = time.process_time()
    accounts = count_work(counted, reuse=True)
    tasks = cut([each.job for each in counted], reuse=True)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{len(counted)} trials: resolved in {resolved - start:.1f} s, accounts and tasks in "
        f"{time.process_time() - resolved:.1f} s of CPU time, {memory:,.0f} MiB; "
        f"{accounts.sentence()}",
        flush=True,
    )
    return {each.job.trial_id: each for each in counted}, tasks


def _axes(trials: int) -> list[str]:
    """Seeds and learning rates for about so many trials."""
    seeds = min(SEEDS, math.ceil(trials / CELLS / 2))
    lrs = max(1, math.ceil(trials / CELLS / seeds))
    return [f"seed={list(range(seeds))}", f"lr={[1e-3 * 1.02**step for step in range(lrs)]}"]


def _seconds(
    task: Task, counted: Mapping[str, CountedTrial], draw: random.Random, spread: float
) -> float:
    """The task's time: its operations at a fixed speed, and luck that differs between tasks."""
    first = counted[task.jobs[0].trial_id]
    if task.kind == "heads":
        # One pass of the trunk an epoch and seed; the heads themselves cost nothing beside it.
        passes = {(job.trial.settings.seed, e) for job in task.jobs for e in range(job.heads_end)}
        flops = len(passes) * first.train * sum(_group_flops(first).values())
    else:
        flops = sum(_epoch(first, epoch) for epoch in range(task.start, task.end))
    return TASK_SECONDS + flops / FLOPS_PER_SECOND * draw.lognormvariate(0.0, spread)


def _epoch(counted: CountedTrial, epoch: int) -> int:
    shape = outline(counted.job.trial.backbone.name, counted.job.trial.settings.head)
    return epoch_flops(
        _group_flops(counted),
        moving_groups(shape, counted.job.plan.stage_at(epoch)),
        from_boundary=True,
        train_samples=counted.train,
        eval_samples=counted.val,
    )


def _group_flops(counted: CountedTrial) -> Mapping[str, int]:
    backbone = counted.job.trial.backbone.name
    return group_flops(backbone, counted.input_size, counted.num_classes)


def _saved(task: Task) -> list[str]:
    """The states that the task leaves."""
    if task.kind == "heads":
        going_on = [job for job in task.jobs if job.head_epochs < job.end]
        return [job.keys[job.head_epochs] for job in going_on]
    return [task.jobs[0].keys[task.end]]


def _critical_path(tasks: Sequence[Task], seconds: Mapping[int, float]) -> float:
    """The longest chain of tasks that wait for one another."""
    followers: defaultdict[str | None, list[Task]] = defaultdict(list)
    for task in tasks:
        followers[task.needs].append(task)

    def below(task: Task) -> float:
        after = [below(child) for key in _saved(task) for child in followers.get(key, ())]
        return seconds[id(task)] + max(after, default=0.0)

    return max(below(task) for task in followers[None])


def simulated(tasks: Sequence[Task], seconds: Mapping[int, float], workers: int) -> float:
    """The time at which the last task ends, handed out as the executors do it."""
    agenda, names = Agenda(tasks), {_name(task): seconds[id(task)] for task in tasks}
    idle: list[str | None] = [None] * workers
    running: list[tuple[float, int, Task]] = []
    now, count = 0.0, 0
    while True:
        while idle and (task := agenda.take(near=idle[-1])):
            idle.pop()
            count += 1
            heapq.heappush(running, (now + names[_name(task)], count, task))
        if not running:
            return now
        now, _, done = heapq.heappop(running)
        for key in _saved(done):
            agenda.note(StateSaved(key=key, trials=()))
        for job in done.jobs:
            if done.kind != "segment" or done.end == job.end:
                _note_end(agenda, done, job.trial_id)
        idle.append(_saved(done)[-1] if _saved(done) else None)


def _note_end(agenda: Agenda, task: Task, trial: str) -> None:
    from datetime import UTC, datetime

    job = next(job for job in task.jobs if job.trial_id == trial)
    if task.kind == "heads" and job.head_epochs < job.end:
        return
    now = datetime.now(UTC)
    agenda.note(JobResult(trial_id=trial, started=now, finished=now))


def _name(task: Task) -> tuple[str, int, str]:
    """What stays of a task when trials leave it."""
    job = task.jobs[0]
    return task.kind, task.end, job.keys[task.end if task.kind == "segment" else job.heads_end]


if __name__ == "__main__":
    main()
