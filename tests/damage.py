"""Ways in which a file can be broken."""

from __future__ import annotations

from pathlib import Path

DAMAGES = ("truncated", "half", "header only", "empty", "garbage", "zeros")


def damage(path: Path, how: str) -> None:
    """Break the file in one of the ways of `DAMAGES`."""
    content = path.read_bytes()
    damaged = {
        "truncated": content[:-10],
        "half": content[: len(content) // 2],
        "header only": content[:20],
        "empty": b"",
        "garbage": b"garbage" * 50,
        "zeros": bytes(len(content)),
    }
    path.write_bytes(damaged[how])
