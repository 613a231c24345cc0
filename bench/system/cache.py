"""Where downloads and prepared data are kept, and how anything is written there.

Everything appears whole or not at all: it is written under a temporary name beside its final place
and renamed when it is complete, so that a crash or a second process never shows half of it.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from filelock import FileLock

from bench.errors import PARTIAL, path_named
from bench.system.object_store import is_url

STALE_SECONDS = 24 * 3600.0
"""A temporary file or folder that is older was left behind by a killed process."""

_TEMPORARY = re.compile(rf"\..*{re.escape(PARTIAL)}[0-9a-z_]{{8,32}}", re.DOTALL)
"""Nobody else's files are called so: what is swept may be any folder that a user writes to."""


def cache_root() -> Path:
    """The cache folder, created if need be: `$BENCH_CACHE`, or the platform's user cache folder.

    Where `$BENCH_CACHE` is the URL of an object store, the folder in front of it:
    `$BENCH_CACHE_FOLDER`, or the platform's.
    """
    import platformdirs

    chosen = os.environ.get("BENCH_CACHE" if cache_url() is None else "BENCH_CACHE_FOLDER")
    root = Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("bench")
    root = root.absolute()
    root.mkdir(parents=True, exist_ok=True)
    return root


def cache_url() -> str | None:
    """The object store behind the cache folder, None where there is none."""
    chosen = os.environ.get("BENCH_CACHE", "")
    return chosen.rstrip("/") if is_url(chosen) else None


def folder_label(name: str) -> str:
    """What a folder's name can have of `name`; empty if that is nothing."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[:60].strip(".-")


_HERE, _EXCHANGE = -100, 2
"""AT_FDCWD and RENAME_EXCHANGE of Linux."""


@contextmanager
def atomic_folder(final: Path, *, keep: Callable[[Path], bool] = Path.is_dir) -> Iterator[Path]:
    """A temporary folder that becomes `final` when the block succeeds and vanishes when it fails.

    If `final` exists by then and `keep(final)` holds (another process was faster), the temporary
    folder is dropped; an existing `final` that is not worth keeping is replaced.
    """
    with path_named(final):
        temporary = _temporary_sibling(final)
        temporary.mkdir()
        try:
            yield temporary
            _publish_folder(temporary, final, keep)
        finally:
            _remove(temporary)


@contextmanager
def atomic_file(final: Path, *, durable: bool = True, ours: bool = True) -> Iterator[Path]:
    """A temporary path that replaces `final` when the block succeeds and vanishes when it fails.

    The block must have written the file when it ends. What can be made again at any time need not
    be `durable`: a crash of the machine may then leave a damaged file, and nothing waits. A folder
    in the place of a file of `ours`, whose name nobody else has chosen, is set aside.
    """
    with path_named(final):
        temporary = _temporary_sibling(final)
        try:
            yield temporary
            if durable:
                flush_to_disk(temporary)
            if ours and final.is_dir():
                set_aside(final)
            temporary.replace(final)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Return when the file's content is on the disk, so that a rename cannot overtake it."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _publish_folder(temporary: Path, final: Path, keep: Callable[[Path], bool]) -> None:
    if final.exists():
        with suppress(FileNotFoundError):  # another process is just moving it aside
            if final.is_dir() and keep(final):
                return
        if exchange(temporary, final):
            return
        aside = _temporary_sibling(final)
        with suppress(FileNotFoundError):  # another process has just moved it aside
            final.rename(aside)
        _remove(aside)
    try:
        temporary.rename(final)
    except OSError:
        if not final.is_dir():
            raise


def exchange(one: Path, other: Path) -> bool:
    """Have two paths change places at once, where the system can: nobody ever sees one missing."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # a C library without it
        return False
    names = os.fsencode(one), os.fsencode(other)
    return bool(renameat2(_HERE, names[0], _HERE, names[1], _EXCHANGE) == 0)


def cache_lock(path: Path) -> FileLock:
    """A lock of the cache, whatever lies in its place."""
    make_folder(path.parent)
    if path.is_dir():
        set_aside(path)
    return FileLock(path)


def set_aside(path: Path) -> None:
    """Make room for what belongs at `path`: what lies there goes, where it is in the cache.

    Elsewhere it gets another name: it may be somebody's.
    """
    if path.absolute().is_relative_to(cache_root()):
        aside = path.with_name(f".{path.name}{PARTIAL}{uuid.uuid4().hex}")
        path.rename(aside)
        _remove(aside)
        return
    aside, number = path.with_name(f"{path.name}.aside"), 2
    while aside.exists():
        aside, number = path.with_name(f"{path.name}.aside-{number}"), number + 1
    path.rename(aside)


def make_folder(folder: Path) -> None:
    """Make the folder and those above it; below the cache, files in their place go."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        root = cache_root()
        inside = [folder, *folder.parents]
        for place in reversed(inside[: inside.index(root)] if root in inside else []):
            if place.exists() and not place.is_dir():
                set_aside(place)
        folder.mkdir(parents=True, exist_ok=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _temporary_sibling(final: Path) -> Path:
    make_folder(final.parent)
    _sweep(final.parent)
    return final.parent / f".{final.name}{PARTIAL}{uuid.uuid4().hex}"


@lru_cache(maxsize=1024)
def _sweep(folder: Path) -> None:
    """Remove what killed processes left behind; once, since it takes as long as there are files."""
    with suppress(OSError):  # it may be written to all the same
        for name in os.listdir(folder):
            if is_temporary(name):
                remove_if_stale(folder / name)


def is_temporary(name: str) -> bool:
    """Whether a file or folder called `name` is being written, or was when its process died."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_if_stale(leftover: Path) -> None:
    """Remove a temporary file or folder unless it may still be in use."""
    try:
        stale = time.time() - leftover.stat().st_mtime > STALE_SECONDS
    except OSError:  # its owner has just finished with it
        return
    if stale:
        _remove(leftover)
