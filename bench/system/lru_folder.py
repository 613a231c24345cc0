"""A cache that stays below a size: what was not used for longest goes first."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from bench.errors import BenchError
from bench.system.cache import atomic_file, cache_lock, cache_root, is_temporary, remove_if_stale
from bench.system.cache_mirror import StoredFolder, stored

STATES, FEATURES, VIEWS = "states", "features", "views"
"""What of the cache only saves time."""
DEFAULT_LIMIT_GIB = 10.0
RETIRED_NS = 30 * 365 * 86_400 * 10**9
"""An entry that is needed no more was used that much earlier."""

WRITERS = 64
"""While no more processes than that add to a folder, at the same pace, it keeps its limit."""


def cache_limit() -> int:
    """The size in bytes that a `LruFolder` may take: `$BENCH_CACHE_GIB` (in GiB), or 10 GiB.

    Raises `BenchError` if the variable is no number of at least 0.
    """
    chosen = os.environ.get("BENCH_CACHE_GIB", "").strip()
    try:
        gibibytes = float(chosen) if chosen else DEFAULT_LIMIT_GIB
    except ValueError:
        gibibytes = math.nan
    if not 0 <= gibibytes < math.inf:
        raise BenchError(
            "BENCH_CACHE_GIB must be a number of GiB of at least 0, such as 10 or 0.5, "
            f"got {chosen!r}"
        )
    return int(gibibytes * 2**30)


def cached_folder(folder: Path) -> LruFolder:
    """A folder of the cache, kept below the cache's limit; of its store, if the cache has one.

    Raises `BenchError` for a limit or a store that cannot be.
    """
    return LruFolder(folder, cache_limit(), stored=stored(folder.name))


def make_room(place: Path) -> bool:
    """Where the disk of `place` is full: remove what of the cache only saves time.

    These are states, features and views. Returns whether any went.
    """
    root, went = cache_root(), False
    for name in (VIEWS, STATES, FEATURES):
        folder = root / name
        if folder.is_dir() and _disk(folder) == _disk(place):
            went = LruFolder(folder, 0).evict() or went
    return went


def _disk(path: Path) -> int:
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    return there.stat().st_dev


class LruFolder:
    """A folder of entries named by content keys, kept below a size; least recently used go first.

    An entry is one file; it was used when it was added or last found, and goes before all others
    once it is retired. Any number of processes may
    share the folder. An entry may vanish as soon as another one is added: open it at once, and make
    it anew if that fails. On POSIX, what is open or mapped into memory outlives its name. Nothing
    waits for the disk, so that a crash of the machine may leave an entry cut short.

    What is not in the folder is fetched from what is `stored`, if anything is.
    """

    def __init__(
        self, folder: Path, limit_bytes: int, *, stored: StoredFolder | None = None
    ) -> None:
        self.folder = folder
        self._limit_bytes = limit_bytes
        self._found_bytes = limit_bytes
        self._added_bytes = 0
        self._stored = stored

    def find(self, key: str) -> Path | None:
        """The entry's path, or None if there is none; marks the entry as used now."""
        path = self._path(key)
        if _mark_used(path):
            return path
        if self._stored is None or not self._stored.holds(key):
            return None
        with suppress(OSError), self.adding(key) as temporary:
            self._stored.fetch(key, temporary)
        return path if path.is_file() else None

    def holds(self, key: str) -> bool:
        """Whether there is such an entry here, or in the store; it does not count as used."""
        stored = self._stored
        return self._path(key).is_file() or (stored is not None and stored.holds(key))

    def lock(self, key: str) -> FileLock:
        """What a process holds that makes the entry, not yet acquired; few locks serve all keys."""
        return cache_lock(self.folder.parent / "locks" / f"{self.folder.name}-{key[:2]}.lock")

    @contextmanager
    def adding(self, key: str) -> Iterator[Path]:
        """A temporary path that becomes the entry when the block succeeds, else vanishes.

        The block must have written the file when it ends. Then the least recently used entries
        go until the folder keeps its limit; the new one stays, however large it is.
        """
        path = self._path(key)
        with atomic_file(path, durable=False) as temporary:
            yield temporary
        _mark_used(path)  # the copy of an old file would look old
        self._added_bytes += _size(path)
        # To look takes as long as there are entries. So many others may add as much meanwhile.
        if self._found_bytes + WRITERS * self._added_bytes > self._limit_bytes:
            self._evict(kept=key)

    def retire(self, key: str) -> None:
        """Let the entry go before all that are not retired, unless it is used again."""
        path = self._path(key)
        with suppress(OSError):  # there is none, or it is another user's
            used = path.stat().st_mtime_ns
            if used > RETIRED_NS:
                os.utime(path, ns=(used, used - RETIRED_NS))

    def evict(self) -> bool:
        """Remove the least recently used entries until the folder keeps its limit; whether any."""
        before = self._evict(kept=None)
        return before > self._found_bytes

    def _path(self, key: str) -> Path:
        plain = bool(key) and key == Path(key).name and not key.startswith(".")
        assert plain, f"not a key: {key!r}"
        return self.folder / key

    def _evict(self, *, kept: str | None) -> int:
        """The bytes that were there before."""
        entries = list(_entries(self.folder))
        before = sum(entry.size for entry in entries)
        self._found_bytes, self._added_bytes = before, 0
        for entry in sorted(entries, key=lambda entry: entry.used):
            if self._found_bytes <= self._limit_bytes:
                break
            if entry.path.name != kept and _remove(entry.path):
                self._found_bytes -= entry.size
        return before


@dataclass(frozen=True, kw_only=True)
class _Entry:
    path: Path
    size: int
    used: int


def _entries(folder: Path) -> Iterator[_Entry]:
    """What is complete; what killed processes left half written is removed on the way."""
    try:
        files = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):  # nothing was added yet, or it was damaged
        return
    with files:
        for file in files:
            path = Path(file.path)
            if is_temporary(file.name):
                remove_if_stale(path)
            if is_temporary(file.name) or not file.is_file():
                continue
            try:
                status = file.stat()
            except FileNotFoundError:  # another process removed it
                continue
            yield _Entry(path=path, size=status.st_size, used=status.st_mtime_ns)


def _mark_used(path: Path) -> bool:
    """Note that the file is used now; False if there is none."""
    now = time.time_ns()  # the system's own stamps are some milliseconds apart
    try:
        if path.is_dir():  # somebody put it there: it goes when the entry is added
            return False
        os.utime(path, ns=(now, now))
    except FileNotFoundError:
        return False
    except OSError:  # another user's entry, a read-only disk: it can be read all the same
        return path.is_file()
    return True


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # another process removed it
        return 0


def _remove(path: Path) -> bool:
    """Whether the file is gone: where systems forbid to remove open files, it may have to stay."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        return False
    return True
