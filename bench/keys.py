"""Names that contents give themselves: hashes, of files too, and seeds of keyed draws.

Every draw is named by what it is for, never by what was drawn before it. Two trials that ask for
the same draw get the same numbers (common random numbers), whatever else each of them draws.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any


def content_hash(content: Any, *, digits: int = 12) -> str:
    """That many hexadecimal digits of the SHA-256 of `content` in canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits; raises `OSError` if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_digest(path: Path) -> str:
    """`file_digest`, remembered by this process while size and time of modification stay."""
    status = path.stat()
    return _known_digest(path, status.st_size, status.st_mtime_ns)


@cache
def _known_digest(path: Path, _size: int, _modified: int) -> str:
    return file_digest(path)


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on all `parts`, such as `(seed, "order", epoch)`."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
