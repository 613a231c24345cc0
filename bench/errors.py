"""Errors that a user can cause or mend: each says what, where, and how to mend it."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

MAX_PROBLEMS = 100
"""After so many mistakes in one suite, no more are looked for."""
MAX_MESSAGE = 4000
MAX_LISTED, CLOSEST = 60, 20
"""So many valid names are listed whole; of more, so many."""


class BenchError(Exception):
    """Base of every error that is shown to the user as a message, never as a traceback."""

    def __str__(self) -> str:
        return bounded(super().__str__())

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows of the error."""
        return [f"{type(self).__name__}: {line}" for line in str(self).splitlines()]


def bounded(text: str, length: int = MAX_MESSAGE) -> str:
    """`text`, its middle left out if it is longer than `length`: values may be of any length."""
    if len(text) <= length:
        return text
    half = (length - 3) // 2
    return f"{text[:half]} … {text[-half:]}"


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
        what = str(error.strerror or error)
        where = f" ({error.filename})" if error.filename else ""
        super().__init__(f"cannot read or write: {what}{where}; {_mend(error.errno)}")


class StoreError(MachineError):
    """An object store refuses, does not answer, or is not there."""

    def __init__(self, message: str) -> None:
        BenchError.__init__(self, message)


def _mend(number: int | None) -> str:
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        mend = "make room, or point --out (results) or BENCH_CACHE (the cache) to another disk"
    elif number in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
        mend = "give an --out or a BENCH_CACHE that is a folder and may be written to"
    else:
        mend = "see that the disk is there and works"
    return f"{mend}; then the same command goes on from what is finished"


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
        message, where = bounded(self.message), self._where()
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
