"""The emulated device refuses what a real one would, leaves nothing behind, and trains trials."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch.optim.optimizer as torch_optimizer

import bench
from bench.data import PreparedData
from bench.execution import engine as engine_module
from bench.execution.engine import Engine
from bench.execution.jobs import Event, Job, cut
from bench.models import Network
from bench.training.loop import isolated
from bench.training.random_state import own_random_state
from tests.emulated_device import Counts, DeviceTensor, emulated_device
from tests.tiny import SMOKE_SUITE, make_job, make_trial

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real device")


@pytest.fixture
def counts() -> Iterator[Counts]:
    """An emulated CUDA device, and what is asked of it."""
    with emulated_device() as counts:
        yield counts


# What it refuses ------------------------------------------------------------------------------


def test_tensors_say_that_they_are_on_the_device(counts: Counts) -> None:
    made = torch.zeros(2, 3, device="cuda")
    moved = torch.ones(2, 3).to("cuda:0")
    for tensor in (made, moved, made + moved, moved.t(), torch.nn.Linear(2, 2).to("cuda").weight):
        assert tensor.device == torch.device("cuda", 0)
        assert tensor.is_cuda
    assert torch.equal(moved.cpu(), torch.ones(2, 3))


@pytest.mark.parametrize("name", ["add", "mm", "cat", "stack", "where", "put"])
def test_company_of_cpu_tensors_is_refused(counts: Counts, name: str) -> None:
    here, there = torch.eye(2), torch.eye(2, device="cuda")
    ways = {
        "add": lambda: here + there,
        "mm": lambda: there @ here,
        "cat": lambda: torch.cat([there, here]),
        "stack": lambda: torch.stack([there[0, 0], here[0, 0]]),
        "where": lambda: torch.where(there > 0, there, here),
        "put": lambda: there.index_put_((torch.tensor([0]),), here[:1]),
    }
    with pytest.raises(RuntimeError, match="same device"):
        ways[name]()
    assert sum(counts.errors.values()) == 1


def test_numbers_are_welcome(counts: Counts) -> None:
    there = torch.ones(2, device="cuda")
    assert (there + torch.tensor(1.0)).tolist() == [2, 2]
    assert torch.where(there > 0, 3.0, there).tolist() == [3, 3]
    there[1:] = 4
    assert there.tolist() == [1, 4]
    assert not counts.to_device


def test_a_cpu_tensor_takes_no_indices_from_the_device(counts: Counts) -> None:
    with pytest.raises(RuntimeError, match="indices should be"):
        torch.ones(3)[torch.tensor([1], device="cuda")]


def test_numpy_is_refused(counts: Counts) -> None:
    tensor = torch.ones(2, device="cuda")
    with pytest.raises(TypeError, match=r"Tensor\.cpu"):
        tensor.numpy()
    with pytest.raises(TypeError, match=r"Tensor\.cpu"):
        np.asarray(tensor)


def test_mps_has_no_double_precision() -> None:
    with emulated_device("mps") as counts:
        assert torch.ones(2, device="mps").device.type == "mps"
        with pytest.raises(TypeError, match="float64"):
            torch.ones(2, device="mps").double()
        with pytest.raises(TypeError, match="float64"):
            torch.ones(2, dtype=torch.float64).to("mps")
        assert torch.ones(2, dtype=torch.float64).to("mps", torch.float32).tolist() == [1, 1]
    assert sum(counts.errors.values()) == 2


# What it counts -------------------------------------------------------------------------------


def test_copies_and_waits_are_counted_by_place(counts: Counts) -> None:
    tensor = torch.ones(2).to("cuda")
    torch.ones(2).pin_memory().to("cuda", non_blocking=True)
    assert sum(counts.to_device.values()) == 2
    assert sum(counts.syncs.values()) == 1
    assert tensor.sum().item() == 2
    tensor.cpu()
    tensor[tensor > 0]
    assert sum(counts.to_host.values()) == 1
    assert sum(counts.syncs.values()) == 4
    (name,) = {place.split(":")[0] for place in counts.syncs}
    assert name == Path(__file__).name


def test_only_a_copy_from_pinned_memory_is_not_waited_for(counts: Counts) -> None:
    there = torch.zeros(2, device="cuda")
    for source in (torch.ones(2).pin_memory(), torch.ones(2)):
        there.copy_(source, non_blocking=True)
        source.to("cuda", non_blocking=True)
    assert counts.to_device.total() == 4
    assert counts.syncs.total() == 2
    torch.ones(2).pin_memory().to("cuda")
    assert counts.syncs.total() == 3


def test_launches_are_counted_by_operation(counts: Counts) -> None:
    tensor = torch.empty(2, 2, device="cuda").fill_(1)
    tensor.view(4)[1:] + 1
    assert counts.launches == {"aten.fill_": 1, "aten.add": 1}


def test_what_is_on_the_device_is_not_copied_again(counts: Counts) -> None:
    tensor = torch.ones(2, device="cuda")
    assert tensor.to("cuda") is tensor
    layer = torch.nn.Linear(2, 2).to("cuda")
    weight = layer.weight
    assert layer.to("cuda").weight is weight
    assert sum(counts.to_device.values()) == 2


# What it leaves behind ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_afterwards_everything_is_as_before(kind: Any) -> None:
    before = _functions_of_torch()
    with suppress(ZeroDivisionError), emulated_device(kind):
        assert _functions_of_torch() != before
        raise ZeroDivisionError
    assert _functions_of_torch() == before
    assert not torch.cuda.is_available()
    assert not torch.backends.mps.is_available()
    assert not isinstance(torch.ones(2) + 1, DeviceTensor)


def _functions_of_torch() -> dict[tuple[str, str], Any]:
    modules = (torch, torch.cuda, torch.accelerator, torch.backends.mps, torch._C._nn, F)
    return {
        (str(owner), name): value
        for owner in (*modules, torch_optimizer, torch.Tensor)
        for name, value in vars(owner).items()
        if callable(value) or name == "_foreach_supported_types"
    }


# Trials ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "opened"), [("cpu", []), ("cuda:0", ["cuda:0"]), ("cuda", ["cuda"])]
)
def test_a_trial_touches_its_own_device_alone(device: str, opened: list[str]) -> None:
    with emulated_device() as counts, isolated(1, device):
        torch.manual_seed(3)
    assert list(counts.opened) == opened


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_the_random_state_of_a_device_comes_back(kind: Any) -> None:
    before = torch.get_rng_state()
    with emulated_device(kind) as counts, own_random_state(torch.device(kind)):
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    assert list(counts.opened) == [kind]


def test_on_the_cpu_no_gpu_has_to_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise RuntimeError("CUDA driver initialization failed, you might not have a CUDA gpu.")

    monkeypatch.setattr(torch.cuda, "device_count", refuse)
    before = torch.get_rng_state()
    with isolated(1, "cpu"):
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)


def test_memory_of_a_trial_is_measured_once_what_earlier_ones_kept_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    networks: list[weakref.ref[Network]] = []
    living: list[list[bool]] = []

    def build(job: Job, data: PreparedData) -> Network:
        network = engine_module.build_network(
            "shufflenet_v2_x0_5",
            weights=job.weights,
            head=job.trial.settings.head,
            num_classes=2,
            seed=job.trial.settings.seed,
            image_size=data.input_size,
        )
        networks.append(weakref.ref(network))
        return network

    monkeypatch.setattr(engine_module, "build", build)
    engine = Engine()
    results: list[Event] = []
    jobs = [
        replace(make_job(make_trial(seed=seed, epochs=1), trial_id=str(seed)), device="cuda")
        for seed in (0, 1)
    ]
    with emulated_device():
        monkeypatch.setattr(
            torch.cuda,
            "reset_peak_memory_stats",
            lambda _: living.append([network() is not None for network in networks]),
        )
        for task in cut(jobs, reuse=True):
            engine.perform(task, results.append)
    assert living == [[], [False]]
    assert len(networks) == 2


@pytest.mark.campaign
@pytest.mark.usefixtures("no_report")
def test_a_run_with_heads_on_a_mac(tmp_path: Path) -> None:
    """Under `--device auto`: weights made there, heads stacked, and no memory that is not known."""
    suite = tmp_path / "tiny.yaml"
    suite.write_text(SMOKE_SUITE)
    options: dict[str, Any] = {"executor": "in-process", "overrides": ["optimizer=adamw"]}
    with emulated_device("mps") as counts:
        mac = bench.run(suite, out=tmp_path, device="auto", **options)
    assert set(mac.trials["status"]) == {"complete"}
    assert set(mac.trials["device"]) == {"mps"}
    assert mac.trials["peak_memory_mib"].isna().all()
    assert not counts.errors


@pytest.mark.usefixtures("no_report")
def test_a_run_on_a_gpu_has_the_tables_of_the_cpu(tmp_path: Path) -> None:
    suite = tmp_path / "tiny.yaml"
    suite.write_text(SMOKE_SUITE)
    # Both schedules share the first epoch: the second trial goes on from a state of the first.
    schedules = "schedule=[constant, {name: step, step_size: 1}]"
    overrides = ["seed=0", "weights=none", "strategy=from_scratch", schedules]
    options: dict[str, Any] = {"executor": "in-process", "overrides": overrides}
    cpu = bench.run(suite, out=tmp_path / "cpu", device="cpu", **options)
    with emulated_device() as counts:
        gpu = bench.run(suite, out=tmp_path / "gpu", device="cuda", **options)
    assert set(gpu.trials["status"]) == {"complete"}
    assert set(gpu.trials["device"]) == {"cuda"}
    assert gpu.curves["loss"].to_numpy() == pytest.approx(cpu.curves["loss"].to_numpy(), abs=1e-6)
    assert not counts.errors
