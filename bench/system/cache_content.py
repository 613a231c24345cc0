"""What lies in the cache folder, how large it is, and how it is emptied."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.errors import known_names
from bench.system.cache import cache_root, is_temporary, remove_if_stale
from bench.system.lru_folder import cache_limit

ALL = "all"
_FOLDERS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "states": (("states",), "states of trials, from which trainings go on"),
    "features": (("features",), "what frozen trunks make of the samples"),
    "views": (("views",), "augmented views of training images"),
    "data": (("images", "vectors", "texts"), "prepared data sets"),
    "downloads": (
        ("datasets", "torchvision", "archives"),
        "data sets as they were downloaded, archives without compression",
    ),
    "weights": (("weights",), "weights, downloaded or made"),
    "other": (
        ("precision", "file-hashes", "endings", "figures", "ray"),
        "measured precision, hashes, how runs ended, what figures show, parcels of Ray",
    ),
}
"""By kind: the folders that hold it, and what it is. All of it is made or downloaded again."""

KINDS = tuple(_FOLDERS)
LIMITED = ("states", "features", "views")
"""Kinds of which the least recently used go where they take more than the cache's limit."""


@dataclass(frozen=True, kw_only=True)
class CacheKind:
    """One kind of content: `files` files of `size` bytes in all; the folders keep to `limit`."""

    name: str
    meaning: str
    files: int
    size: int
    limit: int | None


@dataclass(frozen=True, kw_only=True)
class CacheContent:
    """What the cache `folder` holds, by kind, and what was just removed of it; sizes in bytes.

    `free` is what the disk has left. `mirrors` is the size of runs whose `--out` is an object
    store: no cache, and never removed here.
    """

    folder: Path
    kinds: tuple[CacheKind, ...]
    removed: int
    free: int
    mirrors: int

    @property
    def size(self) -> int:
        """Of all kinds."""
        return sum(kind.size for kind in self.kinds)

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The cells of a table with the columns `COLUMNS`."""
        return [
            (
                kind.name,
                f"{kind.files:,}",
                size_text(kind.size),
                "" if kind.limit is None else size_text(kind.limit),
                kind.meaning,
            )
            for kind in self.kinds
        ]

    @property
    def sentences(self) -> list[str]:
        """What was removed, what there is in all, and what stays."""
        found = [f"Removed {size_text(self.removed)}."] if self.removed else []
        found.append(
            f"The cache {self.folder} holds {size_text(self.size)}; {size_text(self.free)} of the "
            "disk are free."
        )
        if self.mirrors:
            found.append(
                f"Runs whose --out is an object store keep {size_text(self.mirrors)} beside it, in "
                f"{self.folder / 'runs'}; they are results and are not removed."
            )
        return found

    def __str__(self) -> str:
        rows = ["\t".join(row) for row in (COLUMNS, *self.rows)]
        return "\n".join([*rows, *self.sentences])


COLUMNS = ("kind", "files", "size", "limit", "what")


def size_text(size: float) -> str:
    """Bytes in the unit that reads best: `12 KiB`, `263 MiB`, `4.6 GiB`."""
    for unit, bytes_of_unit in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= bytes_of_unit:
            number = size / bytes_of_unit
            return f"{number:.1f} {unit}" if number < 10 else f"{number:,.0f} {unit}"
    return f"{size:,.0f} bytes"


def cache_content(*, empty: str | Sequence[str] = ()) -> CacheContent:
    """What the cache holds, after the kinds named by `empty` have been removed.

    Raises `BenchError` for an unknown kind.
    """
    named = known_names("--empty", empty, (*KINDS, ALL)) if empty else []
    emptied = KINDS if ALL in named else tuple(named)
    root = cache_root()
    before = _measured(root) if emptied else ()
    for kind in emptied:
        for folder in _FOLDERS[kind][0]:
            _empty(root / folder)
    kinds = _measured(root)
    return CacheContent(
        folder=root,
        kinds=kinds,
        removed=max(0, sum(kind.size for kind in before) - sum(kind.size for kind in kinds))
        if emptied
        else 0,
        free=shutil.disk_usage(root).free,
        mirrors=_total([root / "runs"])[1],
    )


def _measured(root: Path) -> tuple[CacheKind, ...]:
    kinds = []
    for name, (folders, meaning) in _FOLDERS.items():
        files, size = _total(root / folder for folder in folders)
        limit = cache_limit() if name in LIMITED else None
        kinds.append(CacheKind(name=name, meaning=meaning, files=files, size=size, limit=limit))
    return tuple(kinds)


def _total(folders: Iterable[Path]) -> tuple[int, int]:
    """(files, bytes); what another process removes meanwhile does not count."""
    files = size = 0
    for top in folders:
        for folder, _, names in os.walk(top):
            for name in names:
                with suppress(OSError):
                    size += Path(folder, name).lstat().st_size
                    files += 1
    return files, size


def _empty(folder: Path) -> None:
    """Remove what is complete, and what killed processes left; what is being written stays.

    So do locks: another process may hold them. A run that works makes again what it misses.
    """
    try:
        entries = list(os.scandir(folder))
    except OSError:  # nothing was kept yet
        return
    for entry in entries:
        path = Path(entry.path)
        if is_temporary(entry.name):
            remove_if_stale(path)
        elif entry.name.endswith(".lock"):
            continue
        elif entry.is_dir(follow_symlinks=False):
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):  # another process was faster, or it is open on Windows
                path.unlink()
