"""Errors that a user can cause or mend: each says what, where, and how to mend it."""

from __future__ import annotations

import errno
import importlib
import os
import re
import shlex
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import unquote

MAX_PROBLEMS = 100
"""After so many mistakes in one suite, no more are looked for."""
MAX_MESSAGE = 4000
MAX_LISTED, CLOSEST = 60, 20
"""So many valid names are listed whole; of more, so many."""


class BenchError(Exception):
    """Base of every error that is shown to the user as a message, never as a traceback."""

    def __str__(self) -> str:
        return bounded(without_secrets(super().__str__()))

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows of the error."""
        return [f"{type(self).__name__}: {line}" for line in str(self).splitlines()]


def bounded(text: str, length: int = MAX_MESSAGE) -> str:
    """`text`, its middle left out if it is longer than `length`: values may be of any length."""
    if len(text) <= length:
        return text
    half = (length - 3) // 2
    return f"{text[:half]} … {text[-half:]}"


_HIDDEN = "***"
_USER = re.compile(
    r"(?<=://)(?:"
    r"[^/?#\s'\"]*@"  # as URLs are written
    r"|[^@:/?#\s'\"]*:(?!\d*(?:[/?#]|$))[^\s'\"]*@"  # as drivers of databases read them
    r")"
)
_QUERY = re.compile(r"(?<=://)([^\s'\"?]*\?)([^\s'\"]*)")
_VALUE = re.compile(r"=[^&#;]*")


def without_secrets(text: str) -> str:
    """`text` with `***` for the user info and for the values of the query of every URL in it.

    They hold passwords and keys: what is shown or kept of a URL, or of a command line, comes
    through here. What follows `://` up to white space or a quotation mark counts as a URL.
    """
    if "://" not in text:
        return text
    text = _USER.sub(f"{_HIDDEN}@", text)
    return _QUERY.sub(lambda url: url[1] + _VALUE.sub(f"={_HIDDEN}", url[2]), text)


def without_secrets_of(url: str, text: str) -> str:
    """`text`, of whatever another library says, without what is secret in `url`."""
    if not url:
        return without_secrets(text)
    plain = without_secrets(url)
    text = without_secrets(text.replace(url, plain))
    rest = url.partition("://")[2]
    user, at, _ = rest.rpartition("@")
    password = user.partition(":")[2] if at else ""
    values = [value for _, _, value in map(_pair, rest.partition("?")[2].split("&"))]
    for secret in sorted({password, unquote(password), *values, *map(unquote, values)}, key=len):
        if len(secret) > 2:  # anything shorter would be found everywhere
            text = text.replace(secret, _HIDDEN)
    return text


def argument_without_secrets(argument: str) -> str:
    """An argument of a command line without what is secret in it: white space belongs to it."""
    joined = re.sub(r"[\s'\"]", "_", argument)
    hidden = without_secrets(joined)
    return argument if hidden == joined else hidden


def command_without_secrets(command: str) -> str:
    """A command line, as a shell takes it, without what is secret in its arguments."""
    try:
        arguments = shlex.split(command)
    except ValueError:
        return without_secrets(command)
    hidden = [argument_without_secrets(argument) for argument in arguments]
    return command if hidden == arguments else shlex.join(hidden)


def _pair(text: str) -> tuple[str, str, str]:
    return text.partition("=")


class DataError(BenchError):
    """A data set is missing, unreadable or unusable."""


class WeightsError(BenchError):
    """Starting weights are missing, unreadable or do not fit the backbone."""


class PlanError(BenchError):
    """A strategy's options do not fit the backbone or the number of epochs."""


class PluginError(BenchError):
    """A plugin is missing or cannot be loaded, or what it registers does not work."""


class MachineError(BenchError):
    """The system refused to read or write: a full disk, no permission, a folder that is gone."""

    def __init__(self, error: OSError) -> None:
        what = str(error.strerror or _said(error))
        path = error.filename2 or error.filename
        where = f" ({_place(path, full=is_full_disk(error))})" if path else ""
        super().__init__(f"cannot read or write: {what}{where}; {_mend(error)}")


class StoreError(MachineError):
    """An object store refuses, does not answer, or is not there."""

    def __init__(self, message: str) -> None:
        BenchError.__init__(self, message)


PARTIAL = ".partial-"
"""In the names of files and folders that are being written: messages speak of the final ones."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_WORDS = re.compile(r"no space left|disk quota|file too large|os error (28|122|27)\b", re.I)
"""Libraries that write files by themselves tell of a full disk in words alone."""


def is_full_disk(error: OSError) -> bool:
    """Whether a disk or a quota has no room, whatever library says so."""
    return error.errno in _FULL or bool(error.errno is None and _FULL_WORDS.search(_said(error)))


def _said(error: OSError) -> str:
    """What it was raised with: as text it speaks of its number, which it may not have."""
    return " ".join(map(str, error.args)) or type(error).__name__


def _place(path: Any, *, full: bool) -> str:
    """The path; where the disk is full, what is free there."""
    shown = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else str(path)
    there = Path(shown)
    while full and there != there.parent and not there.is_dir():
        there = there.parent
    try:
        free = shutil.disk_usage(there).free if full else None
    except OSError:
        free = None
    return shown if free is None else f"{shown}, whose disk has {free / 2**20:,.0f} MiB free"


def _mend(error: OSError) -> str:
    number = error.errno
    if is_full_disk(error):
        mend = "make room, or point --out (results) or BENCH_CACHE (the cache) to another disk"
    elif number == errno.EISDIR:
        mend = "remove the folder, or give it another name"
    elif number in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
        mend = "give an --out or a BENCH_CACHE that is a folder and may be written to"
    else:
        mend = "check that the disk is present and works"
    return f"{mend}; then run the same command again: a run keeps its finished trials"


@contextmanager
def path_named(path: Path) -> Iterator[None]:
    """Have what the system refuses in the block say `path`: a full disk names no file by itself."""
    try:
        yield
    except OSError as error:
        if error.strerror is None:  # of a library that gives words alone
            error.errno = errno.ENOSPC if is_full_disk(error) else error.errno
            error.strerror = _said(error)
        if error.filename is None or PARTIAL in str(error.filename):
            error.filename, error.filename2 = str(path), None
        raise


@contextmanager
def system_errors_told() -> Iterator[None]:
    """Raise what the system refuses in the block as a `MachineError`."""
    try:
        yield
    except OSError as error:
        raise MachineError(error) from error


class MissingExtraError(BenchError):
    """An optional dependency is needed and not installed."""

    def __init__(self, *, needed_for: str, package: str, extra: str) -> None:
        super().__init__(
            f"{needed_for} needs the package {package}; install it with: "
            f'pip install "bench[{extra}]"'
        )


def import_extra(module: str, *, needed_for: str, extra: str, package: str | None = None) -> Any:
    """The module of a `package` (None: of the same name) that an extra installs.

    Raises `MissingExtraError` if it is not installed, and what it raises itself if it is broken.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise MissingExtraError(
            needed_for=needed_for, package=package or module, extra=extra
        ) from None


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One mistake in a suite: the rule with the offending value, and where it stands.

    A suite that is no file has lines only, or where it is no text either, keys such as
    `strategy.1.lr`. `detail` stands below, on lines of its own.
    """

    message: str
    path: Path | None = None
    line: int | None = None
    key: str | None = None
    detail: str | None = None

    @classmethod
    def at_key(cls, location: Iterable[str | int], message: str) -> Problem:
        """A problem of a suite that is no text."""
        return cls(message=message, key=".".join(map(str, location)) or None)

    def __str__(self) -> str:
        message, where = bounded(without_secrets(self.message)), self._where()
        text = message if where is None else f"{message} ({bounded(where)})"
        return text if self.detail is None else f"{text}\n{bounded(self.detail)}"

    def _where(self) -> str | None:
        if self.path is not None:
            return f"{self.path}:{self.line}" if self.line is not None else str(self.path)
        if self.line is not None:
            return f"line {self.line}"
        return None if self.key is None else f"at {self.key}"


class SuiteError(BenchError):
    """A suite was refused; `problems` holds every mistake that was found in it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __str__(self) -> str:
        # Each problem is bounded by itself; together they must not lose those in the middle.
        return str(self.args[0])


def counted(n: int, one: str, many: str | None = None) -> str:
    """A count with its noun, for a message: `1 trial`, `3,000 trials`, `2 classes`."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def nearest(name: str, valid: Iterable[str]) -> str:
    """A suffix such as `; did you mean 'cosine'?`, or the list of valid names if none is near."""
    names = {each.casefold(): each for each in sorted(valid)}
    matches = get_close_matches(name.casefold(), names, n=1, cutoff=0.6)
    if matches:
        return f"; did you mean {names[matches[0]]!r}?"
    if len(names) <= MAX_LISTED:
        return f"; valid: {', '.join(names.values())}" if names else ""
    # The one that is meant must not be among those that are left out.
    closest = get_close_matches(name.casefold(), names, n=CLOSEST, cutoff=0.0)
    shown = ", ".join(names[each] for each in closest)
    return f"; valid: {shown}, … (the closest {CLOSEST} of {len(names):,})"


def known_names(option: str, names: str | Iterable[str], valid: Iterable[str]) -> list[str]:
    """The names that an option gives, as text by commas or one by one; raises `BenchError`."""
    given = names.split(",") if isinstance(names, str) else names
    chosen = [stripped for name in given if (stripped := name.strip())]
    known = list(valid)
    for name in chosen:
        if name not in known:
            raise BenchError(
                f"{option} must be among {', '.join(known)}, got {name!r}{nearest(name, known)}"
            )
    return chosen
