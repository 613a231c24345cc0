"""Objects below one URL (`s3://bucket/prefix`): fsspec does the work, its errors become messages.

Every protocol that fsspec knows will do. Credentials, endpoints and the like are configured as the
library of the protocol wants it: environment variables, its own files, or those of fsspec.
"""

from __future__ import annotations

import errno
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from bench.errors import (
    BenchError,
    MissingExtraError,
    StoreError,
    bounded,
    nearest,
    without_secrets_of,
)

T = TypeVar("T")

PAUSES = (1.0, 4.0)
"""Seconds to wait before trying again; the libraries themselves try again at once."""
ANSWER_SECONDS = 30.0
"""Whoever has not answered by then is not there. Later, the library's own limits hold."""
FETCHED_AT_ONCE = 1000

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")  # one letter is a drive
_S3, _GCS = ("s3fs", "s3"), ("gcsfs", "gcs")
_EXTRAS = {"s3": _S3, "s3a": _S3, "gs": _GCS, "gcs": _GCS}
"""The package that a protocol needs, and the extra that installs it."""
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
_VERSIONS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created")
"""What the libraries call it that changes with an object; the first one counts."""


def is_url(place: str | Path) -> bool:
    """Whether `place` lies in an object store; raises `BenchError` for a URL given as a `Path`."""
    if isinstance(place, Path) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", place.as_posix()):
        raise BenchError(f"a URL must be given as text, not as a Path, which is now {str(place)!r}")
    return isinstance(place, str) and _URL.match(place) is not None


@dataclass(frozen=True, kw_only=True)
class Object:
    """Size in bytes, and what changes whenever the object does."""

    size: int
    version: str


class ObjectStore:
    """The objects below `url`, by their names relative to it.

    All methods raise `StoreError` where the store refuses or cannot be reached, after trying three
    times, and `OSError` where this machine's own disk does. Raises `BenchError` for a protocol that
    is unknown, or needs a package that is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._fs, root = _opened(self.url)
        self._root = root.rstrip("/")
        self._answered = False

    def list(self, folder: str = "", *, deep: bool = True) -> dict[str, Object]:
        """What there is, or is in `folder`; not `deep`: without what lies in folders there."""
        below = f"{self._root}/{folder}".rstrip("/")
        depth = {} if deep else {"maxdepth": 1}
        found = self._try(lambda: self._fs.find(below, detail=True, **depth))
        start = len(self._root) + 1
        return {
            name[start:]: Object(size=int(about.get("size") or 0), version=_version(about))
            for name, about in found.items()
            if not name.endswith("/")  # a folder, as some tools mark it
        }

    def read(self, name: str, limit: int) -> bytes | None:
        """The first `limit` bytes of an object, None if there is none."""

        def read() -> bytes | None:
            try:
                content: bytes = self._fs.cat_file(self._at(name), start=0, end=limit)
            except FileNotFoundError:
                return None
            return content

        return self._try(read)

    def write(self, name: str, content: bytes) -> None:
        """Make or replace a small object."""
        self._try(lambda: self._fs.pipe_file(self._at(name), content))

    def create(self, name: str, content: bytes) -> bool:
        """Make a small object; False if it is there already, where the store can tell that."""

        def create() -> bool:
            try:
                self._fs.pipe_file(self._at(name), content, mode="create")
            except FileExistsError:
                return False
            except (NotImplementedError, ValueError, TypeError):
                self._fs.pipe_file(self._at(name), content)
            return True

        return self._try(create)

    def fetch(self, paths: Mapping[str, Path]) -> None:
        """Copy objects, by name, to paths of this machine."""
        for at in range(0, len(paths), FETCHED_AT_ONCE):
            some = dict(list(paths.items())[at : at + FETCHED_AT_ONCE])
            for path in some.values():
                path.parent.mkdir(parents=True, exist_ok=True)
            names = [self._at(name) for name in some]
            self._try(partial(self._fs.get, names, [str(path) for path in some.values()]))

    def send(self, paths: Mapping[str, Path]) -> None:
        """Copy files of this machine to objects, by name; several at once."""
        names = [self._at(name) for name in paths]
        self._try(lambda: self._fs.put([str(path) for path in paths.values()], names))

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; those that are not there are no error."""

        def remove(name: str) -> None:
            try:
                self._fs.rm_file(self._at(name))
            except FileNotFoundError:
                return

        for name in names:
            self._try(partial(remove, name))

    def version(self, name: str) -> str:
        """What `list` says of an object that is there."""
        return self._try(lambda: _version(self._fs.info(self._at(name))))

    def modified(self, name: str) -> datetime | None:
        """When the object was written by the store's clock, None if there is none."""

        def modified() -> datetime | None:
            try:
                written: datetime = self._fs.modified(self._at(name))
            except FileNotFoundError:
                return None
            return written

        return self._try(modified)

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _try(self, call: Callable[[], T]) -> T:
        if self._answered:
            return self._again_and_again(call)
        result = _within(ANSWER_SECONDS, lambda: self._again_and_again(call), self.url)
        self._answered = True
        return result

    def _again_and_again(self, call: Callable[[], T]) -> T:
        for pause in (*PAUSES, None):
            try:
                return call()
            except Exception as error:  # the libraries raise anything
                if isinstance(error, OSError) and error.errno in _DISK:
                    raise
                mend = _mend(error)
                if mend is None and pause is not None:
                    time.sleep(pause)
                    continue
                said = without_secrets_of(self.url, str(error))
                what = bounded(said or type(error).__name__, 500)
                lasting = mend or "check that the network, the endpoint and the store work"
                raise StoreError(f"{self.url}: {what}; {lasting}") from error
        raise AssertionError


def _opened(url: str) -> tuple[Any, str]:
    """fsspec's file system and the path on it."""
    import fsspec

    match = _URL.match(url)
    assert match is not None, f"not a URL: {url}"
    protocol = match[1].lower()
    # Others write too, so that what was listed a while ago says little.
    options: dict[str, Any] = {"use_listings_cache": False}
    if protocol in ("file", "local"):
        options["auto_mkdir"] = True
    try:
        fs, root = fsspec.core.url_to_fs(protocol + url[match.end(1) :], **options)
    except ImportError as error:
        if protocol in _EXTRAS:
            package, extra = _EXTRAS[protocol]
            raise MissingExtraError(needed_for=url, package=package, extra=extra) from None
        raise BenchError(f"{url} needs a package that is not installed: {error}") from None
    except ValueError as error:
        known = fsspec.available_protocols()
        if protocol not in known:
            hint = nearest(protocol, known)
            raise BenchError(
                f"{url} must have a protocol of fsspec, got {protocol!r}{hint}"
            ) from None
        said = without_secrets_of(url, str(error))
        raise BenchError(f"{url} is not a URL that fsspec can open: {said}") from None
    return fs, str(root)


def _mend(error: Exception) -> str | None:
    """What to do about an error that would come again, None for one that may pass."""
    if "Credential" in type(error).__name__ or "Token" in type(error).__name__:
        return "give credentials as the library of this protocol takes them, such as AWS_PROFILE"
    if isinstance(error, FileNotFoundError):
        return "make the bucket or container first, or correct its name"
    if isinstance(error, PermissionError):
        return "the credentials must allow to list, read, write and delete objects there"
    return None


def _version(about: Mapping[str, Any]) -> str:
    known = next((about[key] for key in _VERSIONS if about.get(key) is not None), "")
    return f"{about.get('size')} {known}"


def _within(seconds: float, call: Callable[[], T], url: str) -> T:
    """What `call` returns; raises `StoreError` if it takes longer, and leaves it behind then."""
    answers: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue()

    def answer() -> None:
        try:
            answers.put((call(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=answer, daemon=True).start()
    try:
        result, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise StoreError(
            f"{url} does not answer within {seconds:.0f} s; check the network and the endpoint"
        ) from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]
