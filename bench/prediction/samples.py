"""Where images to classify come from: files, folders, archives, lists of paths, arrays.

Everything is named before it is read, one after the other, so that any number of files takes
constant memory. What is no image is told as a failure of that name and never ends the rest.
"""

from __future__ import annotations

import csv
import io
import os
import sys
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from bench.data.archives import bomb_text, is_bomb
from bench.data.dataset import RGB, Decoded, DecodeFailure, PixelForm
from bench.data.images.channels import (
    decode_bytes_as,
    decode_file_as,
    decode_image_as,
    suffixes_of,
)
from bench.errors import BenchError

STANDARD_INPUT = "-"
PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "name")
"""Which column of a CSV file has the paths; of a file with one column, that one."""

Probabilities = npt.NDArray[np.float32]

NO_NUMBERS = "the network's answer holds values that are no numbers"
"""Why a sample has no class although it can be read."""
SMALLER = "make it smaller first, as the network sees it much smaller anyway"
"""What to do with an image that is too large: no suite says here how large one may be."""
MAX_LINE = 2**16
"""Characters of a path in a list: no system takes as many."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Something to classify: its name, and what decodes it, in a thread of its own.

    `read` takes the form that pixels are to have; of a text it gives that. `folder` is the name of
    the folder that it lies in, which may be its class.
    """

    name: str
    read: Callable[[PixelForm], Decoded | str]
    folder: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Predicted:
    """A sample with the probability of each class, or why it could not be read.

    `text` is the sample where that is one, and `cut` whether the network did not see its end.
    """

    name: str
    probabilities: Probabilities | None
    folder: str | None = None
    failure: str | None = None
    note: str | None = None
    text: str | None = None
    cut: bool = False


def samples_of(what: Any, form: PixelForm = RGB) -> Iterator[Sample]:
    """The samples that `what` means: a path, an image, or any number of both.

    `form` is that of images as a network takes them.

    Raises `BenchError` for a path that is not there, and for anything else.
    """
    if isinstance(what, str | os.PathLike):
        yield from samples_at(str(what), form)
    elif _is_image(what):
        yield _image(what, 0, form)
    elif isinstance(what, Iterable):
        for number, each in enumerate(what):
            if isinstance(each, str | os.PathLike):
                yield from samples_at(str(each), form)
            elif _is_image(each):
                yield _image(each, number, form)
            else:
                raise _unknown(each, form)
    else:
        raise _unknown(what, form)


def samples_at(
    place: str, form: PixelForm = RGB, *, listed: IO[str] | None = None
) -> Iterator[Sample]:
    """Those at a path: a file, a folder with all below it, a zip archive, a CSV file, or `-`.

    `-` reads paths from standard input (`listed`), one a line.
    """
    if place == STANDARD_INPUT:
        yield from _lines(listed or sys.stdin)
        return
    path = _path(place)
    try:
        is_folder, is_there = path.is_dir(), path.exists()
    except (OSError, ValueError) as error:
        raise BenchError(f"{place} cannot be opened: {_reason(error)}") from None
    if is_folder:
        yield from _folder(path, suffixes_of(form.channels))
    elif not is_there:
        raise BenchError(f"there is no file or folder {place}")
    elif (suffix := path.suffix.lower()) not in (".zip", ".csv", ".tsv"):
        yield _file(path, place)
    elif not path.is_file():  # a pipe may never end
        raise BenchError(f"{place} is no file")
    else:
        yield from _archive(path, suffixes_of(form.channels)) if suffix == ".zip" else _table(path)


def _path(name: str) -> Path:
    """Where it is, from the home folder if it says so."""
    try:
        return Path(name).expanduser()
    except RuntimeError:  # of a user who is not known
        return Path(name)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _file(path: Path, name: str) -> Sample:
    def read(form: PixelForm) -> Decoded:
        try:
            return decode_file_as(path, form, mend=SMALLER)
        except ValueError as error:  # a name that no system takes
            return DecodeFailure(_reason(error))

    return Sample(name=name, read=read, folder=path.parent.name or None)


def _folder(folder: Path, suffixes: Collection[str]) -> Iterator[Sample]:
    """All images below it, in order; hidden files and folders are left out.

    A folder that cannot be read is named as what could not be read.
    """
    found = False
    closed: list[OSError] = []
    for place, folders, files in os.walk(folder, followlinks=False, onerror=closed.append):
        yield from _named(closed)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes:
                found = True
                yield _file(Path(place) / name, str(Path(place) / name))
    found = found or bool(closed)
    yield from _named(closed)
    if not found:
        kinds = ", ".join(sorted(suffixes))
        raise BenchError(f"{folder} has no image in it or below it (files that end in {kinds})")


def _named(closed: list[OSError]) -> Iterator[Sample]:
    """What could not be read as samples; the list is empty then."""
    for error in closed:
        failure = DecodeFailure(_reason(error))
        yield Sample(name=str(error.filename), read=partial(_failed, failure))
    closed.clear()


def _failed(failure: DecodeFailure, _: PixelForm) -> Decoded:
    return failure


def _archive(path: Path, suffixes: Collection[str]) -> Iterator[Sample]:
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # of a damaged directory zipfile raises almost anything
        raise BenchError(f"cannot read the archive {path}: {_reason(error)}") from error
    one_at_a_time = Lock()
    for member in archive.infolist():
        is_folder = member.filename.endswith("/")  # `is_dir` fails on a name that is empty
        if is_folder or Path(member.filename).suffix.lower() not in suffixes:
            continue
        parts = Path(member.filename).parts
        if any(part.startswith((".", "__MACOSX")) and part not in (".", "..") for part in parts):
            continue
        folder = parts[-2] if len(parts) > 1 else None
        read = partial(_member, archive, member, one_at_a_time)
        yield Sample(name=f"{path}/{member.filename}", read=read, folder=folder)


def _member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, one_at_a_time: Lock, form: PixelForm
) -> Decoded:
    """Unpacked when it is its turn, so that no more than a few wait in memory."""
    size, packed = member.file_size, member.compress_size
    if is_bomb(size, packed):
        return DecodeFailure(bomb_text(size, packed))
    try:
        with one_at_a_time:
            content = archive.read(member)
    except MemoryError:
        raise
    except Exception as error:  # zlib.error, lzma.LZMAError and others of damaged members
        return DecodeFailure(_reason(error))
    return decode_bytes_as(content, member.filename, form, mend=SMALLER)


def _table(path: Path) -> Iterator[Sample]:
    """The paths in a column of a CSV file; relative ones are seen from the file's folder."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
            rows = csv.reader(file, delimiter=delimiter)
            header = next(rows, None)
            if not header:
                raise BenchError(f"{path} is empty: its first line must name the columns")
            column = _path_column(path, header)
            for row in rows:
                if len(row) > column and row[column].strip():
                    own = row[column].strip()
                    yield _file(path.parent / _path(own), own)
    except (UnicodeDecodeError, csv.Error) as error:
        raise BenchError(f"cannot read {path} as CSV in UTF-8: {error}") from error


def _path_column(path: Path, header: Sequence[str]) -> int:
    names = [name.strip().lower() for name in header]
    for name in PATH_COLUMNS:
        if name in names:
            return names.index(name)
    if len(names) == 1:
        return 0
    raise BenchError(
        f"{path} must have a column of paths, called {PATH_COLUMNS[0]} (or "
        f"{', '.join(PATH_COLUMNS[1:])}); it has {', '.join(header)}"
    )


def _lines(file: IO[str]) -> Iterator[Sample]:
    """The paths in it, one a line; bytes that are no UTF-8 stay what they are, as in file names."""
    if isinstance(file, io.TextIOWrapper):
        file.reconfigure(errors="surrogateescape")
    while line := file.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise BenchError(
                f"a line of the list on standard input has more than {MAX_LINE:,} characters; it "
                "must have one path a line"
            )
        name = line.rstrip("\r\n")
        if name:
            yield _file(_path(name), name)


def _is_image(what: Any) -> bool:
    if isinstance(what, np.ndarray):
        return what.ndim == 3
    return hasattr(what, "convert") and hasattr(what, "getexif")


def _image(what: Any, number: int, form: PixelForm) -> Sample:
    if isinstance(what, np.ndarray):
        check_array(what, form)
        return Sample(name=str(number), read=lambda _: what)
    name = getattr(what, "filename", "") or str(number)
    return Sample(name=str(name), read=lambda form: decode_image_as(what, form))


def check_array(what: Any, form: PixelForm) -> None:
    """Raise `BenchError` for what are no pixels of the form."""
    if np.ndim(what) != 3 or np.shape(what)[2] != form.depth or _dtype(what) != form.dtype:
        in_rgb = " in RGB" if form.channels is None else ""
        found = f"{_dtype(what)} {list(np.shape(what))}"
        raise BenchError(f"an image must be {_array_text(form)}{in_rgb}, got {found}")


def _dtype(what: Any) -> Any:
    return getattr(what, "dtype", type(what).__name__)


def _array_text(form: PixelForm) -> str:
    return f"{form.dtype} [height, width, {form.depth}]"


def _unknown(what: Any, form: PixelForm) -> BenchError:
    return BenchError(
        f"only paths and images (of Pillow, or {_array_text(form)}) can be classified, got "
        f"{type(what).__name__}"
    )
