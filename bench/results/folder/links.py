"""A run folder may be a stranger's: nothing that is written into it may land elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from bench.errors import BenchError


def refuse_links(folder: Path) -> None:
    """Raise `BenchError` if a link lies in the folder where a run or a report writes.

    The folder itself may be one: who names it knows what it is.
    """
    for link in _links(folder):
        raise BenchError(
            f"{link} is a link; nothing of a run is written through one. Remove it, or move what "
            "it leads to in its place"
        )


def _links(folder: Path) -> Iterator[Path]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.is_symlink() or _is_shared_lock(entry):
            yield path
        elif entry.is_dir() and folder.name != "parts":  # a part is replaced as a whole
            yield from _links(path)


def _is_shared_lock(entry: os.DirEntry[str]) -> bool:
    """Whether taking the lock would empty a file that has another name elsewhere."""
    return entry.name.endswith(".lock") and entry.stat(follow_symlinks=False).st_nlink > 1
