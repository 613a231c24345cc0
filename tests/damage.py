"""Ways in which a file can be broken."""

from __future__ import annotations

from pathlib import Path

DAMAGES = ("truncated", "half", "header only", "empty", "garbage", "zeros", "flipped")
LOSSES = (*DAMAGES, "folder", "deleted")
"""Whatever can become of a file."""


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
        "flipped": content[:-5] + bytes([content[-5] ^ 0b100]) + content[-4:],
    }
    path.write_bytes(damaged[how])


def lose(path: Path, how: str) -> None:
    """Break the file, or put a folder in its place, or delete it: one of `LOSSES`."""
    if how in DAMAGES:
        damage(path, how)
        return
    path.unlink()
    if how == "folder":
        path.mkdir()
        (path / "inside").write_text("something")


def flip(path: Path, at: int) -> None:
    """Change one bit of the byte at `at` (from the end, if it is negative)."""
    content = bytearray(path.read_bytes())
    content[at] ^= 0b100
    path.write_bytes(bytes(content))
