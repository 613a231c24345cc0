"""Vocabularies from the texts of a data set: what is in them, and that they are always the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.data.text.tokens import tokenise
from bench.models.text import word_pieces
from bench.models.text.word_pieces import SPECIAL, vocabulary_tokenizer

TEXTS = [
    "The waiter waited, waiting",
    "房间很好，房间很大",
    "wait for the Café",
    "the waiters wait",
    "his",
]

pytestmark = pytest.mark.usefixtures("tokenizers")


@pytest.fixture(scope="module")
def tokenizers() -> None:
    pytest.importorskip("tokenizers")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))


def vocabulary(tokenizer: str) -> list[str]:
    found: dict[str, int] = json.loads(tokenizer)["model"]["vocab"]
    assert list(found.values()) == list(range(len(found)))
    return list(found)


def pieces(tokenizer: str, text: str, length: int = 16) -> list[str]:
    words = vocabulary(tokenizer)
    (row,) = tokenise([text], tokenizer, length=length).ids
    return [words[at] for at in row if at >= 0]


def test_frequent_parts_of_words_are_tokens_and_chinese_characters_are_words() -> None:
    found = vocabulary_tokenizer(TEXTS)
    assert tuple(vocabulary(found)[: len(SPECIAL)]) == SPECIAL
    assert pieces(found, "WAIT") == ["[CLS]", "wait", "[SEP]"]
    assert pieces(found, "waits")[1] == "wait"
    assert pieces(found, "很房")[1:-1] == ["很", "房"]
    assert pieces(found, "cafe")[1:-1] == pieces(found, "Café")[1:-1]
    assert pieces(found, "[MASK] 坏")[1:-1] == ["[UNK]", "[UNK]", "[UNK]", "[UNK]"]
    assert not any("房间" in token for token in vocabulary(found))


def test_the_order_of_texts_and_the_process_change_nothing(tmp_path: Path) -> None:
    """Single characters in the library have ids in the order of a hash map."""
    text = [f"{a}{b}{c}{a}" for a in "abcdefgh" for b in "ijklmno" for c in "pqrst"]
    (tmp_path / "texts.json").write_text(json.dumps(text), encoding="utf-8")
    script = (
        "import json, sys; from pathlib import Path; "
        "from bench.models.text.word_pieces import vocabulary_tokenizer; "
        f"texts = json.loads(Path({str(tmp_path / 'texts.json')!r}).read_text()); "
        "sys.stdout.write(vocabulary_tokenizer(texts))"
    )
    environment = {**os.environ, "BENCH_CACHE": str(tmp_path / "other")}
    told = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert vocabulary_tokenizer(text[::-1]) == told


def test_rare_characters_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_pieces, "MOST_CHARACTERS", 2)
    found = vocabulary_tokenizer(["ab ab ba", "zb"])
    assert set(vocabulary(found)) >= {"a", "b", "##a", "##b", "ab"}
    assert not any("z" in token for token in vocabulary(found))
