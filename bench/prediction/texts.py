"""Where texts to classify come from: arguments, files of lines, tables, folders, standard input.

Files are read as data sets read them, each when it is its turn. What is no text is told as a
failure of its name and never ends the rest.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

from bench.data.dataset import DecodeFailure, PixelForm, naming
from bench.data.label_tables import by_name, open_table
from bench.data.text.reading import plain_text
from bench.data.text.texts import text_of_table
from bench.errors import BenchError, nearest
from bench.prediction.samples import STANDARD_INPUT, Sample
from bench.system.visible_text import visible

SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl", ".parquet")
MAX_CHARACTERS = 2**24
"""Of a text; a longer one is no text to classify."""

EMPTY = "it says nothing: it is empty, or holds only blanks and characters that show nothing"
TOO_LONG = f"it has more than {MAX_CHARACTERS:,} characters"


def texts_of(
    what: Any, column: str | None = None, *, listed: IO[str] | None = None
) -> Iterator[Sample]:
    """The texts that `what` means: a text, the name of a file or folder, or any number of both.

    A string that names a file (`.txt` with a text a line, or a table) or a folder (each `.txt`
    below it is a text) is read; so is a `Path`, and `-` has a text a line on standard input
    (`listed`). Every other string is a text. `column` is that of the texts in tables; without it
    the column is recognised by its name.

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
        yield from _lines(_in_utf8(listed or sys.stdin), "standard input")
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


def _in_utf8(file: IO[str]) -> IO[str]:
    if isinstance(file, io.TextIOWrapper):
        file.reconfigure(encoding="utf-8", errors="replace")
    return file


def _is_word(name: str) -> bool:
    """Whether it looks like the name of a file, and not like a sentence about one."""
    return len(name.split()) == 1


def _sample(name: str, text: str | DecodeFailure, *, folder: str | None = None) -> Sample:
    found = text if isinstance(text, DecodeFailure) else as_text(text)
    return Sample(name=name, read=partial(_known, found), folder=folder)


def _known(found: str | DecodeFailure, _: PixelForm) -> str | DecodeFailure:
    return found


def _file(path: Path, name: str, column: str | None) -> Iterator[Sample]:
    if path.suffix.lower() != ".txt":
        yield from _table(path, name, column)
        return
    if column is not None:
        raise BenchError(f"{visible(name)} has a text a line and no columns: leave out --column")
    yield from _lines(io.StringIO(text_of_table(path)[0], newline=None), name)


def _lines(file: IO[str], name: str) -> Iterator[Sample]:
    """A text a line; empty lines are none."""
    for number, line in enumerate(_bounded(file), 1):
        if line.strip():
            yield _sample(f"{name}:{number}", line)


def _bounded(file: IO[str]) -> Iterator[str]:
    """The lines; of one that is too long no more than is needed to tell that."""
    while line := file.readline(MAX_CHARACTERS + 1):
        yield line
        while len(line) > MAX_CHARACTERS and not line.endswith("\n"):
            line = file.readline(MAX_CHARACTERS + 1)


def _table(path: Path, name: str, column: str | None) -> Iterator[Sample]:
    """The cells of a column of a table, which is read as that of a data set."""
    table = open_table(path, content="text", read=text_of_table)
    own = _column(name, table.columns) if column is None else column
    if own not in table.columns:
        raise BenchError(f"{visible(name)} has no column {own!r}{nearest(own, table.columns)}")
    for number, cell in enumerate(table.cells([own])[own], 1):
        yield _sample(f"{name}:{number}", cell)


def _column(name: str, columns: Sequence[str]) -> str:
    known = by_name("text", columns)
    if len(known) == 1 or len(columns) == 1:
        return known[0] if known else columns[0]
    raise BenchError(
        f"it cannot be told which column of {visible(name)} has the texts: give --column NAME; it "
        f"has {naming([visible(each) for each in columns], at_most=20)}"
    )


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
        if not path.is_file():  # a pipe may never end
            return DecodeFailure("it is no file")
        return text_of_table(path)[0]
    except BenchError as error:
        return DecodeFailure(str(error))
    except OSError as error:
        return DecodeFailure(error.strerror or str(error))


def _unknown(what: Any) -> BenchError:
    return BenchError(
        f"only texts, and paths of files with texts, can be classified, got {type(what).__name__}"
    )
