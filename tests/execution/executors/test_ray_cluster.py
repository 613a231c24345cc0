"""A Ray cluster of three nodes on this machine, each with a cache folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from bench.errors import BenchError
from bench.execution.executors import InProcessExecutor
from bench.execution.executors.ray_cluster import RayExecutor
from bench.execution.executors.ray_worker import Order, RayWorker, Report
from bench.execution.jobs import EpochDone, Job, JobResult, StateSaved, cut
from bench.methods.schedules import SCHEDULES
from bench.suite import Entry
from tests.execution.executors.test_executors import ONE_CLUSTER, SMALL, numbers, run
from tests.tiny import entry, make_job, make_trial

ray = pytest.importorskip("ray", reason="ray is not installed")
Cluster = pytest.importorskip("ray.cluster_utils").Cluster

pytestmark = ONE_CLUSTER


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file(torchvision.models.shufflenet_v2_x0_5().state_dict(), path)
    return Entry(name="file", options={"path": str(path)}, given=("path",))


def jobs(folder: Path, weights: Entry) -> list[Job]:
    """Trees that part after two of four epochs, and heads."""
    schedules = [entry(SCHEDULES, "constant"), entry(SCHEDULES, "step", step_size=2)]
    return [
        make_job(
            make_trial(
                strategy, backbone=SMALL, schedule=schedule, epochs=4, seed=seed, weights=weights
            ),
            trial_id=(name := f"{strategy}-{schedule.name}-{seed}"),
            checkpoint=folder / f"{name}.safetensors",
        )
        for strategy in ("full_finetune", "linear_probe")
        for schedule in schedules
        for seed in (0, 1, 2)
    ]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the cache folder of each node."""
    return tmp_path_factory.mktemp("nodes")


@pytest.fixture(scope="module")
def cluster(nodes: Path) -> Iterator[Cluster]:
    ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for number in range(3):
        cluster.add_node(num_cpus=1, env_vars={"BENCH_CACHE": str(nodes / f"node-{number}")})
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.campaign
def test_a_node_that_dies_costs_no_trial_and_changes_no_number(
    cluster: Cluster, nodes: Path, weights: Entry, tmp_path: Path
) -> None:
    alone, _ = run(InProcessExecutor(), jobs(tmp_path / "alone", weights), reuse=False)
    executor = RayExecutor(address=cluster.address, workers=3, device="cpu")
    assert executor.workers == 3
    last = cluster.list_all_nodes()[-1]
    fetched = [nodes / f"node-{number}" / "ray" for number in range(3)]

    def kill_one(_: EpochDone) -> None:
        if last.all_processes and fetched[-1].is_dir():  # it has begun with its first task
            cluster.remove_node(last, allow_graceful=False)

    todo = jobs(tmp_path / "ray", weights)
    with closing(executor):
        results = {r.trial_id: r for r in executor.run(cut(todo, reuse=True), kill_one)}
    assert not last.all_processes
    assert executor._losses
    assert set(results) == set(alone)
    for trial, result in results.items():
        assert numbers(result) == numbers(alone[trial])
        one, other = (tmp_path / side / f"{trial}.safetensors" for side in ("alone", "ray"))
        assert one.read_bytes() == other.read_bytes()
    # What a node needs reaches it once: the images and the weights, each under its digest.
    for folder in fetched[:2]:
        whole = [path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."]
        names = sorted(found.name for path in whole for found in path.iterdir())
        assert names == sorted([todo[0].data.name, "small.safetensors"])


@pytest.mark.campaign
def test_no_node_with_room(cluster: Cluster, weights: Entry, tmp_path: Path) -> None:
    executor = RayExecutor(address=cluster.address, workers=3, cpus=8, device="cpu")
    with pytest.raises(BenchError, match=r"no node .* has room for a trial \(8 CPU\)"):
        list(executor.run(cut(jobs(tmp_path, weights), reuse=True), lambda _: None))


def test_no_cluster_there() -> None:
    ray.shutdown()
    with pytest.raises(BenchError, match=r"no Ray cluster at --address 127.0.0.1:1: .*refused"):
        RayExecutor(address="127.0.0.1:1", workers=1, device="cpu")
    with pytest.raises(BenchError, match="it must be HOST:PORT"):
        RayExecutor(address="head", workers=1, device="cpu")


def test_a_worker_sends_states_while_it_trains(
    weights: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "node"))
    monkeypatch.setattr("bench.execution.engine.SAVE_SECONDS", 0.0)
    job = jobs(tmp_path, weights)[0]
    worker = RayWorker()
    worker.facts("cpu")
    (task,) = cut([job], reuse=True)
    worker.start(Order(task=task, remote=True))
    reports: list[Report] = []
    while not reports or reports[-1].event is not None:
        reports += worker.reports()
    saved = {r.event.key: r.content for r in reports if isinstance(r.event, StateSaved)}
    assert list(saved) == list(job.keys[1:])
    assert all(saved.values())
    (ended,) = (r for r in reports if isinstance(r.event, JobResult))
    assert ended.content is not None
    assert job.checkpoint is not None
    assert not job.checkpoint.exists()  # the driver alone writes to the run folder
