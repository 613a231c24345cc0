"""The journal of a search: Optuna's format, with a checksum in every entry.

An entry is a line of JSON. Its last key, `crc32`, is the checksum of the line without it; Optuna,
and whatever else reads its journals, does not look at it. Entries of earlier versions have none.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from bench.errors import path_named
from bench.system.cache import atomic_file

DAMAGED_SUFFIX = ".damaged"
"""What of a journal cannot be read is kept under its name with this at the end."""

_MARK = b',"crc32":'


def open_journal(path: Path, note: Callable[[str], None]) -> JournalStorage:
    """The storage in the journal at `path`, mended where it is damaged; `note` is told of that.

    A last line that was cut short says nothing that anybody has relied on: it goes. Where something
    else is damaged, what stands before it is kept, and a copy of the whole for whoever wants it.
    The trials that are lost by it are suggested again, and trained from the states in the cache.
    """
    with _lock(path):
        _mend(path, note)
    try:
        return JournalStorage(_CheckedBackend(path))
    except Exception as error:  # entries without a checksum may say anything
        with _lock(path):
            _set_aside(path, b"")
        note(f"{path} cannot be replayed ({type(error).__name__}: {error}): {_begins_anew(path)}")
        return JournalStorage(_CheckedBackend(path))


class _CheckedBackend(JournalFileBackend):
    """Optuna's file with checksums, which is never continued after a line that was cut short."""

    def __init__(self, path: Path) -> None:
        self._path = path
        super().__init__(str(path))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write the entries and see them onto the disk."""
        if not logs:
            return
        lines = b"".join(map(_line, logs))
        with _lock(self._path), path_named(self._path), self._path.open("rb+") as file:
            at = _end_of_last_line(file)
            file.truncate(at)
            file.seek(at)
            try:
                file.write(lines)
                file.flush()
            except OSError:  # a full disk
                file.truncate(at)
                raise
            os.fsync(file.fileno())


def _lock(path: Path) -> FileLock:
    """Optuna's own locks are links or files, which outlive a killed process."""
    return FileLock(path.with_name(f".{path.name}.lock"))


def _line(log: dict[str, Any]) -> bytes:
    said = json.dumps(log, separators=(",", ":")).encode()
    return said[:-1] + _MARK + b"%d}\n" % zlib.crc32(said)


def _is_whole(line: bytes) -> bool:
    """Whether it is an entry, and nothing of it has changed."""
    if not line.endswith(b"\n"):
        return False
    said, marked, checksum = line[:-1].rpartition(_MARK)
    if marked:
        return checksum == b"%d}" % zlib.crc32(said + b"}")
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _mend(path: Path, note: Callable[[str], None]) -> None:
    if path.is_dir():
        _set_aside(path, b"")
        note(f"{path} was a folder: {_begins_anew(path)}")
        return
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    if path.stat().st_nlink > 1:  # entries are added to this file alone
        with atomic_file(path) as temporary:
            temporary.write_bytes(content)
    lines = content.splitlines(keepends=True)
    whole = next((i for i, line in enumerate(lines) if not _is_whole(line)), len(lines))
    kept = b"".join(lines[:whole])
    if len(kept) == len(content):
        return
    if 0 < whole == len(lines) - 1 and not content.endswith(b"\n"):
        os.truncate(path, len(kept))
        note(
            f"the last entry of {path} was cut short and is removed: the search continues from "
            "the entries before it"
        )
        return
    _set_aside(path, kept)
    if not kept:
        note(f"{path} is damaged from its first entry on: {_begins_anew(path)}")
        return
    note(
        f"{path} is damaged in entry {whole + 1} of {len(lines)}: the search continues from the "
        f"entries before it. The damaged file is kept as {path.name}{DAMAGED_SUFFIX}"
    )


def _set_aside(path: Path, kept: bytes) -> None:
    """Keep the file, or what else is there, under another name, and `kept` in its place."""
    aside = path.with_name(path.name + DAMAGED_SUFFIX)
    number = 2
    while aside.exists():
        aside = path.with_name(f"{path.name}{DAMAGED_SUFFIX}-{number}")
        number += 1
    path.rename(aside)
    with atomic_file(path) as temporary:
        temporary.write_bytes(kept)


def _begins_anew(path: Path) -> str:
    kept = f"{path.name}{DAMAGED_SUFFIX}"
    return f"it is kept as {kept}, and the search starts again with the states in the cache"


def _end_of_last_line(file: Any) -> int:
    """Where the next entry begins; behind it lies what a killed process has left."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 4096)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return int(start + found + 1)
        end = start
    return 0
