"""Where images to classify come from: files, folders, archives, lists of paths, arrays.

Everything is named before it is read, one after the other, so that any number of files takes
constant memory. What is no image is told as a failure of that name and never ends the rest.
"""

from __future__ import annotations

import csv
import os
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from bench.data.dataset import Decoded, DecodeFailure
from bench.data.images.decode import IMAGE_SUFFIXES, decode_bytes, decode_file, decode_image
from bench.errors import BenchError

STANDARD_INPUT = "-"
PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "name")
"""Which column of a CSV file has the paths; of a file with one column, that one."""

Probabilities = npt.NDArray[np.float32]

MAX_MEMBER = 2**30
"""Bytes that a file in an archive may unpack to."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Something to classify: its name, and what decodes it, in a thread of its own.

    `read` takes how many bits of 16-bit values are used. `folder` is the name of the folder that it
    lies in, which may be its class.
    """

    name: str
    read: Callable[[int], Decoded]
    folder: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Predicted:
    """A sample with the probability of each class, or why it could not be read."""

    name: str
    probabilities: Probabilities | None
    folder: str | None = None
    failure: str | None = None
    note: str | None = None


def samples_of(what: Any) -> Iterator[Sample]:
    """The samples that `what` means: a path, an image, or any number of both.

    Raises `BenchError` for a path that is not there, and for anything else.
    """
    if isinstance(what, str | os.PathLike):
        yield from samples_at(str(what))
    elif _is_image(what):
        yield _image(what, 0)
    elif isinstance(what, Iterable):
        for number, each in enumerate(what):
            if isinstance(each, str | os.PathLike):
                yield from samples_at(str(each))
            elif _is_image(each):
                yield _image(each, number)
            else:
                raise _unknown(each)
    else:
        raise _unknown(what)


def samples_at(place: str, *, listed: IO[str] | None = None) -> Iterator[Sample]:
    """Those at a path: a file, a folder with all below it, a zip archive, a CSV file, or `-`.

    `-` reads paths from standard input (`listed`), one a line.
    """
    if place == STANDARD_INPUT:
        yield from _lines(listed or sys.stdin)
        return
    path = Path(place).expanduser()
    if path.is_dir():
        yield from _folder(path)
    elif not path.exists():
        raise BenchError(f"there is no file or folder {place}")
    elif path.suffix.lower() == ".zip":
        yield from _archive(path)
    elif path.suffix.lower() in (".csv", ".tsv"):
        yield from _table(path)
    else:
        yield _file(path, place)


def _file(path: Path, name: str) -> Sample:
    def read(bits: int) -> Decoded:
        return decode_file(path, bits=bits)

    return Sample(name=name, read=read, folder=path.parent.name or None)


def _folder(folder: Path) -> Iterator[Sample]:
    """All images below it, in order; hidden files and folders are left out."""
    found = False
    for place, folders, files in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                found = True
                yield _file(Path(place) / name, str(Path(place) / name))
    if not found:
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise BenchError(f"{folder} has no image in it or below it (files that end in {kinds})")


def _archive(path: Path) -> Iterator[Sample]:
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise BenchError(f"cannot read the archive {path}: {error}") from error
    with archive:
        for member in archive.infolist():
            if member.is_dir() or Path(member.filename).suffix.lower() not in IMAGE_SUFFIXES:
                continue
            parts = Path(member.filename).parts
            if any(part.startswith((".", "__MACOSX")) for part in parts):
                continue
            # Read at once: the archive is one file, which threads cannot share.
            read = partial(_given, _member(archive, member), member.filename)
            folder = parts[-2] if len(parts) > 1 else None
            yield Sample(name=f"{path}/{member.filename}", read=read, folder=folder)


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes | DecodeFailure:
    if member.file_size > MAX_MEMBER:
        return DecodeFailure(f"unpacks to {member.file_size / 2**30:.1f} GiB")
    try:
        return archive.read(member)
    except (OSError, RuntimeError, NotImplementedError, ValueError, zipfile.BadZipFile) as error:
        return DecodeFailure(str(error) or type(error).__name__)
    except Exception as error:  # zlib.error, lzma.LZMAError and others of damaged members
        return DecodeFailure(str(error) or type(error).__name__)


def _given(content: bytes | DecodeFailure, name: str, bits: int) -> Decoded:
    return content if isinstance(content, DecodeFailure) else decode_bytes(content, name, bits=bits)


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
                    yield _file(path.parent / Path(own).expanduser(), own)
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
    for line in file:
        name = line.rstrip("\r\n")
        if name:
            yield _file(Path(name).expanduser(), name)


def _is_image(what: Any) -> bool:
    if isinstance(what, np.ndarray):
        return what.ndim == 3
    return hasattr(what, "convert") and hasattr(what, "getexif")


def _image(what: Any, number: int) -> Sample:
    if isinstance(what, np.ndarray):
        if what.dtype != np.uint8 or what.shape[2] != 3:
            raise BenchError(
                "an image must be uint8 [height, width, 3] in RGB, got "
                f"{what.dtype} {list(what.shape)}"
            )
        return Sample(name=str(number), read=lambda _: what)
    name = getattr(what, "filename", "") or str(number)
    return Sample(name=str(name), read=lambda bits: decode_image(what, bits=bits))


def _unknown(what: Any) -> BenchError:
    return BenchError(
        "only paths and images (of Pillow, or uint8 [height, width, 3]) can be classified, got "
        f"{type(what).__name__}"
    )
