"""One writer a run folder: a lock of the operating system, or an object in a store."""

from __future__ import annotations

import json
import os
import socket
import threading
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.errors import BenchError, StoreError, bounded
from bench.results.folder.links import refuse_links
from bench.system.cache import atomic_file
from bench.system.object_store import ObjectStore

HOLDER = ".lock.json"
"""The file that says who has the lock."""

BEAT_SECONDS, DEAD_SECONDS = 60.0, 300.0
"""How often the holder of a store's lock gives a sign of life, and how long others wait for one."""


class RunLock:
    """The right to write to a run folder. A process that dies loses it at once, however it dies.

    `shown` is what messages call the folder.
    """

    def __init__(self, folder: Path, *, shown: str | None = None) -> None:
        self._shown = shown or str(folder)
        self._folder = folder
        self._lock = FileLock(folder / ".lock")
        # Beside the lock, which is emptied whenever somebody asks for it.
        self._holder = folder / HOLDER

    def acquire(self) -> None:
        """Take the lock of a folder that exists; raises `BenchError` naming who has it.

        Also where writing to the folder would follow a link that lies in it.
        """
        refuse_links(self._folder)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise BenchError(
                f"another run is writing to {self._shown}{self._said()}; "
                "wait for it, or give another --out"
            ) from None
        except NotImplementedError:
            raise BenchError(
                f"the file system of {self._shown} has no locks, so that two runs could write "
                "there at once; give another --out"
            ) from None
        with suppress(OSError), atomic_file(self._holder, durable=False) as temporary:
            temporary.write_text(json.dumps(_this_process()), encoding="utf-8")  # it only informs

    def release(self) -> None:
        """Let others write."""
        with suppress(OSError):
            self._holder.unlink()
        self._lock.release()

    def _said(self) -> str:
        """Who has the lock, as far as it has said so yet."""
        said = _in_words(_read_holder(self._holder))
        return f" ({said})" if said else ""


def other_writer(folder: Path) -> str | None:
    """Which other process writes to the folder now, in words; None if none is known to.

    It looks without asking for the lock, and takes the word of a process of another machine for it.
    """
    holder = _read_holder(folder / HOLDER)
    said = _in_words(holder)
    if not said:
        return None
    process = holder.get("pid")
    if holder.get("host") == socket.gethostname():
        return said if process != os.getpid() and _lives(process, holder.get("since")) else None
    return said


def _lives(process: Any, since: Any) -> bool:
    """Whether the process that said so at `since` is there: another may have its number by now."""
    import psutil

    try:
        began: float = psutil.Process(process).create_time()
        said = datetime.fromisoformat(since).timestamp()
        return began <= said + 2.0  # `since` is in seconds
    except (psutil.Error, ValueError, TypeError, OverflowError):
        return False


def _read_holder(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            holder = json.loads(file.read(4096))
    except (OSError, ValueError, RecursionError):
        return {}
    return holder if isinstance(holder, dict) else {}


class StoreLock:
    """The right to write to a folder of an object store: an object that says who holds it.

    Its holder writes it again every minute. Age is the difference of two times that the store
    itself gives, so no machine's clock matters. `mark` is a file of the holder's disk with the
    lock's name in it: whoever finds its own mark, and is alone on that disk, follows a process that
    was killed, and need not wait. `lost` is true once somebody else has taken the lock over.
    """

    NAME = ".lock.json"

    def __init__(self, store: ObjectStore, *, mark: Path) -> None:
        self._store = store
        self._mark = mark
        self._token = uuid.uuid4().hex
        self._holder = json.dumps({**_this_process(), "token": self._token}).encode()
        self._ended = threading.Event()
        self._beats = threading.Thread(target=self._beat, daemon=True)
        self.lost = False

    def acquire(self) -> None:
        """Take the lock; raises `BenchError` naming who has it, `StoreError`."""
        if not self._store.create(self.NAME, self._holder):
            self._check_dead()
            self._store.write(self.NAME, self._holder)
        elif self._token_there() != self._token:  # a store that cannot tell: the last one has it
            raise self._refusal(self._read(), 0.0)
        with atomic_file(self._mark, durable=False) as temporary:
            temporary.write_text(self._token, encoding="ascii")
        self._beats.start()

    def release(self) -> None:
        """Let others write: at once, or in five minutes if the store cannot be reached."""
        self._ended.set()
        self._beats.join()
        with suppress(StoreError):
            if not self.lost and self._token_there() == self._token:
                self._store.remove([self.NAME])
            self._mark.unlink(missing_ok=True)

    def _check_dead(self) -> None:
        """Raise `BenchError` unless the process that has the lock gives no sign of life."""
        holder = self._read()
        with suppress(OSError, ValueError):
            if holder.get("token") == self._mark.read_text(encoding="ascii"):
                return
        age = self._age()
        if age < DEAD_SECONDS:
            raise self._refusal(holder, age)

    def _age(self) -> float:
        """Seconds since the last sign of life, by the store's clock alone."""
        written, probe = self._store.modified(self.NAME), f".clock-{self._token}"
        if written is None:
            return DEAD_SECONDS
        self._store.write(probe, b"what time is it?")
        now = self._store.modified(probe)
        self._store.remove([probe])
        return (now - written).total_seconds() if now is not None else 0.0

    def _refusal(self, holder: dict[str, Any], age: float) -> BenchError:
        who = _in_words(holder) or "an unknown process"
        return BenchError(
            f"another run is writing to {self._store.url} ({who}, last sign of life {age:.0f} s "
            f"ago); wait for it, or give another --out. Without a sign of life for "
            f"{DEAD_SECONDS / 60:.0f} minutes, the same command takes over"
        )

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with suppress(StoreError, OSError):  # the next sign may come through
                if self._token_there() not in (self._token, None):
                    self.lost = True
                    return
                self._store.write(self.NAME, self._holder)

    def _token_there(self) -> Any:
        return self._read().get("token")

    def _read(self) -> dict[str, Any]:
        content = self._store.read(self.NAME, 4096)
        try:
            holder = json.loads(content or b"{}")
        except ValueError:
            return {}
        return holder if isinstance(holder, dict) else {}


def _this_process() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _in_words(holder: Any) -> str:
    try:
        return bounded(f"process {holder['pid']} on {holder['host']} since {holder['since']}", 200)
    except (KeyError, TypeError):
        return ""
