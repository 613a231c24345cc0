"""Which executor runs some tasks, and how many of them at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from bench.errors import BenchError
from bench.execution.executors.base import Executor
from bench.execution.executors.in_process import InProcessExecutor
from bench.execution.executors.process_pool import ProcessPoolExecutor
from bench.execution.jobs import Job, Task
from bench.suite import Resources
from bench.system.machine import check_devices, equal_gpus, usable_cores

logger = logging.getLogger(__name__)

EXECUTORS = ("auto", "in-process", "processes", "ray")


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where tasks run: `name` is one of `EXECUTORS`; None leaves the number of `workers` open.

    `auto` takes processes of this machine on GPUs, and where more than one task can run at once.
    `address` is
    that of a Ray cluster; without it `ray` takes the one that runs here, or starts one.

    Raises `BenchError` for what cannot be.
    """

    name: str = "auto"
    workers: int | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise BenchError(f"--workers must be at least 1, got {self.workers}")
        if self.name not in EXECUTORS:
            names = f"{', '.join(EXECUTORS[:-1])} or {EXECUTORS[-1]}"
            raise BenchError(f"--executor must be {names}, got {self.name!r}")
        if self.address is not None and self.name != "ray":
            raise BenchError(f"--address needs --executor ray, got --executor {self.name}")

    def executor(self, tasks: Sequence[Task], device: str, resources: Resources) -> Executor:
        """The executor of these tasks; Ray's connects to its cluster.

        Where `resources` have limits, and on a GPU, `auto` takes a process for a single task too:
        only another process can be held to them, or be renewed. Raises `BenchError` for a trial on
        more devices than there are.
        """
        jobs = [job for task in tasks for job in task.jobs]
        threads = max((job.trial.settings.cpu_threads for job in jobs), default=1)
        devices = max((task.devices for task in tasks), default=1)
        cpus = devices * (resources.cpus or threads)
        at_once = max(1, _at_once(tasks))
        if self.name == "ray":
            from bench.execution.executors.ray_cluster import RayExecutor

            workers = min(self.workers or at_once, at_once)
            return RayExecutor(
                address=self.address,
                workers=workers,
                cpus=cpus,
                device=device,
                devices=devices,
                resources=resources,
            )
        check_devices(device, devices)
        gpus = _places(equal_gpus(device), devices)
        cores = usable_cores() if device == "cpu" else 1
        shares = resources.trials_per_gpu if devices == 1 else 1
        # With an index it is one GPU, or as many as a trial takes from there on: no choice of them.
        room = cores // cpus if device == "cpu" else max(1, len(gpus)) * shares
        workers = self.workers or max(1, min(room, at_once))
        parallel_batches = max(1, cores // (workers * devices))
        # After a fault of a GPU only another process can use it again.
        renewed = device.startswith("cuda") or resources.limited
        alone = self.name == "auto" and workers == 1 and not renewed
        if self.name == "in-process" or alone:
            logger.info("%d tasks run in this process", len(tasks))
            return InProcessExecutor(parallel_batches=parallel_batches, resources=resources)
        logger.info("%d tasks run in %d processes on %s", len(tasks), workers, device)
        return ProcessPoolExecutor(
            workers, parallel_batches=parallel_batches, resources=resources, gpus=gpus
        )


def _places(gpus: Sequence[str], devices: int) -> list[str]:
    """What each process sees: as many GPUs as a trial takes."""
    ends = range(devices, len(gpus) + 1, devices)
    return [",".join(gpus[end - devices : end]) for end in ends]


def _at_once(tasks: Sequence[Task]) -> int:
    """How many tasks can run at once at most: those that nothing else waits for."""
    needed = {task.needs for task in tasks}
    return sum(
        not any(key in needed for job in task.jobs for key in _saved(task, job)) for task in tasks
    )


def _saved(task: Task, job: Job) -> tuple[str, ...]:
    if task.kind == "alone":
        return ()
    at = job.head_epochs if task.kind == "heads" else task.end
    return (job.keys[at],) if at < job.end else ()
