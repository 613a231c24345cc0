"""The training tree: which trials share which epochs, and how it is cut into tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.execution.epoch_keys import epoch_keys
from bench.execution.jobs import MAX_STACKED, Job, Task, cut
from bench.execution.tree import Segment, grow, reused_epochs
from bench.models import outline
from bench.runs.catalogue import catalogue
from bench.training.freezing import head_epochs
from tests.execution.plans import CONSTANT, plan_of
from tests.tiny import entry, make_job, make_trial

# The forest -----------------------------------------------------------------------------------


def _spelled(paths: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """A key for every prefix: what comes before is part of it."""
    return {
        trial: tuple(word[:length] for length in range(len(word) + 1))
        for trial, word in paths.items()
    }


def _walk(forest: Sequence[Segment]) -> list[Segment]:
    return [segment for root in forest for segment in root.walk()]


def test_grow_by_hand() -> None:
    paths = _spelled({"a": "xxyy", "b": "xx", "c": "xxyz", "d": "q", "e": "xxyy"})
    forest = grow(paths, dict.fromkeys(paths, 0))
    found = [(s.start, s.end, s.trials, s.ending, s.longest) for s in _walk(forest)]
    assert found == [
        (0, 2, ("a", "b", "c", "e"), ("b",), 4),
        (2, 3, ("a", "c", "e"), (), 2),
        (3, 4, ("a", "e"), ("a", "e"), 1),
        (3, 4, ("c",), ("c",), 1),
        (0, 1, ("d",), ("d",), 1),
    ]


def test_trials_that_enter_later_and_one_without_epochs() -> None:
    paths = _spelled({"a": "hhx", "b": "hhy", "c": "", "d": "hhxz"})
    forest = grow(paths, {"a": 2, "b": 2, "c": 0, "d": 2})
    found = [(s.start, s.end, s.trials, s.ending) for s in _walk(forest)]
    assert found == [
        (2, 3, ("a", "d"), ("a",)),
        (3, 4, ("d",), ("d",)),
        (2, 3, ("b",), ("b",)),
        (0, 0, ("c",), ("c",)),
    ]


words = st.lists(st.text("ab", max_size=6), min_size=1, max_size=12)


@given(words)
def test_every_epoch_is_in_exactly_one_segment(tries: list[str]) -> None:
    paths = _spelled({f"t{index}": word for index, word in enumerate(tries)})
    forest = grow(paths, dict.fromkeys(paths, 0))
    segments = _walk(forest)
    covered = Counter(
        (trial, epoch)
        for segment in segments
        for trial in segment.trials
        for epoch in range(segment.start, segment.end)
    )
    expected = [(trial, epoch) for trial, keys in paths.items() for epoch in range(len(keys) - 1)]
    assert covered == Counter(expected)
    # Each distinct epoch once: a segment's trials agree in it, and no other segment has it.
    edges = [
        paths[segment.trials[0]][epoch + 1]
        for segment in segments
        for epoch in range(segment.start, segment.end)
    ]
    assert Counter(edges) == Counter({key for keys in paths.values() for key in keys[1:]})
    for segment in segments:
        shared = {paths[trial][segment.start : segment.end + 1] for trial in segment.trials}
        assert len(shared) == 1
        for child in segment.children:
            assert child.start == segment.end
            assert set(child.trials) <= set(segment.trials)
            assert child.end > child.start
    endings = Counter(trial for segment in segments for trial in segment.ending)
    assert endings == Counter(list(paths))
    for segment in segments:
        assert all(len(paths[trial]) == segment.end + 1 for trial in segment.ending)


@given(words)
def test_reused_epochs_are_those_that_earlier_trials_have(tries: list[str]) -> None:
    paths = _spelled({f"t{index}": word for index, word in enumerate(tries)})
    reused = reused_epochs(paths)
    assert list(reused) == list(paths)
    distinct = {key for keys in paths.values() for key in keys[1:]}
    assert sum(len(k) - 1 - reused[t] for t, k in paths.items()) == len(distinct)
    for index, (trial, word) in enumerate(zip(paths, tries, strict=True)):
        common = [
            next((i for i, (x, y) in enumerate(zip(word, w, strict=False)) if x != y), None)
            for w in tries[:index]
        ]
        lengths = [
            min(len(word), len(w)) if c is None else c
            for c, w in zip(common, tries[:index], strict=True)
        ]
        assert reused[trial] == max(lengths, default=0)


# Tasks ----------------------------------------------------------------------------------------


BASE: dict[str, Job] = {}


def _jobs(*changes: dict[str, Any]) -> list[Job]:
    """Jobs with made-up keys that agree where the epochs do; the images are not prepared."""
    if not BASE:
        BASE["job"] = make_job(make_trial("linear_probe"))
    jobs = []
    for index, change in enumerate(changes):
        given = {"strategy": "full_finetune", "epochs": 4, **change}
        name, options = given.pop("schedule", CONSTANT)
        strategy, own = given.pop("strategy"), given.pop("options", {})
        trial = make_trial(
            strategy, options=own, schedule=entry(catalogue().schedule, name, **options), **given
        )
        plan = plan_of(strategy, given["epochs"], **own)
        shape = outline("resnet18", trial.settings.head)
        keys = epoch_keys(
            {"seed": trial.settings.seed, "head": trial.settings.head.identity()},
            plan=plan,
            settings=trial.settings,
            schedule=trial.schedule,
            augmentation=trial.augmentation,
            outline=shape,
            steps_per_epoch=2,
        )
        heads = head_epochs(shape, plan)
        changed = {"trial_id": f"t{index}", "trial": trial, "plan": plan}
        jobs.append(replace(BASE["job"], **changed, keys=keys, head_epochs=heads))
    return jobs


def _trained(task: Task) -> set[str]:
    """The keys of the states that the task trains up to."""
    if task.kind == "heads":
        return {key for job in task.jobs for key in job.keys[1 : job.head_epochs + 1]}
    return set(task.jobs[0].keys[task.start + 1 : task.end + 1])


def _saved(task: Task) -> set[str]:
    if task.kind == "heads":
        jobs = (job for job in task.jobs if job.head_epochs < job.plan.epochs)
        return {job.keys[job.head_epochs] for job in jobs}
    return {task.jobs[0].keys[task.end]}


def _check(jobs: Sequence[Job], tasks: Sequence[Task]) -> None:
    trained = Counter(key for task in tasks for key in _trained(task))
    assert set(trained) == {key for job in jobs for key in job.keys[1:]}
    assert max(trained.values()) == 1, "an epoch is in two tasks"
    saved = {key for task in tasks for key in _saved(task)}
    assert {task.needs for task in tasks if task.needs is not None} <= saved
    for task in tasks:
        assert (task.needs is None) == (task.start == 0)
        last = max(len(job.keys) - 1 for job in task.jobs)
        assert task.longest == last - task.start
    ends = {job.trial_id for task in tasks for job in task.jobs}
    assert ends == {job.trial_id for job in jobs}


GRIDS: dict[str, list[dict[str, Any]]] = {
    "one": [{}],
    "alike": [{}, {}, {}],
    "schedules": [{}, {"schedule": ("step", {"step_size": 2})}, {"epochs": 7}],
    "heads": [{"strategy": "linear_probe", "lr": lr} for lr in (0.1, 0.2, 0.3)],
    "heads and what follows": [
        {"strategy": "linear_probe"},
        {"strategy": "lp_ft"},
        {"strategy": "lp_ft", "options": {"probe_epochs": 1}},
        {"strategy": "gradual_unfreeze"},
        {"strategy": "gradual_unfreeze", "epochs": 6},
        {"strategy": "full_finetune"},
        {"strategy": "linear_probe", "epochs": 9, "seed": 1},
        {"strategy": "lp_ft", "epochs": 6, "optimizer": "adam", "momentum": 0.0},
    ],
    "early stopping": [{"early_stopping": 1}, {"early_stopping": 2}, {"epochs": 5}],
}


@pytest.mark.parametrize("grid", GRIDS)
def test_tasks_train_each_epoch_once_and_find_their_states(grid: str) -> None:
    jobs = _jobs(*GRIDS[grid])
    _check(jobs, cut(jobs, reuse=True))


def test_without_reuse_every_trial_is_a_task() -> None:
    jobs = _jobs({}, {}, {"strategy": "linear_probe", "epochs": 3})
    tasks = cut(jobs, reuse=False)
    alone = [replace(job, views_key="") for job in jobs]  # nor are views shared
    assert [(task.kind, task.jobs, task.longest) for task in tasks] == [
        ("alone", (alone[0],), 4),
        ("alone", (alone[1],), 4),
        ("alone", (alone[2],), 3),
    ]


@pytest.mark.parametrize("augmentation", ["none", "flip_crop"])
def test_large_stacks_are_split_and_lose_no_job(augmentation: str) -> None:
    grid = [
        {"strategy": "linear_probe", "lr": 0.001 * (1 + n), "augmentation": augmentation, "seed": s}
        for s in (1, 0)
        for n in range(MAX_STACKED // 2 + 3)
    ]
    jobs = _jobs(*grid)
    tasks = cut(jobs, reuse=True)
    assert all(len(task.jobs) <= MAX_STACKED for task in tasks)
    _check(jobs, tasks)


def test_heads_that_share_epochs_stay_in_one_stack_however_many_there_are() -> None:
    rates = [0.001 * (1 + n) for n in range(MAX_STACKED // 2 + 8)]
    grid = [
        {"strategy": "linear_probe", "lr": lr, "schedule": schedule}
        for schedule in (CONSTANT, ("step", {"step_size": 2}))
        for lr in rates
    ]
    jobs = _jobs(*grid)
    _check(jobs, cut(jobs, reuse=True))
