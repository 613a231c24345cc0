"""What runs on a node of a Ray cluster: an engine, and what it needs fetched from the driver.

A node whose cache folder is the driver's (one machine, or a shared disk) finds images, weights and
states there. Any other gets them through Ray's object store, checks them, and keeps them in a
cache of its own; states and checkpoints that it makes go back with the event that tells of them.
"""

from __future__ import annotations

import hashlib
import platform
import queue
import re
import threading
import traceback
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bench.errors import PARTIAL, BenchError
from bench.execution.jobs import Event, Job, JobResult, StateSaved, Task
from bench.system.cache import (
    atomic_file,
    atomic_folder,
    cache_lock,
    cache_root,
    make_folder,
)
from bench.system.lru_folder import LruFolder
from bench.system.machine import arithmetic, keep_large_buffers, limit_memory
from bench.training.state import state_cache

if TYPE_CHECKING:
    from ray import ObjectRef

    Ref = ObjectRef[bytes]

MARK_FILE = "cache-id"


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """A file or folder on its way: `(relative path, its pieces)` of every file.

    The relative path of a single file is empty. `digest` is the SHA-256 of paths and contents.
    """

    name: str
    digest: str
    files: tuple[tuple[str, tuple[Ref, ...]], ...]


@dataclass(frozen=True, kw_only=True)
class Order:
    """A task; to a `remote` cache with what may be missing there: images and weights by path,
    states by epoch key."""

    task: Task
    remote: bool = False
    parcels: Mapping[Path, Parcel] = field(default_factory=dict)
    states: Mapping[str, Ref] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Report:
    """An event, with the file that it tells of where the driver cannot read it: else None.

    Without an event the task is done, and the actor with it if it `ends`.
    """

    event: Event | None
    content: bytes | None = None
    ends: bool = False


class RayWorker:
    """An actor with one engine, which performs one task at a time."""

    def __init__(self, memory_gib: float | None = None, device: str = "cpu") -> None:
        keep_large_buffers()
        if memory_gib is not None:
            limit_memory(memory_gib, device)
        self._reports: queue.Queue[Report] = queue.Queue()
        self._engine: Any = None

    def facts(self, device: str) -> dict[str, Any]:
        """What decides whether this node may take part, and what it shares with the driver."""
        from bench.execution.engine import Engine

        self._engine = Engine()
        return {
            "host": platform.node(),
            "cache": cache_mark(),
            "arithmetic": arithmetic(device),
        }

    def start(self, order: Order) -> None:
        """Begin with a task; `reports` tells how it goes."""
        threading.Thread(target=self._perform, args=(order,), daemon=True).start()

    def reports(self) -> list[Report]:
        """What has happened since the last call; waits until there is something."""
        found = [self._reports.get()]
        with suppress(queue.Empty):
            while True:
                found.append(self._reports.get_nowait())
        return found

    def _perform(self, order: Order) -> None:
        started = datetime.now(UTC)
        try:
            if order.remote:
                self._perform_remotely(order)
            else:
                self._engine.perform(order.task, lambda e: self._reports.put(Report(event=e)))
        except Exception as error:  # the engine tells of its own; this is about fetching
            for job in order.task.jobs:
                result = JobResult(
                    trial_id=job.trial_id,
                    started=started,
                    finished=datetime.now(UTC),
                    error=f"node {platform.node()} could not fetch what it needs: {error}",
                    log=traceback.format_exc(),
                )
                self._reports.put(Report(event=result))
        # What ran out of memory leaves it in pieces, and a GPU that failed is lost to this process:
        # the next task gets a fresh one.
        self._reports.put(Report(event=None, ends=self._engine.spent))

    def _perform_remotely(self, order: Order) -> None:
        root = cache_root() / "ray"
        make_folder(root)
        states = state_cache()
        with TemporaryDirectory(dir=root, prefix=f".task{PARTIAL}") as folder:
            scratch = Path(folder)
            task = _unpacked(order, scratch, states)
            self._engine.perform(
                task, lambda event: self._reports.put(_packed(event, scratch, states))
            )


def cache_mark() -> str:
    """A name that only those share whose cache is the same folder."""
    path = cache_root() / MARK_FILE
    with cache_lock(path.with_name(f".{MARK_FILE}.lock")):
        mark = _mark_in(path)
        if mark is None:
            mark = uuid.uuid4().hex
            with atomic_file(path) as temporary:
                temporary.write_text(mark, encoding="ascii")
        return mark


def _mark_in(path: Path) -> str | None:
    """The mark; None where there is none, or one that is damaged: another cache might have it."""
    try:
        mark = path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return None
    return mark if re.fullmatch("[0-9a-f]{32}", mark) else None


# What comes ------------------------------------------------------------------------------------


def _unpacked(order: Order, scratch: Path, states: LruFolder) -> Task:
    """The task with paths of this node."""
    import ray

    paths = {path: _fetched(parcel) for path, parcel in order.parcels.items()}
    for key, content in order.states.items():
        if states.find(key) is None:
            with states.adding(key) as temporary:
                temporary.write_bytes(ray.get(content))

    def here(job: Job) -> Job:
        weights = job.weights
        if weights.path is not None:
            weights = replace(weights, path=paths.get(weights.path, weights.path))
        checkpoint = job.checkpoint and scratch / f"{job.trial_id}.safetensors"
        data = paths.get(job.data, job.data)
        return replace(job, data=data, weights=weights, checkpoint=checkpoint)

    return replace(order.task, jobs=tuple(here(job) for job in order.task.jobs))


def _fetched(parcel: Parcel) -> Path:
    """Where the parcel's content lies on this node; fetched once, whoever asks."""
    root = cache_root() / "ray"
    final = root / parcel.digest
    with cache_lock(root / f".{parcel.digest}.lock"):
        if not _is_whole(final / parcel.name, parcel):
            with atomic_folder(
                final, keep=lambda there: _is_whole(there / parcel.name, parcel)
            ) as folder:
                digest = hashlib.sha256()
                for relative, pieces in parcel.files:
                    path = folder / parcel.name / relative
                    path.parent.mkdir(parents=True, exist_ok=True)
                    digest.update(relative.encode())
                    with path.open("wb") as file:
                        for piece in _contents(pieces):
                            digest.update(piece)
                            file.write(piece)
                if digest.hexdigest() != parcel.digest:
                    raise BenchError(f"{parcel.name} was damaged on its way to this node")
    return final / parcel.name


def _is_whole(place: Path, parcel: Parcel) -> bool:
    """Whether what lies at `place` is still what was sent."""
    names = tuple(relative for relative, _ in parcel.files)
    try:
        status = [(place / name).stat() for name in names]
        stamps = tuple((each.st_ino, each.st_mtime_ns, each.st_size) for each in status)
        return _digest(place, names, stamps) == parcel.digest
    except OSError:
        return False


@lru_cache(maxsize=64)
def _digest(place: Path, names: tuple[str, ...], _: tuple[tuple[int, ...], ...]) -> str:
    """Computed once in a process while the files stay as they are: every task asks."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode())
        with (place / name).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _contents(pieces: tuple[Ref, ...]) -> Iterator[bytes]:
    import ray

    for piece in pieces:
        yield ray.get(piece)


# What goes -------------------------------------------------------------------------------------


def _packed(event: Event, scratch: Path, states: LruFolder) -> Report:
    """The event with the state or checkpoint that it tells of."""
    content: bytes | None = None
    path: Path | None = None
    if isinstance(event, StateSaved):
        path = states.find(event.key)
    elif isinstance(event, JobResult):
        path = scratch / f"{event.trial_id}.safetensors"
    if path is not None:
        with suppress(FileNotFoundError):
            content = path.read_bytes()
    return Report(event=event, content=content)
