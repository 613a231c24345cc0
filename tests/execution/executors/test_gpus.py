"""Which GPU a process gets: tested without one, by what its environment says."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from multiprocessing.connection import Connection

import pytest
import torch

from bench.execution.executors import ProcessPoolExecutor, Where, process_pool
from bench.execution.jobs import JobResult, Task, cut
from bench.suite import Resources
from bench.system.machine import equal_gpus
from tests.tiny import make_job, make_trial


def say_what_is_visible(
    connection: Connection, _lanes: int, _memory: float | None, _device: str
) -> None:
    """In place of a worker: tells which GPUs it sees, and dies where it is the one called dead."""
    while True:
        try:
            task: Task = connection.recv()
        except EOFError:
            return
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
        if seen == "dead":
            return
        time.sleep(0.2)  # long enough that nobody takes the tasks of the others
        now = datetime.now(UTC)
        for job in task.jobs:
            connection.send(
                JobResult(trial_id=job.trial_id, started=now, finished=now, error=f"saw {seen}")
            )
        connection.send(process_pool._TaskDone())


@pytest.fixture(autouse=True)
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_pool, "_serve", say_what_is_visible)


def seen(executor: ProcessPoolExecutor, trials: int) -> Counter[str | None]:
    todo = [make_job(make_trial(seed=seed), trial_id=str(seed)) for seed in range(trials)]
    with closing(executor):
        return Counter(r.error for r in executor.run(cut(todo, reuse=False), lambda *_: None))


@pytest.mark.parametrize(
    ("workers", "trials", "expected"),
    [
        (1, 2, {"saw 1"}),
        (2, 4, {"saw 1", "saw GPU-7f"}),
        (4, 4, {"saw 1", "saw GPU-7f"}),
    ],
)
def test_processes_spread_over_the_gpus(workers: int, trials: int, expected: set[str]) -> None:
    found = seen(ProcessPoolExecutor(workers, gpus=("1", "GPU-7f")), trials)
    assert set(found) == expected  # which of them takes how many is a matter of time
    assert found.total() == trials


def test_without_gpus_the_environment_is_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    assert seen(ProcessPoolExecutor(1), 1) == {"saw 5": 1}


def test_the_place_of_a_process_that_died_is_taken_again() -> None:
    found = seen(ProcessPoolExecutor(2, gpus=("0", "dead")), 4)
    assert found["saw 0"] >= 1
    assert found["saw 0"] + found["the worker process died (exit code 0)"] == 4


def gpus_here(monkeypatch: pytest.MonkeyPatch, kinds: Sequence[str]) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(kinds))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: kinds[index])


@pytest.mark.parametrize(
    ("kinds", "visible", "expected"),
    [
        (["A", "A"], None, ("0", "1")),
        (["A", "B", "A"], None, ("0", "2")),
        (["A", "A"], "3, GPU-7f", ("3", "GPU-7f")),
        (["A"], "3,-1,4", ("3",)),
    ],
)
def test_gpus_of_one_kind_by_the_callers_names(
    monkeypatch: pytest.MonkeyPatch,
    kinds: list[str],
    visible: str | None,
    expected: tuple[str, ...],
) -> None:
    gpus_here(monkeypatch, kinds)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert equal_gpus("cuda") == expected
    assert equal_gpus("cuda:1") == equal_gpus("cpu") == ()


@pytest.mark.parametrize(
    ("share", "asked", "workers"),
    [(None, None, 2), (0.5, None, 4), (0.3, None, 6), (0.1, None, 8), (None, 3, 3)],
)
def test_as_many_processes_as_the_gpus_have_shares(
    monkeypatch: pytest.MonkeyPatch, share: float | None, asked: int | None, workers: int
) -> None:
    gpus_here(monkeypatch, ["A", "A"])
    todo = [make_job(make_trial(seed=seed), trial_id=str(seed)) for seed in range(8)]
    where = Where(workers=asked)
    executor = where.executor(cut(todo, reuse=False), "cuda", Resources(gpus=share))
    assert executor.workers == workers
    cut_short = Where().executor(cut(todo[:1], reuse=False), "cuda", Resources(gpus=share))
    assert cut_short.workers == 1


def test_a_trial_on_several_gpus_has_them_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus_here(monkeypatch, ["A"] * 5)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2,3,4,5")
    settings = {"devices_per_trial": 2}
    todo = [make_job(make_trial(seed=seed, **settings), trial_id=str(seed)) for seed in range(4)]
    executor = Where().executor(cut(todo, reuse=False), "cuda", Resources(gpus=0.5))
    assert isinstance(executor, ProcessPoolExecutor)
    found = seen(executor, 4)
    assert set(found) == {"saw 1,2", "saw 3,4"}  # who takes how many is a matter of time
    assert found.total() == 4
