"""The cache's copy in an object store (`BENCH_CACHE=s3://…`): what one machine made serves others.

It only saves time. A store that fails costs what it would have saved, and no trial; it is said
once. What comes from it is verified as whatever lies in the cache is, by whoever opens it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from bench.errors import StoreError
from bench.system.cache import atomic_file, cache_root, cache_url
from bench.system.object_store import ObjectStore

LISTING_SECONDS = 60.0
"""How old what is known of the store may be: machines at work see each other's entries so soon."""
LOOK_SECONDS = 2.0
WATCHED = ("states", "features", "precision")
"""Folders of which everything that is made or used during a run goes to the store."""
LAST = "checksums.json"
"""A folder that has it is whole."""


class StoredFolder:
    """One folder of the cache as it is in the store; nothing that is asked of it raises."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._names: frozenset[str] = frozenset()
        self._until = 0.0

    def holds(self, name: str) -> bool:
        """Whether there was such an entry within the last minute."""
        if time.monotonic() >= self._until:
            self._until = time.monotonic() + LISTING_SECONDS
            try:
                self._names = frozenset(self._store.list())
            except (StoreError, OSError):
                self._give_up()
        return name in self._names

    def fetch(self, name: str, path: Path) -> bool:
        """Copy the entry `name` to `path`; False if it cannot be had."""
        return self.holds(name) and self._fetched({name: path})

    def fetch_folder(self, name: str, path: Path, files: Iterable[str]) -> bool:
        """Copy these files of a folder that was stored whole; False if they cannot be had."""
        whole = self.holds(f"{name}/{LAST}")
        return whole and self._fetched({f"{name}/{file}": path / file for file in files})

    def _fetched(self, paths: dict[str, Path]) -> bool:
        try:
            self._store.fetch(paths)
        except (StoreError, OSError):
            self._give_up()
            return False
        return True

    def _give_up(self) -> None:
        """Each try may take long; this process goes without."""
        self._names, self._until = frozenset(), float("inf")


def stored(folder: str) -> StoredFolder | None:
    """The `folder` of the cache in its store, None where there is no store.

    Raises `BenchError` for a URL that cannot be opened.
    """
    url = cache_url()
    return None if url is None else StoredFolder(ObjectStore(f"{url}/{folder}"))


def fetch_file(path: Path) -> None:
    """Bring a file of the cache here from the store, if it is there and not here."""
    if cache_url() is None or path.exists():
        return
    folder = stored(path.parent.relative_to(cache_root()).as_posix())
    if folder is not None and folder.holds(path.name):
        with suppress(OSError), atomic_file(path) as temporary:
            folder.fetch(path.name, temporary)


class CacheUploads:
    """While it is entered, takes to the store what is added to the local cache, or used of it.

    It looks at the folders, so that entries of all processes are found and none of them waits.
    Raises `BenchError` for a URL that cannot be opened; of all else `note` is told, once.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        url = cache_url()
        self._store = None if url is None else ObjectStore(url)
        self._root = cache_root()
        self._offered: set[Path] = set()
        self._there: set[str] | None = None
        self._since = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> CacheUploads:
        if self._store is not None:
            self._since = time.time() - LOOK_SECONDS
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def offer(self, paths: Iterable[Path]) -> None:
        """Have these files and folders of the cache in the store, too, once they are there."""
        self._offered |= {path for path in paths if path.is_relative_to(self._root)}

    def _work(self) -> None:
        assert self._store is not None
        pause, said = 0.0, False
        ended = False
        while not ended:
            ended = self._ended.wait(pause)
            try:
                self._look(self._store)
                pause = LOOK_SECONDS
            except (StoreError, OSError) as error:
                pause = LISTING_SECONDS
                if not said:
                    self._note(
                        f"{error}. The run continues without it, which costs time but no trial"
                    )
                    said = True

    def _look(self, store: ObjectStore) -> None:
        """Send what is not there yet, and what makes a folder whole after its other files."""
        if self._there is None:
            listed = [store.list(folder) for folder in (*WATCHED, "weights", "images")]
            self._there = {name for names in listed for name in names}
        for path in sorted(self._found(), key=lambda path: path.name == LAST):
            name = path.relative_to(self._root).as_posix()
            if name in self._there:
                continue
            try:
                store.send({name: path})
            except StoreError:
                if path.exists():
                    raise
                continue  # it was evicted
            self._there.add(name)

    def _found(self) -> Iterator[Path]:
        """What a run has made or used."""
        for folder in WATCHED:
            for file in _files(self._root / folder):
                with suppress(OSError):  # it was evicted
                    # An entry that is retired looks old by the time of its use alone.
                    status = file.stat()
                    if max(status.st_mtime, status.st_ctime) >= self._since:
                        yield Path(file.path)
        for path in list(self._offered):
            if path.is_file():
                yield path
            yield from (Path(file.path) for file in _files(path))


def _files(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            entries = [f for f in found if f.is_file() and not f.name.startswith(".")]
    except OSError:  # nothing is there yet, or it is a file
        return []
    return [entry for entry in entries if not entry.name.endswith(".lock")]
