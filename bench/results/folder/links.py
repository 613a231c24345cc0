"""A run folder may be a stranger's: nothing that is written into it may land elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from bench.errors import BenchError

_IN_PLACE = (".lock", ".journal")
"""Ends of the names of files that are opened and changed; all others are replaced."""
_LEFT_BEHIND = "tuning.journal.lock"
"""What Optuna's own lock left, which earlier versions used, when its process was killed."""
_DRAWN = "plots"
"""The folder whose files other libraries open for writing."""


def refuse_links(folder: Path) -> None:
    """Raise `BenchError` if a write into the folder would follow a link that lies in it.

    The folder itself may be one: who names it knows what it is. A link in the place of a file that
    is written as a whole does no harm: the new file replaces it.
    """
    for link in _followed(folder):
        raise BenchError(
            f"{link} is a link, and a run must not write through links; remove it, or put the "
            "file that it points to in its place"
        )


def _followed(folder: Path, *, drawn: bool = False) -> Iterator[Path]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.name == _LEFT_BEHIND:
            continue
        path = Path(entry.path)
        changed = drawn or entry.name.endswith(_IN_PLACE)
        if entry.is_symlink():
            if changed or not path.is_file():
                yield path
        elif entry.is_dir():
            if folder.name != "parts":  # a part is replaced as a whole
                yield from _followed(path, drawn=drawn or entry.name == _DRAWN)
        elif changed and entry.stat().st_nlink > 1 and not entry.name.endswith(".journal"):
            yield path  # the file has another name elsewhere
