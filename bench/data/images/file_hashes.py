"""SHA-256 of files, remembered so that a second start does not read them all again."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.data.archives import Member, StoredFile
from bench.keys import file_digest
from bench.system.cache import atomic_file, cache_root
from bench.system.download import OnProgress

UNREADABLE = "unreadable"
SETTLED_NANOSECONDS = 2_000_000_000
"""A file changed more recently may change again within the same tick of the file system's clock."""

Known = tuple[int, int, str]
"""(size, mtime_ns, sha256) of a file when it was last read."""


def file_hashes(
    root: Path, paths: Sequence[StoredFile], *, progress: OnProgress | None = None
) -> list[str]:
    """The hex SHA-256 of each file, or `UNREADABLE`; all `paths` should lie under `root`.

    A file whose path, size and modification time are those of an earlier call is not read again; of
    what is in an archive, these are size and time of the archive.
    """
    memory = _memory_file(root)
    known = _load(memory)
    current: dict[str, Known] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        hashed = pool.map(lambda path: _hashed(path, known.get(str(path))), paths)
        for done, (path, entry) in enumerate(zip(paths, hashed, strict=True), start=1):
            if entry is not None:
                current[str(path)] = entry
            if progress is not None:
                progress(f"hash {root.name}", done, len(paths))
    settled = {
        path: entry
        for path, entry in current.items()
        if time.time_ns() - entry[1] > SETTLED_NANOSECONDS
    }
    if not settled.items() <= known.items():
        # Where it cannot be kept, the files are read again.
        with suppress(OSError), atomic_file(memory) as temporary:
            temporary.write_text(_written(known | settled), encoding="ascii")
    return [current[str(path)][2] if str(path) in current else UNREADABLE for path in paths]


def _hashed(path: StoredFile, known: Known | None) -> Known | None:
    try:
        status = (path.archive if isinstance(path, Member) else path).stat()
        if known is not None and known[:2] == (status.st_size, status.st_mtime_ns):
            return known
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device may never end
            return None
        if isinstance(path, Member):
            digest = hashlib.sha256(path.content()).hexdigest()
        else:
            digest = file_digest(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, digest


def _memory_file(root: Path) -> Path:
    key = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    return cache_root() / "file-hashes" / f"{key}.json"


def _load(memory: Path) -> dict[str, Known]:
    try:
        text = memory.read_text(encoding="ascii")
        entries = json.loads(text)["files"]
        if text != _written(entries):
            return {}
        return {path: (size, mtime, digest) for path, (size, mtime, digest) in entries.items()}
    except Exception:  # absent, damaged or of an earlier version: hash again
        return {}


def _written(entries: Mapping[str, Any]) -> str:
    """The content of the file: a hash that a disk has changed would make other data of the same."""
    return json.dumps({"crc32": zlib.crc32(json.dumps(entries).encode()), "files": entries})
