"""A trial on several devices is the trial on one: curves, frozen bits, failures, states."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import bench.execution.engine
from bench.data import open_data
from bench.errors import BenchError
from bench.execution.engine import Engine, make_training
from bench.execution.executors import Executor, InProcessExecutor, ProcessPoolExecutor, Where
from bench.execution.jobs import EpochDone, Event, Job, JobResult, cut, trial_splits
from bench.runs.catalogue import catalogue
from bench.suite import Entry, Resources, Trial
from bench.system.machine import check_devices, device_of_rank
from bench.system.processes import start_process
from bench.training.data_parallel import SharedBatches
from bench.training.data_parallel.ranks import Ranks, joined
from bench.training.data_parallel.whole_batch import batch_norm, whole_batch
from bench.training.loop import train
from tests.data.pictures import photograph
from tests.targets import target_job, target_trial, vectors_loaded
from tests.texts import text_backbone
from tests.tiny import entry, make_job, make_trial

SMALL = "shufflenet_v2_x0_5"

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.skipif(os.name == "nt", reason="Gloo and the signals are those of POSIX"),
]


def on_ranks(count: int, folder: Path, work: Callable[..., object], *arguments: Any) -> list[Any]:
    """What `work(ranks, *arguments)` gives on each of `count` ranks."""
    (folder / "meeting").mkdir()
    processes = [
        start_process(_on_rank, folder, rank, count, work, arguments, device="cpu")
        for rank in range(count)
    ]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * count
    paths = [folder / f"{rank}.pt" for rank in range(count)]
    return [torch.load(path, weights_only=False) for path in paths]


def _on_rank(
    folder: Path, rank: int, count: int, work: Callable[..., object], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    with joined(folder / "meeting", rank, count, "cpu"):
        torch.save(work(Ranks(rank, count), *arguments), folder / f"{rank}.pt")


# One step, in double precision ----------------------------------------------------------------


def step_of(
    ranks: Ranks, name: str, count: int
) -> tuple[float, dict[str, Tensor], dict[str, Tensor]]:
    """Loss, gradients and buffers after a training step of `count` random images."""
    torch.manual_seed(0)
    network: nn.Module = getattr(torchvision.models, name)(num_classes=3).double().train()
    images, labels = torch.randn(count, 3, 64, 64).double(), torch.randint(0, 3, (count,))
    ranks.train(network.parameters())
    shard = ranks.shard(slice(0, count))

    def forward() -> tuple[Tensor, Tensor]:
        torch.manual_seed(1)  # of dropout and stochastic depth
        if ranks.count == 1:
            logits = network(images)
        else:
            with whole_batch(shard):
                logits = network(images[shard.rows])
        share = ranks.count * shard.size / count if shard.counts else 0.0
        return F.cross_entropy(logits, labels[shard.rows]) * share, logits.detach()

    loss, _ = ranks.compute(forward, last=True)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
    return loss.item() / ranks.count, gradients, dict(network.named_buffers())


def steps_of(ranks: Ranks, counts: dict[str, int]) -> dict[str, Any]:
    return {name: step_of(ranks, name, count) for name, count in counts.items()}


@pytest.mark.parametrize(
    ("num_ranks", "counts"),
    [
        # Batch norm; with dropout and stochastic depth; the latter without batch norm.
        pytest.param(2, {"resnet18": 7, "efficientnet_b0": 5, "swin_t": 3}, id="uneven"),
        pytest.param(3, {"efficientnet_b0": 2}, id="fewer rows than ranks"),
    ],
)
def test_a_step_is_that_of_one_process(
    tmp_path: Path, num_ranks: int, counts: dict[str, int]
) -> None:
    """In double precision, where rounding hides nothing: 1e-10 of the largest gradient."""
    found = on_ranks(num_ranks, tmp_path, steps_of, counts)
    for name, expected in steps_of(Ranks(), counts).items():
        loss, gradients, buffers = expected
        assert sum(rank[name][0] for rank in found) == pytest.approx(loss, rel=1e-12)
        largest = max(float(gradient.abs().max()) for gradient in gradients.values())
        for rank in found:
            for parameter, gradient in gradients.items():
                assert (rank[name][1][parameter] - gradient).abs().max() < 1e-10 * largest
            for buffer, tensor in buffers.items():
                assert torch.allclose(rank[name][2][buffer], tensor, rtol=1e-10), buffer
        for rank in found[1:]:
            for mine, first in zip(rank[name][1:], found[0][name][1:], strict=True):
                assert all(mine[key].equal(first[key]) for key in first)


# Batch norm -----------------------------------------------------------------------------------

SHAPES = ((5, 3), (5, 3, 4, 2), (2, 3, 3, 3), (1, 3, 4, 4))


def norms_of(ranks: Ranks, dtype: torch.dtype, affine: bool) -> list[tuple[Tensor, ...]]:
    """Output, running statistics and gradients for batches far from zero, on each rank its rows."""
    results = []
    for shape in SHAPES:
        torch.manual_seed(0)
        rows = (1000 + torch.randn(shape)).to(dtype).requires_grad_()
        factors = torch.randn(shape).to(dtype)
        running = torch.zeros(3, dtype=dtype), torch.ones(3, dtype=dtype)
        weights = [torch.rand(3).to(dtype).requires_grad_() for _ in range(2 * affine)]
        weight, bias = weights or (None, None)
        if ranks.count == 1:
            out = F.batch_norm(rows, *running, weight, bias, True, 0.3, 1e-5)
        else:
            shard = ranks.shard(slice(0, len(rows)))
            factors = factors[shard.rows] * shard.counts
            out = batch_norm(rows[shard.rows], *running, weight, bias, 0.3, 1e-5, shard.counts)
        gradients = torch.autograd.grad((out * factors).sum(), [rows, *weights])
        results.append((out.detach(), *running, *gradients))
    return results


@pytest.mark.parametrize(
    ("dtype", "affine", "tolerance"),
    # 1000 is 1000 deviations away: of seven digits of single precision four are left.
    [(torch.float64, True, 1e-9), (torch.float64, False, 1e-9), (torch.float32, True, 2e-3)],
)
def test_batch_norm_is_that_of_the_whole_batch(
    tmp_path: Path, dtype: torch.dtype, affine: bool, tolerance: float
) -> None:
    found = on_ranks(2, tmp_path, norms_of, dtype, affine)
    for at, expected in enumerate(norms_of(Ranks(), dtype, affine)):
        ranks = [rank[at] for rank in found]
        counting = min(2, SHAPES[at][0])
        out = torch.cat([rank[0] for rank in ranks[:counting]])
        summed = [sum(parts) for parts in zip(*(rank[3:] for rank in ranks), strict=True)]
        for mine, its in zip((out, *ranks[0][1:3], *summed), (*expected,), strict=True):
            assert torch.allclose(mine, its, rtol=tolerance, atol=tolerance)
        assert all(a.equal(b) for a, b in zip(ranks[0][1:3], ranks[1][1:3], strict=True))


# Whole trials ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Its follower serves all tests of this module."""
    with closing(Engine()) as made:
        yield made


def trained(engine: Engine, trial: Trial) -> JobResult:
    return trained_job(engine, make_job(trial))


def trained_job(engine: Engine, job: Job) -> JobResult:
    results: list[Event] = []
    for task in cut([job], reuse=False):
        engine.perform(task, results.append)
    (result,) = (event for event in results if isinstance(event, JobResult))
    assert result.error is None, result.error
    return result


GENTLE: dict[str, Any] = {
    "backbone": "resnet18",
    "lr": 1e-4,
    "batch_size": 16,
    "data": {"image_size": 64},
    "image_size": 64,
}
"""A network from scratch enlarges rounding with every step, most where batch norms see few values.
Here two threads instead of one change the losses by up to 6e-5, as two ranks do."""

CURVES: dict[str, dict[str, Any]] = {
    "batch norm": {},
    "uneven": {"batch_size": 7},
    "one row on one rank": {"batch_size": 3, "epochs": 1},
    "stages": {"backbone": SMALL, "strategy": "gradual_unfreeze", "options": {"every": 1}},
    "frozen boundary": {"backbone": SMALL, "strategy": "lp_ft", "options": {"probe_epochs": 1}},
    "class weights": {
        "class_weights": "balanced",
        "label_smoothing": 0.1,
        "data": {"classes": 3, "image_size": 64},
    },
    "clipped": {"backbone": SMALL, "grad_clip_norm": 0.5},
    "mixup": {"backbone": SMALL, "mix": "mixup"},
    "pieces": {"batch_size": 10, "micro_batch": 5, "options": {"penalty": {"l2_sp": 0.1}}},
    "measured rates": {"strategy": "auto_rgn", "options": {"batches": 1}, "epochs": 1},
    "auxiliary": {"backbone": "googlenet", "epochs": 1},
    "texts": {"backbone": "hf/", "strategy": "lora", "data": None, "optimizer": "adamw"},
    "pairs": {
        "backbone": "hf/",
        "strategy": "setfit",
        "options": {"iterations": 1, "c": 1.0},
        "data": None,
        "head": Entry(name="fitted"),
        "batch_size": 6,
        "micro_batch": 5,
        "optimizer": "adamw",
    },
    "features": {
        "backbone": SMALL,
        "epochs": 1,
        "options": {"penalty": {"delta": 0.01}, "stoch_norm": 0.5},
    },
}


IN_THE_LINE = ("batch norm", "one row on one rank", "frozen boundary", "mixup", "pieces")


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=() if c in IN_THE_LINE else pytest.mark.campaign) for c in CURVES],
)
def test_the_curve_is_that_of_one_process(engine: Engine, case: str) -> None:
    """Losses within 1e-4: single precision, and a few steps that each round otherwise."""
    settings = {**GENTLE, **CURVES[case]}
    if settings["backbone"] == "hf/":
        settings["backbone"] = text_backbone()
    one, two = (
        trained(engine, make_trial(**settings, devices_per_trial=devices)) for devices in (None, 2)
    )
    assert len(one.records) == settings.get("epochs", 2)
    for expected, found in zip(one.records, two.records, strict=True):
        assert found.lr == expected.lr
        assert found.train.loss == pytest.approx(expected.train.loss, rel=1e-4)
        assert found.val.loss == pytest.approx(expected.val.loss, rel=1e-4)
    assert one.predictions is not None
    assert two.predictions is not None
    assert np.allclose(one.predictions.probabilities, two.predictions.probabilities, atol=1e-3)


def test_weights_of_samples_count_over_all_devices(engine: Engine, tmp_path: Path) -> None:
    rows = ["path,label,weight\n"]
    for index in range(24):
        photograph(index).save(tmp_path / f"{index:02}.png")
        rows.append(f"{index:02}.png,{index % 2},{(1 + index % 5) ** 2}\n")
    (tmp_path / "labels.csv").write_text("".join(rows))
    table = entry(catalogue().dataset, "table", path=str(tmp_path / "labels.csv"))

    def result(devices: int | None) -> JobResult:
        settings = {**GENTLE, "label_smoothing": 0.1, "batch_size": 7}
        trial = make_trial(**settings, devices_per_trial=devices)
        return trained(engine, trial.model_copy(update={"dataset": table}))

    for expected, found in zip(result(None).records, result(2).records, strict=True):
        assert found.train.loss == pytest.approx(expected.train.loss, rel=1e-4)
        assert found.val.loss == pytest.approx(expected.val.loss, rel=1e-4)


def test_heads_on_a_frozen_trunk_stay_on_one_device(engine: Engine) -> None:
    trial = make_trial("linear_probe", backbone=SMALL, devices_per_trial=2)
    job = make_job(trial)
    assert [task.devices for task in cut([job], reuse=False)] == [1]
    assert [task.devices for task in cut([job], reuse=True)] == [1]
    both = make_job(make_trial("lp_ft", options={"probe_epochs": 1}, devices_per_trial=2))
    assert [task.devices for task in cut([both], reuse=True)] == [1, 2]


def states_of(ranks: Ranks, job: Job) -> list[dict[str, Tensor]]:
    """The network's tensors at the start and after each epoch."""
    data = open_data(job.data)
    training = make_training(job, data, trial_splits(job.trial, data), compute=SharedBatches(ranks))
    states = [dict(training.start or {})]

    def keep(record: object) -> None:
        tensors = training.network.model.state_dict()
        states.append({name: tensor.clone() for name, tensor in tensors.items()})

    train(training, keep)
    return states


def test_ranks_agree_and_frozen_stays_frozen(tmp_path: Path) -> None:
    trial = make_trial("partial_finetune", options={"top": 2}, epochs=2, devices_per_trial=2)
    found = on_ranks(2, tmp_path, states_of, make_job(trial))
    for first, second in zip(*found, strict=True):
        assert first.keys() == second.keys()
        assert all(first[name].equal(second[name]) for name in first)
    start, last = found[0][0], found[0][-1]
    frozen = {name for name in start if name.startswith(("conv1", "bn1", "layer1", "layer2"))}
    assert all(start[name].equal(last[name]) for name in frozen)
    assert not start["layer4.1.bn2.running_var"].equal(last["layer4.1.bn2.running_var"])


# Failures -------------------------------------------------------------------------------------


def youngest(process: psutil.Process) -> psutil.Process:
    """Of all processes below this one: the follower is started last."""
    found: psutil.Process = max(process.children(recursive=True), key=lambda p: p.create_time())
    return found


def two_jobs() -> list[Job]:
    return [
        make_job(
            make_trial(backbone=SMALL, seed=seed, epochs=3, devices_per_trial=2),
            trial_id=f"seed-{seed}",
        )
        for seed in (0, 1)
    ]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of others are Linux's")
@pytest.mark.parametrize(
    ("strike", "cause"),
    [
        (psutil.Process.kill, "rank 1 of 2 in epoch 2: the process died (signal SIGKILL"),
        (
            lambda process: resource.prlimit(process.pid, resource.RLIMIT_DATA, (2**28, 2**28)),
            "rank 1 of 2 in epoch 2: out of memory: ",
        ),
    ],
)
def test_a_follower_that_fails_costs_the_trial(
    engine: Engine, strike: Callable[[psutil.Process], object], cause: str
) -> None:
    engine.close()  # a process leads one team at a time
    struck: list[str] = []

    def hear(done: EpochDone) -> None:
        if not struck:
            struck.extend(done.trials)
            strike(youngest(psutil.Process()))

    started = time.monotonic()
    with closing(InProcessExecutor()) as executor:
        results = {r.trial_id: r for r in executor.run(cut(two_jobs(), reuse=True), hear)}
    assert time.monotonic() - started < 60
    failed, other = results.pop(struck[0]), next(iter(results.values()))
    assert failed.error is not None
    assert failed.error.startswith(cause)
    assert [record.epoch for record in failed.records] == [1]
    assert other.error is None
    assert len(other.records) == 3


LEADER = """\
from bench.execution.executors import InProcessExecutor
from bench.execution.jobs import cut
from tests.training.data_parallel.test_data_parallel import two_jobs

for _ in InProcessExecutor().run(cut(two_jobs(), reuse=False), lambda done: print("epoch")):
    pass
"""


def test_nothing_is_left_of_a_leader_that_is_killed() -> None:
    root = Path(__file__).parents[3]
    leader = subprocess.Popen(
        [sys.executable, "-u", "-c", LEADER],
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
        stdout=subprocess.PIPE,
    )
    assert leader.stdout is not None
    with leader.stdout:
        assert leader.stdout.readline() == b"epoch\n"
        below = psutil.Process(leader.pid).children(recursive=True)
        leader.send_signal(signal.SIGKILL)
        leader.wait()
        assert below
        _, alive = psutil.wait_procs(below, timeout=20)
    assert alive == []


def test_a_run_that_was_stopped_ends_with_the_same_bits(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench.execution.engine, "SAVE_SECONDS", 0.0)
    trial = make_trial(backbone=SMALL, epochs=4, devices_per_trial=2)
    expected = trained(engine, trial)
    engine.close()  # a process leads one team at a time
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    job = make_job(trial)

    told: list[EpochDone] = []

    def interrupt(done: EpochDone) -> None:
        told.append(done)
        if done.record.epoch == 3:
            raise KeyboardInterrupt

    for hear in (interrupt, told.append):
        with closing(InProcessExecutor()) as executor, suppress(KeyboardInterrupt):
            (found,) = executor.run(cut([job], reuse=True), hear)
    assert same_numbers(expected, found)
    # Two epochs were kept: they are told again, with the time that they took.
    assert [done.record.epoch for done in told] == [1, 2, 3, 1, 2, 3, 4]
    assert [a.record == b.record for a, b in zip(told[:3], told[3:], strict=False)] == [1, 1, 0]


def same_numbers(one: JobResult, other: JobResult) -> bool:
    assert one.predictions is not None
    assert other.predictions is not None
    curves = [[(r.lr, r.train, r.val) for r in result.records] for result in (one, other)]
    probabilities = one.predictions.probabilities, other.predictions.probabilities
    return curves[0] == curves[1] and bool(np.array_equal(*probabilities))


def test_executors_agree(engine: Engine) -> None:
    """Pool workers have followers of their own, though they are told to end with their parent."""
    jobs = two_jobs()[:1]
    expected = {job.trial_id: trained(engine, job.trial) for job in jobs}
    executor: Executor = ProcessPoolExecutor(1)
    with closing(executor):
        found = {r.trial_id: r for r in executor.run(cut(jobs, reuse=False), lambda done: None)}
    for trial, result in found.items():
        assert result.error is None, result.error
        assert same_numbers(expected[trial], result)


# Settings -------------------------------------------------------------------------------------


def test_it_is_part_of_ids_and_keys_where_it_is_above_one_only() -> None:
    plain, one, two = (make_trial(threads=1, devices_per_trial=devices) for devices in (None, 1, 2))
    assert plain.identity() == one.identity()
    assert "devices_per_trial" not in plain.identity()
    assert plain.id({}) == one.id({}) == "286b13bb8048"
    assert two.id({}) != plain.id({})
    assert two.config != plain.config
    keys = [make_job(trial).keys for trial in (plain, one, two)]
    assert keys[0] == keys[1]
    assert keys[0][0] == keys[2][0]
    assert not set(keys[0][1:]) & set(keys[2][1:])


def test_workers_leave_room_for_followers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.execution.executors.choose.usable_cores", lambda: 8)
    job = make_job(make_trial(threads=2, devices_per_trial=2))
    tasks = cut([replace(job, trial_id=str(i)) for i in range(9)], reuse=False)
    assert Where().executor(tasks, "cpu", Resources()).workers == 2
    assert Where().executor(tasks, "cpu", Resources(cpus=1)).workers == 4


def test_too_few_devices_are_told_of_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda *_: "one kind")
    check_devices("cuda", 2)
    check_devices("cpu", 9)
    with pytest.raises(BenchError, match="asks for more devices than there are: 1 of one kind"):
        check_devices("cuda:1", 2)
    tasks = cut([replace(make_job(make_trial(devices_per_trial=3)), device="cuda")], reuse=False)
    with pytest.raises(BenchError, match="2 of one kind from --device cuda on; lower it"):
        Where().executor(tasks, "cuda", Resources())
    assert [device_of_rank("cuda:0", rank) for rank in (0, 1)] == ["cuda:0", "cuda:1"]
    assert device_of_rank("cpu", 1) == "cpu"


# Other target tasks ---------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["regression", "multi_label"])
def test_numbers_and_labels_are_trained_on_several_devices_too(engine: Engine, task: str) -> None:
    with vectors_loaded():
        engine.close()  # its followers have not heard of the plugin
        one, two = (
            trained_job(engine, target_job(target_trial(
                task, "full_finetune", lr=0.01, batch_size=7, devices_per_trial=devices
            )))
            for devices in (None, 2)
        )  # fmt: skip
    for expected, found in zip(one.records, two.records, strict=True):
        assert found.train.loss == pytest.approx(expected.train.loss, rel=1e-4)
        assert found.val.loss == pytest.approx(expected.val.loss, rel=1e-4)
    assert one.predictions is not None
    assert two.predictions is not None
    found, expected = two.predictions.probabilities, one.predictions.probabilities
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-4)
