"""What the stages of gpu_campaign.py check: each yields its findings, one at a time.

A finding with `ok` judges, one without it informs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import psutil
import torch
import torch.distributed as dist
import torch.nn.functional as F
import yaml
from torch import Tensor
from torchvision import models

from bench.data import open_data
from bench.execution.engine import make_training
from bench.execution.jobs import trial_splits
from bench.system.gpu_arithmetic import gpu_arithmetic, policy
from bench.system.machine import half_precision
from bench.training.loop import Branch, isolated, train
from bench.training.precision import faster_precision, measured_precision, step_seconds
from bench.training.stacked_heads import HeadTrial, train_heads
from bench.training.trial import Training
from tests.emulated_device import emulated_device
from tests.tiny import make_job, make_trial

Finding = dict[str, Any]
"""Facts by name; `ok` says whether they are as they should be."""

MAIN = "from bench.cli.main import main; main()"
HOOK = Path(__file__).parent / "one_gpu"

FLOOR = 0.85
"""What the trainer should reach of the bare network's speed."""

WAITS_AN_EPOCH = 2
"""How often the host may wait for the device in an epoch: for loss and accuracy of training, and
for the logits of validation. No step waits."""

MPS_SPEEDUP = 6.0
"""How many times faster 16 trials at once, under the MPS daemon, should be than one by one."""

MEASURED_SECONDS = 1.5

LOOKING_SECONDS = 25.0
"""How long a run on the CPU is watched: start, images, and some epochs of four trials at once."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Where a stage runs: its device, a folder of its own, whether the script is only tried."""

    folder: Path
    device: str
    small: bool

    @property
    def on_gpu(self) -> bool:
        return self.device.startswith("cuda")

    @property
    def image_size(self) -> int:
        return 64 if self.small else 224

    def images(self, full: int, small: int = 8) -> int:
        """How many images a class: `full`, or few."""
        return small if self.small else full


Check = Callable[[Setup], Iterator[Finding]]


# Trials in this process ------------------------------------------------------------------------


def made_training(device: str, strategy: str, **options: Any) -> Training:
    """A trial as the tests make it: 16 images of 32 pixels, ResNet-18, two epochs by default."""
    job = replace(make_job(make_trial(strategy, **options)), device=device)
    data = open_data(job.data)
    return make_training(job, data, trial_splits(job.trial, data))


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What is left of a trial: all losses, and a digest of its tensors."""

    losses: tuple[float, ...]
    digest: str

    def apart(self, other: Trained) -> float:
        """The largest difference between two losses."""
        return max(abs(a - b) for a, b in zip(self.losses, other.losses, strict=True))


def trained(device: str, strategy: str, **options: Any) -> Trained:
    outcome = train(made_training(device, strategy, **options), lambda record: None)
    losses = (loss for record in outcome.records for loss in (record.train.loss, record.val.loss))
    return Trained(losses=tuple(losses), digest=digest(outcome.state))


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Of all bits, in the order of the names."""
    content = hashlib.sha256()
    for name in sorted(tensors):
        content.update(tensors[name].detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return content.hexdigest()[:12]


def facts(setup: Setup) -> Iterator[Finding]:
    """The machine."""
    asked = "name,driver_version,compute_mode,memory.total,mig.mode.current"
    yield {
        "gpu": _asked_of_driver("gpu", asked) if setup.on_gpu else None,
        "device": setup.device,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        **_policy(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
    }


def _policy() -> Finding:
    """What a training sets, and what torch says of it meanwhile."""
    cudnn: Any = torch.backends.cudnn
    with gpu_arithmetic(torch.device("cuda")):
        inside = {
            "convolutions": cudnn.conv.fp32_precision,
            "products": torch.backends.cuda.matmul.fp32_precision,
        }
    return {**policy(), "fp32_of": inside}


def _asked_of_driver(what: str, fields: str) -> list[str]:
    command = ["nvidia-smi", f"--query-{what}={fields}", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True).stdout.splitlines()


def repeat(setup: Setup) -> Iterator[Finding]:
    """A trial twice in one process: the same bits, and no warning?"""
    every = ("resnet18", "mobilenet_v3_small", "vgg11", "vit_b_16", "swin_t")
    for backbone in every[:1] if setup.small else every:
        for precision in ("fp32", "bf16"):
            options = {
                "backbone": backbone,
                "image_size": setup.image_size,
                "data": {"train_per_class": setup.images(32)},
                "precision": precision,
                "epochs": 1,
                "lr": 1e-3,
            }
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always")
                first, second = (
                    trained(setup.device, "full_finetune", **options) for _ in range(2)
                )
            yield {
                "ok": first == second and not heard,
                "backbone": backbone,
                "precision": precision,
                "same_bits": first == second,
                "losses": (first.losses, second.losses),
                "warnings": Counter(str(each.message)[:120] for each in heard).most_common(4),
            }


def stacks(setup: Setup) -> Iterator[Finding]:
    """Has a head among many the bits that it has alone?"""
    options = {"augmentation": "none", "epochs": 3, "lr": 0.01}
    for head in ("linear_probe", "mlp_probe"):
        first = made_training(setup.device, head, **options)
        alone = _bits_in_stack(first, 1)
        for count in (2, 3) if setup.small else (2, 3, 16, 64):
            same = _bits_in_stack(first, count) == alone
            workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
            yield {"ok": same, "head": head, "heads": count, "workspace": workspace}


def _bits_in_stack(first: Training, count: int) -> str:
    """The digest of the first of `count` heads that train together, at rates of their own."""
    rates = [first.settings.lr * (1 + 0.01 * number) for number in range(count)]
    settings = [first.settings.model_copy(update={"lr": rate}) for rate in rates]
    trials = [
        HeadTrial(training=replace(first, settings=own), epochs=own.epochs) for own in settings
    ]
    with isolated(1, first.device):
        for _ in train_heads(trials):
            pass
    return digest(trials[0].state.model)


CURVES: Sequence[tuple[str, Mapping[str, Any]]] = (
    ("from_scratch", {}),
    ("linear_probe", {}),
    ("mlp_probe", {}),
    ("full_finetune", {}),
    ("full_finetune", {"mix": "mixup"}),
    ("two_rates", {"grad_clip_norm": 1.0}),
    ("layerwise_decay", {}),
    ("partial_finetune", {}),
    ("gradual_unfreeze", {}),
    ("lp_ft", {"optimizer": "adamw"}),
)
MODES: Sequence[tuple[str, float]] = (("fp32", 1e-3), ("bf16", 5e-2), ("fp16", 2e-2))
"""(precision, how far losses may lie from those of the CPU in fp32)"""


def curves(setup: Setup) -> Iterator[Finding]:
    """Every strategy on the CPU and on the GPU: how far apart are the losses?"""
    for strategy, options in CURVES:
        plain = {"epochs": 3, "lr": 1e-3, **options}
        here = trained("cpu", strategy, **plain)
        for precision, limit in MODES if setup.on_gpu else MODES[:1]:
            apart = here.apart(trained(setup.device, strategy, precision=precision, **plain))
            yield {
                "ok": apart < limit,
                "strategy": strategy,
                "options": options,
                "precision": precision,
                "apart": apart,
            }


def syncs(setup: Setup) -> Iterator[Finding]:
    """Where does the host wait for the device in an epoch? Without a GPU on an emulated one."""
    options = {
        "image_size": setup.image_size,
        "data": {"train_per_class": setup.images(32)},
        "epochs": 2,
    }
    places = (_waits if setup.on_gpu else _emulated_waits)(options)
    yield {"ok": places.total() <= WAITS_AN_EPOCH, "waits": places.most_common(20)}


def _waits(options: Mapping[str, Any]) -> Counter[str]:
    branch = Branch(training=made_training("cuda", "full_finetune", **options))
    with isolated(1, "cuda"):
        branch.train_epoch()
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            branch.train_epoch()
            torch.cuda.set_sync_debug_mode("default")
    return Counter(f"{Path(each.filename).name}:{each.lineno}" for each in heard)


def _emulated_waits(options: Mapping[str, Any]) -> Counter[str]:
    with emulated_device() as counts, isolated(1, "cuda"):
        branch = Branch(training=made_training("cuda", "full_finetune", **options))
        branch.train_epoch()
        before = counts.syncs.copy()
        branch.train_epoch()
    return counts.syncs - before


# Speed -----------------------------------------------------------------------------------------


def ceiling(setup: Setup) -> Iterator[Finding]:
    """Images a second of nothing but the network: step by step, and as a CUDA graph."""
    torch.set_num_threads(1)  # as a trial has
    for batch in (8,) if setup.small else (16, 32, 64, 128, 256):
        for precision in ("fp32", "bf16"):
            step = _bare_step(setup, batch, precision)
            with gpu_arithmetic(torch.device(setup.device)):
                speeds = {"eager": batch / _median_seconds(setup, step)}
                if setup.on_gpu:
                    speeds["graph"] = batch / _median_seconds(setup, _graphed(step))
            yield {"batch": batch, "precision": precision, "images_per_second": speeds}


def loop(setup: Setup) -> Iterator[Finding]:
    """Images a second of the trainer itself, and which part that is of the bare network's."""
    torch.set_num_threads(1)  # as a trial has
    for batch in (8,) if setup.small else (16, 128):
        step = _bare_step(setup, batch, "bf16")
        bare = _graphed(step) if setup.on_gpu else step
        most = batch / _median_seconds(setup, bare)
        for augmentation in ("none", "flip_crop", "standard", "trivial_augment"):
            speed = _training_speed(setup, batch, augmentation)
            yield {
                "ok": speed >= FLOOR * most,
                "batch": batch,
                "augmentation": augmentation,
                "images_per_second": speed,
                "of_bare_network": speed / most,
            }


def _training_speed(setup: Setup, batch: int, augmentation: str) -> float:
    """Training images a second of the second epoch."""
    size, per_class = setup.image_size, setup.images(128)
    training = made_training(
        setup.device,
        "full_finetune",
        image_size=size,
        resize="crop",
        batch_size=batch,
        precision="bf16",
        augmentation=augmentation,
        data={"train_per_class": per_class, "image_size": size},
    )
    branch = Branch(training=training)
    with isolated(1, setup.device):
        branch.train_epoch()
        # It ends with the sum of the losses, for which the host waits.
        return 2 * per_class / branch.train_epoch().train_seconds


def _bare_step(setup: Setup, batch: int, precision: str) -> Callable[[], None]:
    """A training step of ResNet-18 on a batch that lies on the device."""
    size, place = setup.image_size, torch.device(setup.device)
    network = models.resnet18(num_classes=2).to(place, memory_format=torch.channels_last).train()
    # A rate in memory, and one kernel for all parameters: as a graph needs it.
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=torch.tensor(1e-3, device=place) if setup.on_gpu else 1e-3,
        momentum=0.9,
        fused=setup.on_gpu,
    )
    images = torch.randn(batch, 3, size, size, device=place)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.arange(batch, device=place) % 2

    def step() -> None:
        bf16 = precision == "bf16"
        with torch.autocast(place.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
            logits = network(images)
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    return step


def _graphed(step: Callable[[], None]) -> Callable[[], None]:
    """The step as a CUDA graph; it is tried on another stream first, as torch asks for."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(5):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def _median_seconds(setup: Setup, call: Callable[[], None]) -> float:
    for _ in range(5):
        call()
    _finish(setup)
    times: list[float] = []
    while len(times) < 3 or sum(times) < MEASURED_SECONDS:
        started = time.perf_counter()
        call()
        _finish(setup)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _finish(setup: Setup) -> None:
    if setup.on_gpu:
        torch.cuda.synchronize()


def auto(setup: Setup) -> Iterator[Finding]:
    """Is what `precision: auto` chooses the faster one at the batch that is trained?"""
    every = ("resnet18", "mobilenet_v3_large", "vit_b_16")
    for backbone in every[:1] if setup.small else every:
        chosen = measured_precision(backbone, setup.image_size, setup.device)
        for batch in (4,) if setup.small else (16, 128):
            half = half_precision(setup.device) or "bf16"
            seconds = step_seconds(backbone, setup.image_size, setup.device, batch, half)
            yield {
                "ok": chosen == faster_precision(seconds),
                "backbone": backbone,
                "batch": batch,
                "chosen": chosen,
                "seconds_per_step": seconds,
            }


# Runs in processes of their own ----------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SuiteRun:
    """A `bench run` in a folder of its own, under way or at its end."""

    folder: Path
    process: subprocess.Popen[bytes]
    started: datetime

    def seconds(self) -> float:
        """Wait for its end; how long it took, from now on, and since its start."""
        self.process.wait()
        return (datetime.now(UTC) - self.started).total_seconds()

    @property
    def trials(self) -> pd.DataFrame:
        return self._table("trials")

    def losses(self) -> npt.NDArray[np.float64]:
        """All losses, ordered by what was trained."""
        settings = self.trials[["trial", "schedule", "lr", "seed"]]
        rows = self._table("curves")[["trial", "split", "epoch", "loss"]].merge(
            settings, on="trial"
        )
        order = ["schedule", "lr", "seed", "split", "epoch"]
        return rows.sort_values(order)["loss"].to_numpy(dtype=np.float64)

    def outcomes(self) -> list[tuple[Any, ...]]:
        """(batch size, status, the beginning of the error) of each trial"""
        rows = self.trials.sort_values("batch_size", ascending=False).fillna({"error": ""})
        return [(row.batch_size, row.status, str(row.error)[:200]) for row in rows.itertuples()]

    def _table(self, name: str) -> pd.DataFrame:
        path = self.folder / "campaign" / f"{name}.parquet"
        if not path.is_file():
            raise RuntimeError(f"no {name}: {(self.folder / 'log.txt').read_text()[-600:]}")
        return pd.read_parquet(path)


def _suite(
    setup: Setup, dataset: Mapping[str, Any] | None, changes: Mapping[str, Any]
) -> dict[str, Any]:
    images = {
        "name": "fractals",
        "classes": 2,
        "train_per_class": setup.images(122),
        "val_per_class": 16,
        "test_per_class": 16,
        "image_size": setup.image_size,
        **(dataset or {}),
    }
    suite = {
        "name": "campaign",
        "dataset": images,
        "backbone": "resnet18",
        "weights": "none",
        "strategy": "from_scratch",
        "schedule": ["constant", "cosine"],
        "augmentation": "flip_crop",
        "epochs": 2 if setup.small else 5,
        "batch_size": 16,
        "lr": 0.001,
        "precision": "bf16",
        "seed": 0,
    }
    return {**suite, **changes}


def start_run(
    setup: Setup,
    name: str,
    *options: str,
    device: str | None = None,
    dataset: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    **changes: Any,
) -> SuiteRun:
    """Start `bench run` of the campaign's suite, with these `changes`, with a cache of its own."""
    folder = setup.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    suite = folder / "suite.yaml"
    suite.write_text(yaml.safe_dump(_suite(setup, dataset, changes)))
    command = [sys.executable, "-c", MAIN, "run", str(suite), "--out", str(folder)]
    with (folder / "log.txt").open("a") as log:
        process = subprocess.Popen(
            [*command, "--device", device or setup.device, *options],
            env={**os.environ, "BENCH_CACHE": str(folder / "cache"), **(environment or {})},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    return SuiteRun(folder=folder, process=process, started=datetime.now(UTC))


def finished_run(setup: Setup, name: str, *options: str, **changes: Any) -> SuiteRun:
    """`start_run`, and wait for its end."""
    run = start_run(setup, name, *options, **changes)
    run.process.wait()
    return run


def resume(setup: Setup) -> Iterator[Finding]:
    """Killed in the middle and run again: the losses of a run left alone?"""
    calm = finished_run(setup, "calm", epochs=6)
    middle = calm.trials["started"].min() + 0.5 * (
        calm.trials["finished"].max() - calm.trials["started"].min()
    )
    hit = start_run(setup, "hit", epochs=6)
    time.sleep((middle - calm.started).total_seconds())
    survived = hit.process.poll() is not None
    _kill(hit.process)
    again = finished_run(setup, "hit", epochs=6)
    same = np.array_equal(calm.losses(), again.losses())
    yield {"ok": same and not survived, "same_bits": same, "ended_before_the_kill": survived}


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With all that it has started, as a machine that goes down."""
    if process.poll() is None:
        above = psutil.Process(process.pid)
        for each in (*above.children(recursive=True), above):
            each.kill()
    process.wait()


def oom(setup: Setup) -> Iterator[Finding]:
    """Is too little memory told with advice, and is the next trial none the worse for it?"""
    if not setup.on_gpu:
        yield {"skipped": "needs a GPU"}
        return
    for left, batches in ((3000, [512, 16]), (900, [16]), (350, [16])):
        with _ballast(left):
            run = finished_run(
                setup,
                f"left{left}",
                *("--executor", "processes", "--workers", "1"),
                dataset={"train_per_class": 300},
                batch_size=batches,
                epochs=1,
                schedule="constant",
            )
        outcomes = run.outcomes()
        errors = [error for _, status, error in outcomes if status == "failed"]
        told = all("out of memory" in error and "micro_batch" in error for error in errors)
        small_one_is_well = left < 3000 or outcomes[-1][1] == "complete"
        yield {"ok": told and small_one_is_well, "left_mib": left, "trials": outcomes}


BALLAST = """\
import sys, time, torch
free, _ = torch.cuda.mem_get_info()
held = torch.empty(free - int(sys.argv[1]) * 2**20, dtype=torch.uint8, device="cuda")
print("held", flush=True)
time.sleep(600)
"""


@contextmanager
def _ballast(left_mib: int) -> Iterator[None]:
    """Another process has all of the GPU's memory but for so much."""
    command = [sys.executable, "-c", BALLAST, str(left_mib)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), "there is less memory than that"
            yield
        finally:
            process.kill()


def cpu_on_gpu(setup: Setup) -> Iterator[Finding]:
    """Does a run on the CPU leave the GPU alone?"""
    if not setup.on_gpu:
        yield {"skipped": "needs a GPU"}
        return
    held = torch.ones(1, device="cuda")
    before = len(_asked_of_driver("compute-apps", "pid"))  # at least this one, if it tells
    run = start_run(
        setup,
        "cpu",
        *("--workers", "4"),
        device="cpu",
        dataset={"train_per_class": 200, "image_size": 64},
        seed=[0, 1, 2, 3],
        precision="fp32",
    )
    seen: Counter[int] = Counter()
    end = time.monotonic() + LOOKING_SECONDS
    while run.process.poll() is None and time.monotonic() < end:
        seen[len(_asked_of_driver("compute-apps", "pid"))] += 1
        time.sleep(0.2)
    _kill(run.process)
    del held
    yield {
        "ok": set(seen) == {before} if before else None,
        "processes_before": before,
        "times_by_processes": dict(seen),
    }


def limit(setup: Setup) -> Iterator[Finding]:
    """The memory limit of the README's suite, on a process that uses the device."""
    run = finished_run(setup, "limit", epochs=1, resources={"minutes": 30, "memory_gib": 4})
    yield {"ok": _all_complete(run), "trials": run.outcomes()}


def grid(setup: Setup) -> Iterator[Finding]:
    """Fine-tunes one by one and many at once, with and without the MPS daemon."""
    sizes: Mapping[str, Any] = {"lr": [0.001, 0.002, 0.005, 0.01], "seed": [0, 1, 2]}
    if setup.small:
        sizes = {"lr": [0.001, 0.002]}
    one = start_run(setup, "one", "--workers", "1", **sizes)
    alone = one.seconds()
    yield {"ok": _all_complete(one), "way": "one by one", "seconds": alone}
    for name, at_once, daemon in (("x4", 4, False), ("x16", 16, False), ("x16mps", 16, True)):
        if daemon and not (setup.on_gpu and shutil.which("nvidia-cuda-mps-control")):
            yield {"way": name, "skipped": "no MPS daemon"}
            continue
        with _mps_daemon() if daemon else nullcontext() as environment:
            run = start_run(
                setup, name, environment=environment, resources={"gpus": 1 / at_once}, **sizes
            )
            seconds = run.seconds()
        same = np.array_equal(one.losses(), run.losses())
        fast = not daemon or alone >= MPS_SPEEDUP * seconds
        yield {
            "ok": _all_complete(run) and same and fast,
            "way": name,
            "seconds": seconds,
            "speedup": alone / seconds,
            "same_bits": same,
            "peak_mib": float(run.trials["peak_memory_mib"].max()),
        }


@contextmanager
def _mps_daemon() -> Iterator[Mapping[str, str]]:
    """The daemon that lets kernels of several processes run at once; yields how to reach it."""
    control = "nvidia-cuda-mps-control"
    with TemporaryDirectory() as folder:
        ours = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        environment = {**os.environ, **ours}
        subprocess.run([control, "-d"], env=environment, check=True)
        try:
            yield ours
        finally:
            subprocess.run([control], input="quit\n", text=True, env=environment)


def ddp(setup: Setup) -> Iterator[Finding]:
    """Two ranks on one GPU, by Gloo, against one process; then NCCL, which takes one rank here."""
    plain: Mapping[str, Any] = {"epochs": 1, "precision": "fp32"}
    alone = finished_run(setup, "alone", **plain)
    path = os.pathsep.join([str(HOOK), os.environ.get("PYTHONPATH", "")])
    together = finished_run(
        setup,
        "together",
        *("--executor", "in-process"),
        environment={"PYTHONPATH": path} if setup.on_gpu else None,
        devices_per_trial=2,
        **plain,
    )
    outcomes = together.outcomes()
    complete = _all_complete(together)
    apart = float(np.abs(alone.losses() - together.losses()).max()) if complete else None
    yield {"ok": apart is not None and apart < 1e-3, "apart": apart, "trials": outcomes}
    if setup.on_gpu:
        yield _nccl_alone()


def _nccl_alone() -> Finding:
    """A sum over one rank, and the end of a group that is aborted."""
    with TemporaryDirectory() as folder:
        store = dist.FileStore(f"{folder}/store", 1)
        dist.init_process_group("cpu:gloo,cuda:nccl", store=store, rank=0, world_size=1)
        values = torch.ones(4, device="cuda")
        dist.all_reduce(values)
        total = values.tolist()
        dist.group.WORLD.abort()
    return {"ok": total == [1.0] * 4, "nccl_sum": total}


def ray(setup: Setup) -> Iterator[Finding]:
    """Does Ray's executor run on a share of a GPU, and on one that is named?"""
    if find_spec("ray") is None:
        yield {"skipped": "Ray is not installed"}
        return
    ways: Sequence[tuple[str, Mapping[str, Any]]] = (("cpu", {}),)
    if setup.on_gpu:
        ways = (("cuda", {"resources": {"gpus": 0.5}}), ("cuda:0", {}))
    for device, changes in ways:
        run = start_run(
            setup,
            device.replace(":", ""),
            *("--executor", "ray"),
            device=device,
            environment={"RAY_ADDRESS": "local"},
            epochs=1,
            **changes,
        )
        seconds = run.seconds()
        yield {
            "ok": _all_complete(run),
            "device": device,
            "seconds": seconds,
            "trials": run.outcomes(),
        }


def _all_complete(run: SuiteRun) -> bool:
    return bool((run.trials["status"] == "complete").all())


CHECKS: Mapping[str, Check] = {
    "facts": facts,
    "repeat": repeat,
    "stacks": stacks,
    "stacks_fixed_workspace": stacks,
    "curves": curves,
    "syncs": syncs,
    "ceiling": ceiling,
    "loop": loop,
    "auto": auto,
    "resume": resume,
    "oom": oom,
    "cpu_on_gpu": cpu_on_gpu,
    "grid": grid,
    "limit": limit,
    "ddp": ddp,
    "ray": ray,
}
