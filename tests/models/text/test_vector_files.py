"""Word vectors in every form in which they are shared, and files that are none."""

from __future__ import annotations

import gzip
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.errors import WeightsError
from bench.models.text import vector_files
from bench.models.text.vector_files import index_of, read_vectors

WORDS = ("the", "ночь\x85", "好", ". . .", "n't")
ROWS = np.array([[1, -2.5, 3e-3], [0, 1, 2], [4, 5, 6], [7, 8, 9], [-1, 0.5, 0]], np.float32)


def as_lines(separator: str = " ", end: str = "\n") -> str:
    rows = zip(WORDS, ROWS, strict=True)
    return "".join(separator.join([word, *map(repr, map(float, row))]) + end for word, row in rows)


def glove(path: Path) -> Path:
    path.write_text(as_lines(), encoding="utf-8")
    return path


def glove_of_windows(path: Path) -> Path:
    path.write_bytes(b"\xef\xbb\xbf" + as_lines(end="\r\n").encode())
    return path


def tabs(path: Path) -> Path:
    path.write_text(as_lines("\t"), encoding="utf-8")
    return path


def word2vec_text(path: Path) -> Path:
    path.write_text("5 3\n" + as_lines(end=" \n"), encoding="utf-8")
    return path


def word2vec_binary(path: Path) -> Path:
    rows = zip(WORDS, ROWS, strict=True)
    body = b"".join(
        word.replace(" ", "_").encode() + b" " + row.tobytes() + b"\n" for word, row in rows
    )
    path.write_bytes(b"5 3\n" + body)
    return path


def without_ends_of_lines(path: Path) -> Path:
    rows = zip(WORDS, ROWS, strict=True)
    body = (word.replace(" ", "_").encode() + b" " + row.tobytes() for word, row in rows)
    path.write_bytes(b"5 3\n" + b"".join(body))
    return path


def packed(path: Path) -> Path:
    path.write_bytes(gzip.compress(glove(path).read_bytes()))
    return path


def array(path: Path) -> Path:
    path = path.with_suffix(".npy")
    np.save(path, ROWS.astype(np.float64))
    return path


def array_with_text(path: Path) -> Path:
    path.with_suffix(".txt").write_text("\n".join(WORDS), encoding="utf-8")
    return array(path)


def array_with_list(path: Path) -> Path:
    path.with_suffix(".json").write_text(json.dumps(WORDS))
    return array(path)


def array_with_rows(path: Path) -> Path:
    rows = {word: row for row, word in reversed([*enumerate(WORDS)])}
    path.with_suffix(".json").write_text(json.dumps(rows))
    return array(path)


def array_with_table(path: Path) -> Path:
    table = pa.table({"row": range(5), "index": WORDS})
    pq.write_table(table, path.with_name("words_index.parquet"))
    return array(path)


@pytest.mark.parametrize(
    "write",
    [
        glove,
        glove_of_windows,
        tabs,
        word2vec_text,
        word2vec_binary,
        without_ends_of_lines,
        packed,
        array_with_text,
        array_with_list,
        array_with_rows,
        array_with_table,
    ],
)
def test_vectors_are_read_in_every_form(write: Callable[[Path], Path], tmp_path: Path) -> None:
    found = read_vectors(write(tmp_path / "words.vec"))
    assert [word.replace("_", " ") for word in found.words] == list(WORDS)
    assert found.vectors.dtype == np.float32
    assert np.array_equal(found.vectors, ROWS)
    assert not found.remarks


def test_repeated_words_count_once_and_broken_ones_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(b"a 1 2\n\xff\xfe 3 4\na 5 6\nb 7 8\n")
    found = read_vectors(path)
    assert found.words == ("a", "b")
    assert found.vectors.tolist() == [[1, 2], [7, 8]]
    assert [remark.split(" ", 1)[0] for remark in found.remarks] == ["1", "1"]
    np.save(tmp_path / "c.npy", ROWS[:3])
    (tmp_path / "c.json").write_text('["x", "y", "x"]')
    twice = read_vectors(tmp_path / "c.npy")
    assert (twice.words, twice.vectors.tolist()) == (("x", "y"), ROWS[:2].tolist())
    assert len(twice.remarks) == 1


BAD = {
    "empty": (b"", "is empty"),
    "short line": (b"a 1 2\nb 1\n", ":2 has 1 number where 2 are expected"),
    "no number": (b"a 1 2\nb 1 x\n", ":2 has something else than 2 numbers"),
    "endless": (b"a 1 2\nb 1 inf\n", ":2 has a number that is not finite"),
    "prose": (b"Hello!\nThis is a letter.\n", "holds no word vectors"),
    "fewer words": (b"3 2\na 1 2\nb 3 4\n", "3 words, and has 2"),
    "no words": (b"0 2\n", "0 vectors of 2 numbers"),
    "too wide": (b"2 99999999\na 1\n", "99999999 numbers"),
    "cut off": (b"2 2\na " + struct.pack("<2f", 1, 2) + b"\nb \x00", "ends in word 2 of 2"),
    "huge count": (b"999999999999 2\na " + struct.pack("<2f", 1, 2), "ends in word 2 of 999,"),
    "noise": (b"1 2\na " + struct.pack("<2f", 1, float("nan")), "not finite"),
    "no utf-8": (b"\xff 1 2\n", "UTF-8"),
    "zip": (b"PK\x03\x04....", "unpack it"),
    "pickle": (pickle.dumps({"a": [1.0]}), "pickle"),
    "fasttext": (struct.pack("<2i", 793712314, 12) + b"\n", ".vec"),
    "half a gzip": (gzip.compress(b"a 1 2\nb 3 4\n" * 99)[:40], "is damaged"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_holds_no_vectors_is_refused(name: str, tmp_path: Path) -> None:
    content, message = BAD[name]
    path = tmp_path / "words.txt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"words\.txt") as raised:
        read_vectors(path)
    assert message in str(raised.value)


def test_there_is_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_files, "MAX_VALUES", 2)
    for path in (glove(tmp_path / "a.txt"), array_with_text(tmp_path / "b.vec")):
        with pytest.raises(WeightsError, match="more than 2 numbers; make a file of its first"):
            read_vectors(path)


def test_an_array_needs_one_index_that_fits(tmp_path: Path) -> None:
    path = array(tmp_path / "v.npy")
    with pytest.raises(WeightsError, match=r"need one file that names their rows: v\.txt"):
        read_vectors(path)
    for name in ("a_index.txt", "index_b.txt"):
        (tmp_path / name).write_text("a\n")
    with pytest.raises(WeightsError, match=r"there are a_index\.txt, index_b\.txt"):
        read_vectors(path)
    own = tmp_path / "v.txt"
    own.write_text("a\nb\n")
    assert index_of(path) == own
    with pytest.raises(WeightsError, match=r"names 2 words, and v\.npy has 5 rows"):
        read_vectors(path)
    own.unlink()
    for rows in ('{"a": 0, "b": 2}', '{"a": [0]}', '["a", 1]', "[" * 9999):
        own.with_suffix(".json").write_text(rows)
        with pytest.raises(WeightsError, match=r"must hold a list of words|is damaged"):
            read_vectors(path)
    np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(WeightsError, match="damaged"):
        read_vectors(path)
    np.save(path, np.zeros((2, 3), np.int64))
    with pytest.raises(WeightsError, match=r"array \[2, 3\] of int64"):
        read_vectors(path)
    with pytest.raises(WeightsError, match="there is no file of word vectors"):
        read_vectors(tmp_path / "none.vec")
