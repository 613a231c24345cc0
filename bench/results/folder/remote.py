"""Run folders in object stores: a mirror on this disk that all else works with, pulled and pushed.

What is pulled, pushed and removed as a whole is an item: a part, or any other file. A part's
checksums go up last, and a part without them in the store is none, so that one that was uploaded
by halves is never taken for whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from bench.errors import BenchError, StoreError, bounded, path_named
from bench.results.folder.checks import MAX_FILE_BYTES, TRIAL_ID
from bench.results.folder.columns import TABLES
from bench.results.folder.lock import RunLock, StoreLock
from bench.results.folder.parts import CHECKSUMS
from bench.results.folder.tables import MAX_TABLE_BYTES
from bench.system.cache import atomic_file, cache_lock, cache_root, is_temporary, make_folder
from bench.system.object_store import Object, ObjectStore, is_url

Note = Callable[[str], None]
Push = Callable[..., None]
"""Is told of items that were written or removed; `wait=True` returns when they are in the store."""

AGAIN_SECONDS = 30.0
"""How long a store that has failed is left alone while trials go on."""

_READ = re.compile(r"[A-Za-z0-9_-]+\.(json|yaml|parquet|journal)")
"""The files that bench reads again. All others (reports, plots, checkpoints) only go up."""
_PART_FILES = (*(f"{table}.parquet" for table in TABLES), CHECKSUMS)
_PUSHED = ".pushed"
_STAGING = ".pulled"


@dataclass(frozen=True, kw_only=True)
class _Item:
    """An item in the store."""

    names: tuple[str, ...]
    size: int
    version: str


class RemoteFolder:
    """A run folder at a URL, and `folder`, its mirror below the cache folder.

    Raises `BenchError` for a URL that cannot be opened, or that holds what no run holds;
    `StoreError` where the store refuses.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        name = self.url.rpartition("/")[2]
        if name in ("", ".", ".."):
            raise BenchError(f"a run in an object store must have a name, got {url!r}")
        self._store = ObjectStore(self.url)
        digest = hashlib.sha256(self.url.encode()).hexdigest()[:16]
        self.folder = cache_root() / "runs" / digest / name

    def pull(self, *, parts: bool) -> None:
        """Bring what is new in the store into the mirror; only tables and the like, or `parts` too.

        What was removed in the store goes here too, unless it has changed here since. Does nothing
        while a run of this machine writes to the mirror, which is newer then.
        """
        make_folder(self.folder)
        lock = cache_lock(self.folder.parent / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return
        try:
            self._pull(self._items(parts=parts), parts=parts)
        finally:
            lock.release()

    def push(self) -> None:
        """Push what has changed in the mirror, unless a run does; raises `StoreError`."""
        lock = cache_lock(self.folder.parent / ".lock")
        with suppress(Timeout), lock.acquire(timeout=0):
            _Pusher(self).sync()

    @contextmanager
    def writing(self, note: Note) -> Iterator[Push]:
        """Be the one writer: what the block names is pushed beside it, and everything at its end.

        Raises `BenchError` if another run is writing, here or elsewhere, and `StoreError` if at the
        end the store cannot be reached: everything is in the mirror then.
        """
        mine = RunLock(self.folder.parent, shown=self.url)
        mine.acquire()
        try:
            lock = StoreLock(self._store, mark=self.folder.parent / "lock-mark")
            lock.acquire()
            try:
                with _Pusher(self, lock, note) as pusher:
                    yield pusher.push
            finally:
                lock.release()
        finally:
            mine.release()

    def _items(self, *, parts: bool) -> dict[str, _Item]:
        """What the store holds, by item. Whoever may write there chooses the names."""
        files: dict[str, dict[str, Object]] = {}
        for name, about in self._store.list(deep=parts).items():
            if _climbs(name):
                raise BenchError(
                    f"{self.url} holds an object whose name leads out of it, "
                    f"{bounded(repr(name), 200)}; delete it"
                )
            limit = MAX_FILE_BYTES if name.endswith((".json", ".yaml")) else MAX_TABLE_BYTES
            if about.size > limit and _is_read(_item_of(name)):
                raise BenchError(
                    f"{self.url}/{name} has {about.size:,} bytes, which no run writes; delete it"
                )
            if not name.startswith("."):
                files.setdefault(_item_of(name), {})[name] = about
        return {
            item: _Item(
                names=tuple(found),
                size=sum(about.size for about in found.values()),
                version=found[_main(item)].version,
            )
            for item, found in files.items()
            if not _is_part(item) or set(found) >= {f"{item}/{name}" for name in _PART_FILES}
        }

    def _pull(self, found: Mapping[str, _Item], *, parts: bool) -> None:
        ledger = _Ledger(self.folder)
        for item in ledger.items():
            here = _signature(self.folder, item)
            if item not in found and (parts or "/" not in item):
                if here is not None and here == ledger.signature(item):
                    _remove(self.folder / item)
                ledger.known.pop(item)
            elif here is None:
                # Somebody made room here, between runs: that says nothing of the store.
                ledger.known[item] = (ledger.version(item), None)
        wanted = []
        for item, there in found.items():
            if not _is_read(item):
                ledger.known[item] = (there.version, ledger.signature(item))
            elif ledger.version(item) != there.version or not (self.folder / item).exists():
                wanted.append(item)
        self._check_room(sum(found[item].size for item in wanted))
        staging = self.folder / _STAGING
        _remove(staging)
        try:
            paths = {
                name: staging / name
                for item in wanted
                for name in found[item].names
                if name == item or name.rpartition("/")[2] in _PART_FILES
            }
            self._store.fetch(paths)
            for item in wanted:
                _replace(staging / item, self.folder / item)
                ledger.known[item] = (found[item].version, _signature(self.folder, item))
        finally:
            _remove(staging)
            ledger.write()

    def _check_room(self, needed: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise BenchError(
                f"the run in {self.url} needs {needed / 2**30:.1f} GiB of {self.folder}, which has "
                f"{free / 2**30:.1f} GiB free; make room or point BENCH_CACHE_FOLDER elsewhere"
            )


class _Pusher:
    """Takes the mirror's items to the store: in a thread while it is entered, all at the end."""

    def __init__(
        self, remote: RemoteFolder, lock: StoreLock | None = None, note: Note = lambda _: None
    ) -> None:
        self._remote = remote
        self._folder = remote.folder
        self._store = remote._store
        self._lock = lock
        self._note = note
        self._ledger = _Ledger(remote.folder)
        self._queue: queue.SimpleQueue[tuple[tuple[str, ...], threading.Event] | None]
        self._queue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._failed = False

    def __enter__(self) -> _Pusher:
        self.sync()  # what an earlier run could not push
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._queue.put(None)
        self._thread.join()
        try:
            self.sync()
        except StoreError as error:
            if kind is None:
                raise
            self._note(str(error))

    def push(self, *items: str, wait: bool = False) -> None:
        """Have these items pushed, in this order; raises `StoreError` if the lock is lost."""
        self._check_lock()
        done = threading.Event()
        self._queue.put((items, done))
        if wait:
            done.wait()

    def sync(self) -> None:
        """Push and remove whatever differs from what is known to be in the store."""
        self._check_lock()
        here = _units_here(self._folder)
        signed = {u for u in self._ledger.items() if self._ledger.signature(u) is not None}
        gone = signed.difference(here)
        changed = [u for u in here if self._ledger.signature(u) != _signature(self._folder, u)]
        try:
            for item in gone:
                self._send(item)
            for item in filter(_is_part, changed):
                self._send(item)
            self._send_files([item for item in changed if not _is_part(item)])
        except StoreError as error:
            raise StoreError(
                f"{error}. Nothing is lost: the whole run is in {self._folder}, and the same "
                "command on this machine uploads what the store lacks"
            ) from error

    def _work(self) -> None:
        waiting: list[str] = []
        not_before = 0.0
        while (order := self._queue.get()) is not None:
            items, done = order
            waiting += items
            try:
                while waiting and time.monotonic() >= not_before and not self._lock_lost():
                    self._send(waiting[0])
                    waiting.pop(0)
            except Exception as error:  # the look at everything in the end would raise it again
                not_before = time.monotonic() + AGAIN_SECONDS
                if not self._failed:
                    self._failed = True  # said once
                    self._note(f"{error}. The run continues in {self._folder} and tries again")
            done.set()

    def _send(self, item: str) -> None:
        """Make the store's item what it is here, if it has changed."""
        signature = _signature(self._folder, item)
        known = item in self._ledger.known
        if signature == self._ledger.signature(item) and (signature is not None or not known):
            return
        if _is_part(item):
            checksums = _main(item)
            if known:  # no earlier part's checksums beside tables of this one
                self._store.remove([checksums])
            names = [f"{item}/{name}" for name in _PART_FILES if name != CHECKSUMS]
            if signature is None:
                self._store.remove(names)
            else:
                self._store.send({name: self._folder / name for name in names})
                self._store.send({checksums: self._folder / checksums})
        elif signature is not None:
            self._store.send({item: self._folder / item})
        else:
            self._store.remove([item])
        if signature is None:
            self._ledger.forget(item)
        else:
            version = self._store.version(_main(item)) if _is_read(item) else ""
            self._ledger.note(item, version, signature)

    def _send_files(self, items: list[str]) -> None:
        """Many files at once."""
        if not items:
            return
        signatures = {item: _signature(self._folder, item) for item in items}
        self._store.send({item: self._folder / item for item in items})
        versions = self._store.list(deep=False)
        for item, signature in signatures.items():
            version = versions[item].version if item in versions else ""
            self._ledger.note(item, version, signature)

    def _lock_lost(self) -> bool:
        return self._lock is not None and self._lock.lost

    def _check_lock(self) -> None:
        if self._lock_lost():
            raise StoreError(
                f"another run has taken {self._remote.url} over, because this one gave no sign of "
                f"life for minutes; what it has trained is in {self._folder}; when the other run "
                "has ended, the same command uploads what the store lacks"
            )


class _Ledger:
    """What of the mirror is known to be in the store: a line for every item, the last one counts.

    `version` is the store's, `signature` that of the file here; it is None for what is only there.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _PUSHED
        self.known: dict[str, tuple[str, str | None]] = {}
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            lines = []  # all is pulled again
        for line in lines:
            with suppress(ValueError, TypeError, RecursionError):  # damaged: that one is, too
                item, *known = json.loads(line)
                self.known.pop(str(item), None)
                if known:
                    version, signature = known
                    self.known[str(item)] = (version, signature)

    def items(self) -> list[str]:
        return list(self.known)

    def version(self, item: str) -> str:
        return self.known.get(item, ("", None))[0]

    def signature(self, item: str) -> str | None:
        return self.known.get(item, ("", None))[1]

    def note(self, item: str, version: str, signature: str | None) -> None:
        """Say so on the disk at once."""
        self.known[item] = (version, signature)
        self._append([item, version, signature])

    def forget(self, item: str) -> None:
        """The item is in the store no more."""
        self.known.pop(item, None)
        self._append([item])

    def write(self) -> None:
        """Put what is known in the place of all lines."""
        lines = [json.dumps([item, *known]) + "\n" for item, known in self.known.items()]
        with atomic_file(self._path, durable=False) as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")

    def _append(self, line: list[str | None]) -> None:
        with path_named(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


# Where a run lies ------------------------------------------------------------------------------


def run_folder(out: str | Path, name: str) -> tuple[Path, RemoteFolder | None]:
    """The folder of the run `name` below `out`; of a URL the mirror, pulled, and where it belongs.

    Raises as `RemoteFolder` does.
    """
    if not is_url(out):
        return Path(os.path.expanduser(out)) / name, None
    remote = RemoteFolder(f"{str(out).rstrip('/')}/{name}")
    remote.pull(parts=True)
    return remote.folder, remote


@contextmanager
def pushing(remote: RemoteFolder | None, note: Note) -> Iterator[Push]:
    """`RemoteFolder.writing`, and nothing at all for a run folder on a file system."""
    if remote is None:
        yield lambda *_, **__: None
    else:
        with remote.writing(note) as push:
            yield push


def push_run(place: str | Path) -> None:
    """Push what was made in the mirror of a run that has been read; raises `StoreError`."""
    if is_url(place):
        RemoteFolder(str(place)).push()


# Names ------------------------------------------------------------------------------------------


def part_item(trial: str) -> str:
    """The item that is the part of `trial`."""
    return f"parts/{trial}"


def _item_of(name: str) -> str:
    folder = name.rpartition("/")[0]
    return folder if _is_part(folder) else name


def _is_part(item: str) -> bool:
    folder, _, trial = item.partition("/")
    return folder == "parts" and TRIAL_ID.fullmatch(trial) is not None


def _is_read(item: str) -> bool:
    return _is_part(item) or _READ.fullmatch(item) is not None


def _main(item: str) -> str:
    """The object whose version is the item's."""
    return f"{item}/{CHECKSUMS}" if _is_part(item) else item


def _climbs(name: str) -> bool:
    hidden = re.search(r"[\x00-\x1f\\]", name) is not None
    return hidden or any(step in ("", ".", "..") for step in name.split("/"))


def _units_here(folder: Path) -> list[str]:
    """What there is to push, the run's tables and reports last."""
    found = []
    for place, folders, files in os.walk(folder):
        inside = Path(place).relative_to(folder).as_posix()
        folders[:] = [name for name in folders if not name.startswith(".")]
        if _is_part(inside):
            found += [inside] if CHECKSUMS in files else []
            continue
        prefix = "" if inside == "." else f"{inside}/"
        found += [prefix + n for n in files if not n.startswith(".") and not is_temporary(n)]
    return sorted(found, key=lambda item: ("/" not in item, item))


def _signature(folder: Path, item: str) -> str | None:
    """What changes whenever the item does, None if it is not there."""
    try:
        status = (folder / _main(item)).stat()
    except OSError:
        return None
    return f"{status.st_size} {status.st_mtime_ns}"


def _replace(new: Path, old: Path) -> None:
    _remove(old)
    old.parent.mkdir(parents=True, exist_ok=True)
    new.rename(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
