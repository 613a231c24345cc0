"""Names that contents give themselves: hashes, and seeds of keyed draws.

Every draw is named by what it is for, never by what was drawn before it. Two trials that ask for
the same draw get the same numbers (common random numbers), whatever else each of them draws.
"""

from __future__ import annotations

import hashlib
import json
from hashlib import blake2b
from typing import Any


def content_hash(content: Any, *, digits: int = 12) -> str:
    """That many hexadecimal digits of the SHA-256 of `content` in canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on all `parts`, such as `(seed, "order", epoch)`."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
