"""Which GPU a process gets: tested without one, by what its environment says."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection

import pytest
import torch

from bench.errors import BenchError
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


@pytest.mark.parametrize(
    ("device", "share", "workers"), [("cuda:0", 0.25, 4), ("cuda:1", 0.5, 2), ("cuda:1", None, 1)]
)
def test_a_gpu_that_is_named_has_its_shares(
    monkeypatch: pytest.MonkeyPatch, device: str, share: float | None, workers: int
) -> None:
    gpus_here(monkeypatch, ["A", "A"])
    todo = [make_job(make_trial(seed=seed), trial_id=str(seed)) for seed in range(8)]
    executor = Where().executor(cut(todo, reuse=False), device, Resources(gpus=share))
    assert isinstance(executor, ProcessPoolExecutor)
    assert executor.workers == workers
    assert executor._gpus == []  # the index says which one, and counts all of them


# Ray ------------------------------------------------------------------------------------------


class Started:
    """What `ray.init` was given, and what it would have seen."""

    def __init__(self) -> None:
        self.given: dict[str, object] = {}
        self.visible: str | None = None

    def init(self, **given: object) -> None:
        self.given, self.visible = given, os.environ.get("CUDA_VISIBLE_DEVICES")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    ray = pytest.importorskip("ray", reason="ray is not installed")
    started = Started()
    monkeypatch.setattr(ray, "is_initialized", lambda: bool(started.given))
    monkeypatch.setattr(ray, "init", started.init)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    class Context:
        @property
        def namespace(self) -> object:
            return started.given["namespace"]

    monkeypatch.setattr(ray, "get_runtime_context", Context)
    gpus_here(monkeypatch, ["A", "A", "B", "A"])
    return started


@pytest.mark.parametrize(("devices", "visible"), [(1, "1"), (2, "1,3")])
def test_ray_is_started_on_the_gpu_that_is_named(
    started: Started, devices: int, visible: str
) -> None:
    from bench.execution.executors.ray_cluster import RayExecutor
    from bench.execution.executors.ray_cluster import _Worker as RayWorker

    for _ in range(2):  # a run may have several rounds
        executor = RayExecutor(address=None, workers=1, device="cuda:1", devices=devices)
    assert started.visible == visible
    assert started.given["address"] == "local"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    job = replace(make_job(make_trial()), device="cuda:1")
    (task,) = cut([job], reuse=False)
    order = executor._order(RayWorker(actor=None, host="here", remote=False), task)
    assert [each.device for each in order.task.jobs] == ["cuda"]  # the only one that it sees


def test_a_cluster_that_runs_chooses_its_gpus(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.execution.executors.ray_cluster import RayExecutor

    with pytest.raises(BenchError, match="give --device cuda"):
        RayExecutor(address="head:6379", workers=1, device="cuda:1")
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(BenchError, match="give --device cuda"):
        RayExecutor(address=None, workers=1, device="cuda:1")
    monkeypatch.delenv("RAY_ADDRESS")
    RayExecutor(address=None, workers=1, device="cuda")
    assert started.given["address"] is None
    with pytest.raises(BenchError, match="give --device cuda"):
        RayExecutor(address=None, workers=1, device="cuda:1")


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
