"""One writer a run folder: a lock of the operating system, and who holds it."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from bench.errors import BenchError


class RunLock:
    """The right to write to a run folder. A process that dies loses it at once, however it dies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder / ".lock")
        # Beside the lock, which is emptied whenever somebody asks for it.
        self._holder = folder / ".lock.json"

    def acquire(self) -> None:
        """Take the lock of a folder that exists; raises `BenchError` naming who has it."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise BenchError(
                f"another run is writing to {self._folder}{self._said()}; "
                "wait for it, or give another --out"
            ) from None
        except NotImplementedError:
            raise BenchError(
                f"the file system of {self._folder} has no locks, so that two runs could write "
                "there at once; give another --out"
            ) from None
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with suppress(OSError):  # it only informs
            self._holder.write_text(json.dumps(holder), encoding="utf-8")

    def release(self) -> None:
        """Let others write."""
        with suppress(OSError):
            self._holder.unlink()
        self._lock.release()

    def _said(self) -> str:
        """Who has the lock, as far as it has said so yet."""
        try:
            holder = json.loads(self._holder.read_text(encoding="utf-8"))
            return f" (process {holder['pid']} on {holder['host']} since {holder['since']})"
        except (OSError, ValueError, KeyError, TypeError):
            return ""
