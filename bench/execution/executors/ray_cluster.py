"""Ray: tasks on the nodes of a cluster. The driver alone writes, and keeps every state.

Because each state comes back to the driver, a node that dies costs what it has done since its last
state: the task goes to another node, which begins there.
"""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bench.errors import BenchError, MissingExtraError, without_secrets_of
from bench.execution.executors.agenda import Agenda
from bench.execution.executors.base import OnEpoch
from bench.execution.executors.history import History
from bench.execution.executors.ray_worker import Order, Parcel, RayWorker, Report, cache_mark
from bench.execution.jobs import EpochDone, Job, JobResult, StateSaved, Task
from bench.models.checkpoints import keep_start
from bench.suite import Resources
from bench.system.cache import atomic_file
from bench.system.machine import alike_gpus, arithmetic
from bench.training.failures import place, took_too_long
from bench.training.state import state_cache

if TYPE_CHECKING:
    from ray import ObjectRef

    Ref = ObjectRef[Any]

CONNECT_SECONDS = 10.0
MOMENT_SECONDS = 0.01
"""A worker that tells a result says that it is free right after it."""

LOOK_SECONDS = 2.0
"""How soon it shows that nodes have come or gone."""

PIECE_BYTES = 2**26
LOSSES = 3
"""A task whose workers have died so often is the likely cause: its trials are given up."""


@dataclass(eq=False, kw_only=True)
class _Worker:
    """An actor; `open` are the trials of its task that it has not done with."""

    actor: Any
    host: str
    remote: bool
    near: str | None = None
    task: Task | None = None
    open: dict[str, Job] = field(default_factory=dict)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    silent_since: float = 0.0


class RayExecutor:
    """Actors on a Ray cluster, each with one task at a time, on `cpus` cores or a share of a GPU,
    or on as many whole GPUs as a trial has `devices`.

    `workers` is how many at most; the cluster's capacity may allow fewer. A `device` with an index
    gets a cluster of that GPU alone, started here: which GPU a trial has is otherwise Ray's choice.

    Raises `BenchError` where there is no cluster at `address`, a node would compute other numbers
    than this machine, or a cluster that runs already cannot be held to a GPU.
    """

    def __init__(
        self,
        *,
        address: str | None,
        workers: int,
        cpus: int = 1,
        device: str,
        devices: int = 1,
        resources: Resources | None = None,
    ) -> None:
        self._here = device
        self._device, _, index = device.partition(":")
        self._ray = _connected(address, alike_gpus(device)[:devices] if index else ())
        self._resources = resources or Resources()
        share = (self._resources.gpus or 1.0) if devices == 1 else float(devices)
        self._needs = {"GPU": share} if self._device == "cuda" else {"CPU": float(cpus)}
        self._most = workers
        self._cache = cache_mark()
        self._states = state_cache()
        self._parcels: dict[Path, Parcel] = {}
        self._losses: Counter[str] = Counter()
        self._stillborn = 0
        self._idle: list[_Worker] = []
        self._hiring: dict[Ref, Any] = {}

    @property
    def workers(self) -> int:
        """How many tasks run at once."""
        return min(self._most, self._capacity())

    def run(self, tasks: Sequence[Task], on_epoch: OnEpoch) -> Iterator[JobResult]:
        """Run all `tasks`, the next one on whichever worker is free."""
        agenda, history = Agenda(tasks), History()
        busy: dict[Ref, _Worker] = {}
        results: deque[JobResult] = deque()
        try:
            while True:
                self._hire(busy=len(busy))
                while self._idle and (task := agenda.take(near=self._idle[-1].near)):
                    worker = self._idle.pop()
                    busy[self._begin(worker, task)] = worker
                if not busy and (self._idle or not self._hiring):
                    yield from results
                    self._check_nothing_left(agenda)
                    return
                # Whoever takes a result may take long: until then, others get their next tasks.
                seconds = MOMENT_SECONDS if results else LOOK_SECONDS
                ready, _ = self._ray.wait([*busy, *self._hiring], timeout=seconds)
                for ref in ready:
                    if ref in self._hiring:
                        self._idle += self._hired(self._hiring.pop(ref), ref)
                    else:
                        results += self._heard(busy, ref, agenda, history, on_epoch)
                results += self._expired(busy, agenda, history)
                if results and (not ready or len(results) > len(busy)):
                    yield results.popleft()
        except (KeyboardInterrupt, BenchError):
            yield from results  # what is finished is handed out first
            raise
        finally:
            for worker in busy.values():
                self._ray.kill(worker.actor)

    def close(self) -> None:
        """End the actors that wait for further tasks."""
        for actor in (*(worker.actor for worker in self._idle), *self._hiring.values()):
            self._ray.kill(actor)
        self._idle.clear()
        self._hiring.clear()

    def _begin(self, worker: _Worker, task: Task) -> Ref:
        worker.task = task
        worker.open = {job.trial_id: job for job in task.jobs}
        worker.started = datetime.now(UTC)
        worker.silent_since = time.monotonic()
        worker.actor.start.remote(self._order(worker, task))
        reports: Ref = worker.actor.reports.remote()
        return reports

    # Workers ----------------------------------------------------------------------------------

    def _capacity(self) -> int:
        """How many workers the living nodes have room for."""
        ((kind, share),) = self._needs.items()
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return sum(int(resources.get(kind, 0) / share) for resources in nodes)

    def _hire(self, *, busy: int) -> None:
        """Ask for as many workers as there is room for; on nodes that are dead none will come."""
        wanted = self.workers - busy - len(self._idle)
        while len(self._hiring) > max(0, wanted):
            self._ray.kill(self._hiring.popitem()[1])
        passive = {"env_vars": {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}}
        while len(self._hiring) < wanted:
            actor = (
                self._ray.remote(RayWorker)
                .options(
                    num_cpus=self._needs.get("CPU", 0),
                    num_gpus=self._needs.get("GPU", 0),
                    scheduling_strategy="SPREAD",
                    runtime_env=passive,
                )
                .remote(self._resources.memory_gib, self._device)
            )
            self._hiring[actor.facts.remote(self._device)] = actor

    def _hired(self, actor: Any, facts_ref: Ref) -> list[_Worker]:
        """The worker, if it lives; raises `BenchError` where one after another does not."""
        try:
            facts = self._ray.get(facts_ref)
        except self._ray.exceptions.RayError as error:
            self._stillborn += 1
            if self._stillborn >= LOSSES:
                cause = str(error).strip().splitlines()[-1]
                raise BenchError(
                    "workers on the nodes of the Ray cluster stop before they start a task; "
                    f"install this version of bench on each node, with the extra ray ({cause})"
                ) from None
            return []
        self._stillborn = 0
        self._check(facts)
        remote = facts["cache"] != self._cache
        return [_Worker(actor=actor, host=facts["host"], remote=remote)]

    def _check_nothing_left(self, agenda: Agenda) -> None:
        if agenda.take() is not None:
            ((kind, share),) = self._needs.items()
            raise BenchError(
                f"no node of the Ray cluster has room for a trial ({share:g} {kind}); run the "
                "same command again when a node has room: it continues from what is finished"
            )

    def _check(self, facts: dict[str, Any]) -> None:
        ours, theirs = arithmetic(self._here), facts["arithmetic"]
        different = [
            f"{name} {theirs.get(name)} (here {ours.get(name)})"
            for name in {**ours, **theirs}
            if ours.get(name) != theirs.get(name)
        ]
        if different:
            raise BenchError(
                f"node {facts['host']} of the Ray cluster would compute other numbers than this "
                f"machine: {', '.join(different)}; use nodes with the same processor and versions"
            )

    # Ends -------------------------------------------------------------------------------------

    def _lost(self, worker: _Worker, agenda: Agenda, history: History) -> Iterator[JobResult]:
        """The worker is dead: another one takes over, but not what several have died with."""
        assert worker.task is not None
        self._ray.kill(worker.actor)  # it may live, out of reach
        self._losses.update(worker.open.keys())
        for job in list(worker.open.values()):
            if self._losses[job.trial_id] >= LOSSES:
                error = (
                    f"{LOSSES} workers died while they trained it, the last one on {worker.host}"
                )
                yield self._failed(worker, job, error, agenda, history)
        agenda.put_back(replace(worker.task, jobs=tuple(worker.open.values())))

    def _expired(
        self, busy: dict[Ref, _Worker], agenda: Agenda, history: History
    ) -> Iterator[JobResult]:
        """Stop the worker that has been silent for longest, if that is longer than allowed."""
        seconds, minutes = self._resources.seconds, self._resources.minutes
        if seconds is None or minutes is None or not busy:
            return
        ref, worker = min(busy.items(), key=lambda item: item[1].silent_since)
        if time.monotonic() - worker.silent_since <= seconds:
            return
        del busy[ref]
        self._ray.kill(worker.actor)
        for other in busy.values():  # it may have held what the others were waiting for
            other.silent_since = time.monotonic()
        for job in list(worker.open.values()):
            records = history.records(job.trial_id)
            where = place(len(records), job.end) if records else ""
            yield self._failed(worker, job, took_too_long(minutes, where), agenda, history)

    def _failed(
        self, worker: _Worker, job: Job, error: str, agenda: Agenda, history: History
    ) -> JobResult:
        del worker.open[job.trial_id]
        result = JobResult(
            trial_id=job.trial_id,
            started=worker.started,
            finished=datetime.now(UTC),
            records=history.records(job.trial_id),
            error=error,
        )
        agenda.note(result)
        return result

    # Messages ---------------------------------------------------------------------------------

    def _heard(
        self,
        busy: dict[Ref, _Worker],
        ref: Ref,
        agenda: Agenda,
        history: History,
        on_epoch: OnEpoch,
    ) -> Iterator[JobResult]:
        """What a worker has to say; it is then busy again, idle, or dead."""
        worker = busy.pop(ref)
        try:
            reports: list[Report] = self._ray.get(ref)
        except self._ray.exceptions.RayError:
            yield from self._lost(worker, agenda, history)
            return
        worker.silent_since = time.monotonic()
        for report in reports:
            event = report.event
            if isinstance(event, EpochDone):
                history.note(event)
                on_epoch(event)
            elif isinstance(event, StateSaved):
                self._keep_state(event.key, report.content)
                agenda.note(event)
                worker.near = event.key
                for trial in event.trials:
                    del worker.open[trial]
            elif isinstance(event, JobResult):
                job = worker.open.pop(event.trial_id)
                if report.content is not None and job.checkpoint is not None:
                    if job.weights.path is not None:
                        keep_start(job.weights.path, job.checkpoint.parent)
                    with atomic_file(job.checkpoint) as temporary:
                        temporary.write_bytes(report.content)
                agenda.note(event)
                yield event
        if reports[-1].event is not None:
            busy[worker.actor.reports.remote()] = worker
        elif reports[-1].ends:
            self._ray.kill(worker.actor)
        else:
            self._idle.append(worker)

    def _keep_state(self, key: str, content: bytes | None) -> None:
        if content is not None and self._states.find(key) is None:
            with self._states.adding(key) as temporary:
                temporary.write_bytes(content)

    def _order(self, worker: _Worker, task: Task) -> Order:
        """The task; for a node with a cache of its own, with all that it is made from."""
        # Ray shows each worker its own GPUs only, numbered from 0.
        task = replace(task, jobs=tuple(replace(job, device=self._device) for job in task.jobs))
        if not worker.remote:
            return Order(task=task)
        paths = {job.data for job in task.jobs}
        paths |= {path for job in task.jobs if (path := job.weights.path) is not None}
        return Order(
            task=task,
            remote=True,
            parcels={path: self._parcel(path) for path in paths if path.exists()},
            states=self._known_states(task),
        )

    def _known_states(self, task: Task) -> dict[str, Any]:
        """The deepest state of the task's path that is here, and the one that it starts from."""
        if task.kind == "alone":
            return {}
        first = task.jobs[0]
        path = reversed(first.keys[1 : task.end + 1])
        wanted = [key for key in path if self._states.find(key) is not None][:1]
        wanted += [task.needs] if task.needs is not None else []
        states = {}
        for key in dict.fromkeys(wanted):
            found = self._states.find(key)
            if found is not None:
                states[key] = self._ray.put(found.read_bytes())
        return states

    def _parcel(self, path: Path) -> Parcel:
        if path not in self._parcels:
            self._parcels[path] = self._packed(path)
        return self._parcels[path]

    def _packed(self, path: Path) -> Parcel:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        digest, packed = hashlib.sha256(), []
        for file in files:
            relative = "" if file == path else file.relative_to(path).as_posix()
            digest.update(relative.encode())
            pieces = []
            with file.open("rb") as opened:
                while piece := opened.read(PIECE_BYTES):
                    digest.update(piece)
                    pieces.append(self._ray.put(piece))
            packed.append((relative, tuple(pieces)))
        return Parcel(name=path.name, digest=digest.hexdigest(), files=tuple(packed))


# Connecting -----------------------------------------------------------------------------------


def _connected(address: str | None, gpus: Sequence[str] = ()) -> ModuleType:
    """Ray, connected: to `address`, to `$RAY_ADDRESS`, or to a cluster of this machine alone.

    With `gpus`, named as `CUDA_VISIBLE_DEVICES` has them, to one of this machine that has no other.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise MissingExtraError(needed_for="--executor ray", package="ray", extra="ray") from None
    name = f"bench on GPU {','.join(gpus)}" if gpus else None
    running = ray.is_initialized()
    ours = running and ray.get_runtime_context().namespace == name
    if gpus and not ours and (running or address or os.environ.get("RAY_ADDRESS")):
        raise BenchError(
            "--device cuda:N needs a Ray cluster that this command starts; in a running cluster "
            "Ray chooses the GPU of a trial: give --device cuda"
        )
    if running:
        return ray
    try:
        _check_reachable(address)
        with _own_signals(), _visible(gpus):
            ray.init(
                address="local" if gpus else address,
                namespace=name,
                include_dashboard=False,  # of a cluster that is started here
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (OSError, ValueError, RuntimeError) as error:
        where = "here" if address is None else f"at --address {address}"
        said = without_secrets_of(address or "", str(error))
        raise BenchError(f"no Ray cluster {where}: {said}") from None
    return ray


def _check_reachable(address: str | None) -> None:
    """Ray itself would try for minutes, and end the process; raises `OSError` or `ValueError`."""
    if address is None or address == "auto":
        return
    place = urlsplit(address if "://" in address else f"//{address}")
    if place.hostname is None or place.port is None:
        raise ValueError("it must be HOST:PORT")
    socket.create_connection((place.hostname, place.port), CONNECT_SECONDS).close()


@contextmanager
def _visible(gpus: Sequence[str]) -> Iterator[None]:
    """What is started within the block sees these GPUs alone, where there are any."""
    name = "CUDA_VISIBLE_DEVICES"
    before = os.environ.get(name)
    if gpus:
        os.environ[name] = ",".join(gpus)
    try:
        yield
    finally:
        if gpus and before is None:
            del os.environ[name]
        elif before is not None:
            os.environ[name] = before


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray would end the process at once on SIGTERM; ours goes on from what is finished."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
