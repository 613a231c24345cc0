"""Files of word vectors as people have them: GloVe, word2vec, fastText, and arrays with an index.

They are read once, row by row into one array, and nothing in them is executed: no pickle is opened.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from bench.errors import WeightsError, counted

Floats = npt.NDArray[np.float32]

INDEX_SUFFIXES = (".parquet", ".json", ".txt")
"""Of the file beside an array that says which word each row is of."""

MAX_DIMENSIONS, MAX_WORD_BYTES, MAX_VALUES = 10_000, 4096, 10**9

_GZIP, _ZIP, _PICKLE = b"\x1f\x8b", b"PK\x03\x04", b"\x80"
_FASTTEXT_MODEL = (793712314).to_bytes(4, "little")
_BOM = b"\xef\xbb\xbf"
_PRINTED = bytes(range(0x21, 0x7F))


@dataclass(frozen=True, kw_only=True, eq=False)
class WordVectors:
    """Different `words`, and the vector of each `[words, d]`; `remarks` say what was left out."""

    words: Sequence[str]
    vectors: Floats
    remarks: tuple[str, ...] = ()


def read_vectors(path: Path) -> WordVectors:
    """The vectors of a file, by its content; of `.npy` with the index that lies beside it.

    Raises `WeightsError` where it is missing, damaged, or nothing of the kind.
    """
    if not path.is_file():
        raise WeightsError(f"there is no file of word vectors {path}")
    with _damage_told(path):
        if path.suffix == ".npy":
            found = _with_index(path, index_of(path))
        else:
            with _opened(path) as file:
                found = _read_lines(path, file)
    if found.vectors.size > MAX_VALUES:
        raise _too_many(path)
    return found


def index_of(path: Path) -> Path:
    """The file beside an array of vectors that names its rows.

    It has the array's name with another ending, or is the only one whose name says `index`.
    """
    others = [each for each in sorted(path.parent.iterdir()) if each.suffix in INDEX_SUFFIXES]
    of_name = [each for each in others if each.stem == path.stem]
    found = of_name or [each for each in others if "index" in each.stem.lower()]
    if len(found) == 1:
        return found[0]
    listed = f"; there are {', '.join(each.name for each in found)}" if found else ""
    raise WeightsError(
        f"the vectors in {path} need one file that names their rows: {path.stem}.txt (a word a "
        f"line), {path.stem}.json (a list) or {path.stem}.parquet (a column){listed}"
    )


# Lines ------------------------------------------------------------------------------------------


class _Rows:
    """Words and their vectors, as they come, in memory that grows."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self.read = 0
        self._words: dict[str, None] = {}
        self._memory = bytearray()
        self._repeated = self._unreadable = 0

    def add(self, path: Path, word: bytes, numbers: Floats) -> None:
        self.read += 1
        try:
            text = word.decode()
        except UnicodeDecodeError:
            text = ""
        if not text:
            self._unreadable += 1
        elif text in self._words:
            self._repeated += 1
        elif len(self._memory) > 4 * MAX_VALUES:
            raise _too_many(path)
        else:
            self._words[text] = None
            self._memory += numbers.tobytes()

    def vectors(self, path: Path) -> WordVectors:
        if not self._words:
            raise WeightsError(f"no word in {path} can be read: write it in UTF-8")
        return WordVectors(
            words=tuple(self._words),
            vectors=np.frombuffer(self._memory, np.float32).reshape(-1, self.dimensions),
            remarks=_remarks(repeated=self._repeated, unreadable=self._unreadable),
        )


def _remarks(*, repeated: int, unreadable: int = 0) -> tuple[str, ...]:
    reasons = {
        "a word that stands there before": repeated,
        "no word, or one that is no UTF-8": unreadable,
    }
    return tuple(
        f"{counted(rows, 'row')} of its file with {what}: left out"
        for what, rows in reasons.items()
        if rows
    )


def _read_lines(path: Path, file: BinaryIO) -> WordVectors:
    """GloVe's lines, or those of word2vec and fastText, whose first says how many follow."""
    first = file.readline(MAX_DIMENSIONS * 40)
    _refuse_others(path, first)
    first = first.removeprefix(_BOM)
    header = first.split()
    if len(header) == 2 and all(part.isdigit() for part in header):
        count, dimensions = (int(part) for part in header)
        if not 1 <= dimensions <= MAX_DIMENSIONS or not count:
            raise _not_vectors(path, f"its first line says {count} vectors of {dimensions} numbers")
        start = file.tell()
        sample = file.read(MAX_WORD_BYTES)
        file.seek(start)
        rows = _Rows(dimensions)
        if _is_binary(sample, dimensions):
            _add_binary(path, file, rows, count)
        else:
            _add_text(path, file, rows, at=2)
            _check_count(path, rows, count)
    else:
        dimensions = len(first.split(_separator(first))) - 1
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise _not_vectors(path, "its first line is no word with numbers behind it")
        rows = _Rows(dimensions)
        _add_text(path, file, rows, [first], at=1)
    return rows.vectors(path)


def _add_text(
    path: Path, file: BinaryIO, rows: _Rows, before: Sequence[bytes] = (), *, at: int
) -> None:
    """Add a word a line, counted from `at`; some have been read `before`."""
    longest = MAX_WORD_BYTES + 40 * rows.dimensions
    lines = iter(lambda: file.readline(longest), b"")
    separator = b""
    for number, line in enumerate(chain(before, lines), start=at):
        separator = separator or _separator(line)
        parts = line.rstrip().rsplit(separator, rows.dimensions)
        if len(parts) != rows.dimensions + 1:
            found = counted(len(parts) - 1, "number")
            raise WeightsError(
                f"{path}:{number} has {found} where {rows.dimensions} are expected; the file may "
                "have been cut off: get it again"
            )
        try:
            numbers = np.array([float(part) for part in parts[1:]], np.float32)
        except ValueError:
            raise WeightsError(
                f"{path}:{number} has something else than {rows.dimensions} numbers behind its "
                "word; mend the line or leave it out"
            ) from None
        if not np.isfinite(numbers).all():
            raise WeightsError(
                f"{path}:{number} has a number that is not finite; mend the line or leave it out"
            )
        rows.add(path, parts[0], numbers)


def _separator(line: bytes) -> bytes:
    return b"\t" if b"\t" in line else b" "


def _check_count(path: Path, rows: _Rows, count: int) -> None:
    if rows.read != count:
        raise WeightsError(
            f"{path} says in its first line that it has {counted(count, 'word')}, and has "
            f"{rows.read:,}; get it again, or mend the line"
        )


def _is_binary(sample: bytes, dimensions: int) -> bool:
    """Whether numbers stand behind the first word as they are in memory, and not as text."""
    line = sample.partition(b"\n")[0]
    return any(field.translate(None, _PRINTED) for field in line.rsplit(None, dimensions)[1:])


def _add_binary(path: Path, file: BinaryIO, rows: _Rows, count: int) -> None:
    """Add words, each with a space and its numbers behind it, and perhaps the end of a line."""
    size = 4 * rows.dimensions
    for number in range(1, count + 1):
        word = _word_in(file)
        data = file.read(size)
        if word is None or len(data) < size:
            raise WeightsError(
                f"{path} ends in word {number:,} of {count:,}; it was cut off: get it again"
            )
        numbers = np.frombuffer(data, "<f4").astype(np.float32)
        if not np.isfinite(numbers).all():
            raise WeightsError(
                f"word {number:,} of {path} has a number that is not finite: the file is damaged, "
                "or no binary file of word2vec"
            )
        rows.add(path, word, numbers)


def _word_in(file: BinaryIO) -> bytes | None:
    """What stands in front of the next space; None where there is none."""
    word = bytearray()
    while (letter := file.read(1)) != b" ":
        if not letter or len(word) > MAX_WORD_BYTES:
            return None
        word += letter
    return bytes(word.lstrip(b"\r\n"))


# Arrays -----------------------------------------------------------------------------------------


def _with_index(path: Path, index: Path) -> WordVectors:
    # Mapped, and written by nobody: torch wants memory that could be.
    array = np.load(path, mmap_mode="c", allow_pickle=False)
    if array.ndim != 2 or array.dtype.kind != "f" or not 1 <= array.shape[1] <= MAX_DIMENSIONS:
        raise _not_vectors(path, f"it is an array {list(array.shape)} of {array.dtype}")
    words = _READERS[index.suffix](index)
    if len(words) != len(array):
        raise WeightsError(
            f"{index} names {counted(len(words), 'word')}, and {path.name} has {len(array):,} "
            "rows; both must be of one model"
        )
    if not np.isfinite(array).all():
        raise WeightsError(f"{path} has numbers that are not finite; write it again without them")
    rows = {word: row for row, word in reversed([*enumerate(words)])}
    if len(rows) == len(words):
        return WordVectors(words=words, vectors=array.astype(np.float32, copy=False))
    kept = sorted(rows.values())
    return WordVectors(
        words=tuple(words[row] for row in kept),
        vectors=array[kept].astype(np.float32, copy=False),
        remarks=_remarks(repeated=len(words) - len(kept)),
    )


def _words_of_text(path: Path) -> tuple[str, ...]:
    # Words may hold what only Python takes for the end of a line.
    with path.open(encoding="utf-8-sig", newline=None) as file:
        return tuple(line.removesuffix("\n") for line in file)


def _words_of_json(path: Path) -> tuple[str, ...]:
    """Those of a list, or of an object from words to rows."""
    found = json.loads(path.read_text(encoding="utf-8-sig"))
    if isinstance(found, dict):
        rows = [*found.values()]
        whole = all(type(row) is int for row in rows) and sorted(rows) == [*range(len(rows))]
        found = sorted(found, key=found.__getitem__) if whole else None
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise WeightsError(f"{path} must hold a list of words, or an object from words to rows")
    return tuple(found)


def _words_of_parquet(path: Path) -> tuple[str, ...]:
    """Those of the first column that holds text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(path)
    kinds = (pa.types.is_string, pa.types.is_large_string)
    named = [field.name for field in schema if any(is_kind(field.type) for is_kind in kinds)]
    if not named:
        raise WeightsError(f"{path} has no column of words")
    words = pq.read_table(path, columns=named[:1]).column(0).to_pylist()
    if None in words:
        raise WeightsError(f"row {words.index(None)} of {path} has no word")
    return tuple(words)


_READERS: dict[str, Callable[[Path], tuple[str, ...]]] = {
    ".parquet": _words_of_parquet,
    ".json": _words_of_json,
    ".txt": _words_of_text,
}


# Other files ------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as file:
        packed = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        if not packed:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as inside:
            yield inside  # type: ignore[misc]


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """What libraries raise on files that are damaged, as a message."""
    import pyarrow as pa

    try:
        yield
    except (
        EOFError,
        gzip.BadGzipFile,
        zlib.error,
        ValueError,
        RecursionError,
        pa.ArrowException,
    ) as error:
        reason = str(error).partition("\n")[0]
        raise WeightsError(
            f"{path}, or the index beside it, is damaged ({reason}); get it again"
        ) from error


def _refuse_others(path: Path, start: bytes) -> None:
    """Raise `WeightsError` for files of word vectors that cannot be read."""
    if not start:
        raise WeightsError(f"{path} is empty; get it again")
    if start.startswith(_ZIP):
        raise WeightsError(f"{path} is a zip archive; unpack it, and name the file inside")
    if start.startswith(_FASTTEXT_MODEL):
        raise WeightsError(
            f"{path} is a model of fastText; use the file .vec of the same vectors, which comes "
            "beside it"
        )
    if start.startswith(_PICKLE):
        raise WeightsError(
            f"{path} is a pickle, which could run any code; write the vectors as text, with "
            "gensim by model.wv.save_word2vec_format(FILE)"
        )


def _too_many(path: Path) -> WeightsError:
    return WeightsError(
        f"{path} has more than {MAX_VALUES:,} numbers; make a file of its first lines, which hold "
        "the words that occur most"
    )


def _not_vectors(path: Path, reason: str) -> WeightsError:
    return WeightsError(
        f"{path} holds no word vectors ({reason}): a line is a word with its numbers behind it, "
        "as in the files of GloVe, word2vec and fastText"
    )
