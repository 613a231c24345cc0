"""One contract for all executors: the same results, errors that cost one job, clean ends."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import torchvision
from safetensors.torch import load_file

from bench.data import open_data
from bench.errors import BenchError
from bench.execution.executors import Executor, InProcessExecutor, ProcessPoolExecutor
from bench.execution.executors.ray_cluster import RayExecutor
from bench.execution.jobs import EpochDone, Job, JobResult, cut, trial_splits
from bench.suite import Resources
from tests.tiny import make_job, make_trial

SMALL = "shufflenet_v2_x0_5"

EXECUTORS: dict[str, Callable[[], Executor]] = {
    "in-process": InProcessExecutor,
    "processes": lambda: ProcessPoolExecutor(2),
    "ray": lambda: RayExecutor(address=None, workers=2, device="cpu"),
}
ONE_CLUSTER = [
    pytest.mark.campaign,
    pytest.mark.xdist_group("ray"),
    pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed"),
]
"""Tests with Ray follow one another in one process: to start a cluster takes most of their time."""

NAMES = ["in-process", "processes", pytest.param("ray", marks=ONE_CLUSTER)]


@pytest.fixture(scope="module", autouse=True)
def ray_ends() -> Iterator[None]:
    """The cluster that the first test with Ray starts serves them all."""
    yield
    if ray := sys.modules.get("ray"):
        ray.shutdown()


def jobs(folder: Path) -> list[Job]:
    return [
        make_job(
            make_trial(strategy, backbone=SMALL, seed=seed),
            trial_id=f"{strategy}-{seed}",
            checkpoint=folder / f"{strategy}-{seed}.safetensors",
        )
        for strategy in ("full_finetune", "linear_probe")
        for seed in (0, 1)
    ]


def run(
    executor: Executor, todo: list[Job], *, reuse: bool = True
) -> tuple[dict[str, JobResult], list[tuple[str, int]]]:
    epochs: list[tuple[str, int]] = []

    def note(done: EpochDone) -> None:
        epochs.extend((trial, done.record.epoch) for trial in done.trials)

    with closing(executor):
        results = {r.trial_id: r for r in executor.run(cut(todo, reuse=reuse), note)}
    return results, epochs


def numbers(result: JobResult) -> tuple[object, ...]:
    assert result.outcome is not None, result.error
    assert result.predictions is not None
    curves = [(r.epoch, r.lr, r.train, r.val) for r in result.records]
    return (
        curves,
        result.outcome.best,
        result.outcome.last,
        result.predictions.probabilities.tobytes(),
    )


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, JobResult]:
    """Every job alone, in its own order."""
    todo = jobs(tmp_path_factory.mktemp("reference"))
    return {
        job.trial_id: run(InProcessExecutor(), [job], reuse=False)[0][job.trial_id] for job in todo
    }


@pytest.mark.parametrize("name", NAMES)
def test_results_are_bit_identical_to_each_job_alone(
    name: str, reference: dict[str, JobResult], tmp_path: Path
) -> None:
    results, epochs = run(EXECUTORS[name](), list(reversed(jobs(tmp_path))))
    assert set(results) == set(reference)
    for trial_id, result in results.items():
        assert numbers(result) == numbers(reference[trial_id])
        assert [epoch for job, epoch in epochs if job == trial_id] == [1, 2]
        assert (tmp_path / f"{trial_id}.safetensors").is_file()
        assert result.peak_memory_mib is not None
        assert result.peak_memory_mib > 10
        assert result.started < result.finished


@pytest.mark.parametrize("name", NAMES)
def test_an_error_costs_its_job_only(name: str, tmp_path: Path) -> None:
    good, _, gone, _ = jobs(tmp_path)
    bad = make_job(make_trial("full_finetune", backbone=SMALL, lr=1e30), trial_id="bad")
    gone = replace(gone, data=tmp_path / "nowhere")
    results, _ = run(EXECUTORS[name](), [bad, gone, good])
    assert "loss is" in str(results[bad.trial_id].error)
    assert "nowhere" in str(results[gone.trial_id].error)
    assert results[good.trial_id].error is None


@pytest.mark.parametrize("name", ["in-process", "processes"])  # Ray's workers have their own device
def test_an_unexpected_error_keeps_its_traceback(name: str, tmp_path: Path) -> None:
    job = replace(jobs(tmp_path)[0], precision="fp32", device="meta")
    results, _ = run(EXECUTORS[name](), [job])
    result = results[job.trial_id]
    assert result.error is not None
    assert result.log is not None
    assert "Traceback" in result.log


class _Fatal:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> tuple[object, ...]:
        return (os._exit, (3,))


def test_a_worker_that_dies_costs_its_job_only(tmp_path: Path) -> None:
    fatal, *rest = jobs(tmp_path)
    fatal = replace(fatal, class_map=_Fatal())  # type: ignore[arg-type]
    results, _ = run(ProcessPoolExecutor(1), [fatal, *rest[:1]])
    assert results[fatal.trial_id].error == "the worker process died (exit code 3)"
    assert results[rest[0].trial_id].error is None


class _Hangs:
    """The process that unpickles it waits for something that never comes."""

    def __reduce__(self) -> tuple[object, ...]:
        return (time.sleep, (3600,))


@pytest.mark.campaign
def test_a_worker_that_hangs_costs_its_job_only(tmp_path: Path) -> None:
    hung, *rest = jobs(tmp_path)
    hung = replace(hung, class_map=_Hangs())  # type: ignore[arg-type]
    limits = Resources(minutes=0.25)
    results, _ = run(ProcessPoolExecutor(1, resources=limits), [hung, *rest[:1]])
    assert results[hung.trial_id].error == "took longer than 0.25 min (resources.minutes)"
    assert not results[hung.trial_id].external
    assert results[rest[0].trial_id].error is None


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as on POSIX")
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_dies_while_it_trains_leaves_its_epochs(
    tmp_path: Path, stop: signal.Signals
) -> None:
    trial = make_trial("full_finetune", backbone=SMALL, epochs=1000)
    job = make_job(trial, checkpoint=tmp_path / "never.safetensors")

    def kill(done: EpochDone) -> None:
        if done.record.epoch == 2:
            for worker in _workers():
                worker.send_signal(stop)

    with closing(ProcessPoolExecutor(1)) as executor:
        (result,) = executor.run(cut([job], reuse=True), kill)
    epochs = len(result.records)
    assert [record.epoch for record in result.records] == list(range(1, epochs + 1))
    assert epochs >= 2
    hint = ", often because memory ran out" if stop == signal.SIGKILL else ""
    expected = f"the worker process died (signal {stop.name}{hint}) in epoch {epochs + 1}"
    assert result.error == expected
    assert result.external == (stop == signal.SIGTERM)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits memory")
def test_a_job_that_needs_more_memory_than_it_may_have_fails_alone(tmp_path: Path) -> None:
    data = {"train_per_class": 128, "image_size": 96}
    large = make_job(
        make_trial("full_finetune", data=data, backbone="resnet18", image_size=96, batch_size=256),
        trial_id="large",
    )
    (good, *_) = jobs(tmp_path)
    limits = Resources(memory_gib=1.0)
    results, _ = run(ProcessPoolExecutor(1, resources=limits), [large, good])
    assert results["large"].error is not None
    assert results["large"].error.startswith("out of memory in epoch 1: ")
    assert "set micro_batch: 128" in results["large"].error
    assert "Traceback" in str(results["large"].log)
    assert results[good.trial_id].error is None


def test_in_process_a_time_limit_is_looked_at_after_each_epoch(tmp_path: Path) -> None:
    job = jobs(tmp_path)[0]
    results, epochs = run(InProcessExecutor(resources=Resources(minutes=1e-9)), [job])
    expected = "took longer than 1e-09 min in epoch 1 (resources.minutes)"
    assert results[job.trial_id].error == expected
    assert len(results[job.trial_id].records) == 1
    assert epochs == [(job.trial_id, 1)]


def test_memory_cannot_be_limited_in_process() -> None:
    with pytest.raises(BenchError, match=r"resources\.memory_gib .* --executor processes"):
        InProcessExecutor(resources=Resources(memory_gib=1.0))


def test_a_worker_that_died_between_tasks_costs_nothing(tmp_path: Path) -> None:
    first, _, second, _ = jobs(tmp_path)
    with closing(ProcessPoolExecutor(1)) as executor:
        for job in (first, second):
            (result,) = executor.run(cut([job], reuse=True), lambda *_: None)
            assert result.error is None
            for worker in _workers():
                worker.kill()


def test_results_are_taken_while_the_next_task_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes a result does not keep the processes waiting, however busy the machine is."""
    monkeypatch.setattr("bench.execution.executors.process_pool.MOMENT_SECONDS", 0.0)
    told: list[str] = []
    with closing(ProcessPoolExecutor(1)) as executor:
        tasks = cut(jobs(tmp_path)[:2], reuse=False)
        results = executor.run(tasks, lambda done: told.extend(done.trials))
        first = next(results).trial_id
        deadline = time.monotonic() + 60
        checkpoint = tmp_path / "full_finetune-1.safetensors"
        while not checkpoint.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert checkpoint.exists()
        assert set(told) == {first}  # nobody has listened meanwhile
        assert next(results).trial_id == "full_finetune-1"


def test_closing_stops_the_workers(tmp_path: Path) -> None:
    executor = ProcessPoolExecutor(2)
    running = executor.run(cut(jobs(tmp_path), reuse=False), lambda *_: None)
    next(running)
    workers = _workers()
    assert workers
    running.close()  # type: ignore[attr-defined]
    executor.close()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive


def _workers() -> list[psutil.Process]:
    """Those that train: spawned, or forked from the process that others are forked from."""
    below = psutil.Process().children(recursive=True)
    return [
        process
        for process in below
        if "spawn_main" in (command := " ".join(process.cmdline()))
        or ("forkserver" in command and process.ppid() != os.getpid())
    ]


def test_probabilities_are_those_of_the_saved_weights(tmp_path: Path) -> None:
    trial = make_trial("full_finetune", backbone=SMALL, epochs=3, lr=0.05)
    job = make_job(trial, checkpoint=tmp_path / "weights.safetensors")
    results, _ = run(InProcessExecutor(), [job])
    predictions = results[job.trial_id].predictions
    assert predictions is not None
    model = torchvision.models.shufflenet_v2_x0_5(num_classes=2)
    model.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    data = open_data(job.data)
    pixels = torch.from_numpy(data.images[trial_splits(trial, data).test]).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (job.weights.mean, job.weights.std))
    with torch.no_grad():
        logits = model.eval()((pixels.float() / 255 - mean) / std)
    assert np.allclose(logits.softmax(dim=1).numpy(), predictions.probabilities, atol=1e-4)
