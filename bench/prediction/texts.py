"""Where texts to classify come from: arguments, files of lines, tables, folders, standard input.

Each is read when it is its turn, so that any number of them takes constant memory. What is no text
is told as a failure of its name and never ends the rest.
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

from bench.data.dataset import DecodeFailure, PixelForm
from bench.data.text.reading import plain_text
from bench.errors import BenchError, MachineError, nearest
from bench.prediction.samples import STANDARD_INPUT, Sample
from bench.system.visible_text import visible

SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl")
TEXT_COLUMNS = (
    "text", "texts", "sentence", "review", "reviewtext", "comment", "tweet", "message", "content",
    "body", "document", "文本",
)  # fmt: skip
"""Which column of a table has the texts; of a table with one column, that one."""
MAX_CHARACTERS = 2**24
"""Of a text; a longer one is no text to classify."""

EMPTY = "it says nothing: it is empty, or holds only blanks and characters that show nothing"
TOO_LONG = f"it has more than {MAX_CHARACTERS:,} characters"


def texts_of(
    what: Any, column: str | None = None, *, listed: IO[str] | None = None
) -> Iterator[Sample]:
    """The texts that `what` means: a text, the name of a file or folder, or any number of both.

    A string that names a file (`.txt` with a text a line, a table) or a folder (each `.txt` below
    it is a text) is read; so is a `Path`, and `-` has a text a line on standard input (`listed`).
    Every other string is a text. `column` is that of the texts in tables.

    Raises `BenchError` for a file that is not there or cannot be read, and for anything else.
    """
    if isinstance(what, str | os.PathLike):
        yield from _named(what, 0, column, listed)
    elif isinstance(what, Iterable):
        for number, each in enumerate(what):
            if not isinstance(each, str | os.PathLike):
                raise _unknown(each)
            yield from _named(each, number, column, listed)
    else:
        raise _unknown(what)


def as_text(given: str) -> str | DecodeFailure:
    """A text as data sets keep it, or why it is none."""
    if len(given) > MAX_CHARACTERS:
        return DecodeFailure(TOO_LONG)
    return plain_text(given) or DecodeFailure(EMPTY)


def _named(
    what: str | os.PathLike[str], number: int, column: str | None, listed: IO[str] | None
) -> Iterator[Sample]:
    name = os.fspath(what)
    if name == STANDARD_INPUT:
        yield from _lines(listed or sys.stdin, "standard input")
        return
    path = Path(name).expanduser() if name.startswith("~/") else Path(name)
    try:
        is_there = bool(name.strip()) and path.exists()
    except (OSError, ValueError):  # longer than any name, or with what no name has
        is_there = False
    suffix = path.suffix.lower()
    if is_there and path.is_dir():
        yield from _folder(path)
    elif isinstance(what, str) and not is_there and not (suffix in SUFFIXES and _is_word(name)):
        yield _sample(str(number), name)
    elif not is_there:
        raise BenchError(f"there is no file or folder {visible(name)}")
    elif suffix not in SUFFIXES or not path.is_file():  # a pipe may never end
        raise BenchError(
            f"{visible(name)} must be a folder, or a file that ends in {', '.join(SUFFIXES)}"
        )
    else:
        yield from _file(path, name, column)


def _is_word(name: str) -> bool:
    """Whether it looks like the name of a file, and not like a sentence about one."""
    return len(name.split()) == 1


def _sample(name: str, text: str | DecodeFailure, *, folder: str | None = None) -> Sample:
    found = text if isinstance(text, DecodeFailure) else as_text(text)
    return Sample(name=name, read=partial(_known, found), folder=folder)


def _known(found: str | DecodeFailure, _: PixelForm) -> str | DecodeFailure:
    return found


def _file(path: Path, name: str, column: str | None) -> Iterator[Sample]:
    suffix = path.suffix.lower()
    if column is not None and suffix == ".txt":
        raise BenchError(f"{visible(name)} has a text a line and no columns: leave out --column")
    try:
        with path.open(
            encoding="utf-8-sig", newline="" if suffix in (".csv", ".tsv") else None
        ) as file:
            if suffix == ".txt":
                yield from _lines(file, name)
            elif suffix == ".jsonl":
                yield from _objects(file, name, column)
            else:
                yield from _table(file, name, column, "\t" if suffix == ".tsv" else ",")
    except OSError as error:
        raise MachineError(error) from error
    except UnicodeDecodeError as error:
        raise BenchError(
            f"{visible(name)} must be UTF-8, and at byte {error.start:,} it is not: save it so"
        ) from None


def _lines(file: IO[str], name: str) -> Iterator[Sample]:
    """A text a line; empty lines are none."""
    if isinstance(file, io.TextIOWrapper) and name == "standard input":
        file.reconfigure(encoding="utf-8", errors="replace")
    for number, line in enumerate(_bounded(file), 1):
        if len(line) > MAX_CHARACTERS or line.strip():
            yield _sample(f"{name}:{number}", line)


def _bounded(file: IO[str]) -> Iterator[str]:
    """The lines; of one that is too long no more than is needed to tell that."""
    while line := file.readline(MAX_CHARACTERS + 1):
        yield line
        while len(line) > MAX_CHARACTERS and not line.endswith("\n"):
            rest = file.readline(MAX_CHARACTERS)
            if not rest or rest.endswith("\n"):
                break


def _table(file: IO[str], name: str, column: str | None, delimiter: str) -> Iterator[Sample]:
    limit = csv.field_size_limit(MAX_CHARACTERS)
    try:
        rows = csv.reader(file, delimiter=delimiter)
        header = next(rows, None)
        if not header:
            raise BenchError(f"{visible(name)} is empty: its first line must name the columns")
        place = header.index(_column(name, header, column))
        for number, row in enumerate(rows, 1):
            if row:
                cell = (
                    row[place] if place < len(row) else DecodeFailure("its row has too few cells")
                )
                yield _sample(f"{name}:{number}", cell)
    except csv.Error as error:
        raise BenchError(f"cannot read {visible(name)} as CSV: {error}") from error
    finally:
        csv.field_size_limit(limit)


def _objects(file: IO[str], name: str, column: str | None) -> Iterator[Sample]:
    """An object of JSON a line, all with the same keys."""
    key = None
    for number, line in enumerate(_bounded(file), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            yield _sample(f"{name}:{number}", DecodeFailure("its line is no object of JSON"))
            continue
        key = _column(name, list(found), column) if key is None else key
        text = found.get(key)
        failure = DecodeFailure(f"it has no text under {visible(key)!r}")
        yield _sample(f"{name}:{number}", text if isinstance(text, str) else failure)


def _column(name: str, header: Sequence[str], column: str | None) -> str:
    if column is not None:
        if column not in header:
            raise BenchError(f"{visible(name)} has no column {column!r}{nearest(column, header)}")
        return column
    by_name = {each.strip().lower(): each for each in reversed(header)}
    known = next((by_name[each] for each in TEXT_COLUMNS if each in by_name), None)
    if known is None and len(header) == 1:
        known = header[0]
    if known is None:
        raise BenchError(
            f"it cannot be told which column of {visible(name)} has the texts: give --column NAME; "
            f"it has {visible(', '.join(header))}"
        )
    return known


def _folder(folder: Path) -> Iterator[Sample]:
    """Every `.txt` below it is a text, in order; hidden files and folders are left out."""
    found = False
    for place, folders, files in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() == ".txt":
                found = True
                yield _sample(
                    str(Path(place) / name), _read(Path(place) / name), folder=Path(place).name
                )
    if not found:
        raise BenchError(f"{folder} has no text in it or below it (files that end in .txt)")


def _read(path: Path) -> str | DecodeFailure:
    try:
        if not path.is_file():
            return DecodeFailure("it is no file")
        with path.open(encoding="utf-8-sig") as file:
            return file.read(MAX_CHARACTERS + 1)
    except UnicodeDecodeError:
        return DecodeFailure("it is not UTF-8")
    except OSError as error:
        return DecodeFailure(error.strerror or str(error))


def _unknown(what: Any) -> BenchError:
    return BenchError(
        f"only texts, and paths of files with texts, can be classified, got {type(what).__name__}"
    )
