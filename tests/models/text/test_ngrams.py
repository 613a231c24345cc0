"""N-grams and their weights, against scikit-learn's vectorisers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.errors import BenchError
from bench.models.text.ngrams import (
    AUTO,
    CHARACTERS,
    JIEBA,
    WORDS,
    NGrams,
    Vocabulary,
    are_unspaced,
    byte_tokenizer,
    chosen_for,
    parse_name,
    texts_of,
)

TEXTS = (
    "The film isn't bad, it is GOOD: 10 of 10!",
    "bad film, bad  bad\nmusic",
    "Das größte Kino — déjà vu, naïve coöperation",
    "",
    "I a ! ?",
    "这家酒店的优点：便宜",
    "a_b x1 ½² ٣٤ नमस्ते दुनिया 😀😀",
)


@pytest.mark.parametrize(
    ("unit", "lengths", "options"),
    [
        (WORDS, (1, 2), {}),
        (WORDS, (2, 3), {}),
        (CHARACTERS, (1, 3), {"analyzer": "char"}),
        (CHARACTERS, (2, 5), {"analyzer": "char"}),
    ],
)
def test_weights_are_those_of_scikit_learn(
    unit: str, lengths: tuple[int, int], options: dict[str, Any]
) -> None:
    text = pytest.importorskip("sklearn.feature_extraction.text")
    reference = text.TfidfVectorizer(ngram_range=lengths, **options).fit(TEXTS[:5])
    ngrams = NGrams(unit=unit, shortest=lengths[0], longest=lengths[1])
    vocabulary = Vocabulary.of(ngrams, TEXTS[:5])
    assert list(vocabulary.columns) == list(reference.get_feature_names_out())
    found = vocabulary.weighted(TEXTS).toarray()
    np.testing.assert_allclose(found, reference.transform(TEXTS).toarray(), atol=1e-7)
    restored = Vocabulary.restored(ngrams, vocabulary.stored(), vocabulary.idf)
    assert np.array_equal(restored.weighted(TEXTS).toarray(), found)


def test_a_text_weighs_the_same_whatever_is_beside_it() -> None:
    vocabulary = Vocabulary.of(NGrams(unit=CHARACTERS, shortest=1, longest=2), TEXTS)
    together = vocabulary.weighted(TEXTS).toarray()
    alone = np.concatenate([vocabulary.weighted([text]).toarray() for text in TEXTS])
    assert np.array_equal(together, alone)


def test_names_say_which_ngrams_count() -> None:
    assert parse_name("tfidf").unit == AUTO
    assert parse_name("tfidf/words") == NGrams(unit=WORDS, shortest=1, longest=2)
    assert parse_name("tfidf/characters-2-5") == NGrams(unit=CHARACTERS, shortest=2, longest=5)
    assert parse_name("tfidf/jieba").unit == JIEBA
    for name in ("tfidf/", "tfidf/auto", "tfidf/letters", "tfidf/words-3", "tfidf/words-1-2-3"):
        with pytest.raises(BenchError, match=f"tfidf/characters-2-5; got '{name}'"):
            parse_name(name)
    for name in ("tfidf/words-0-2", "tfidf/words-3-2", "tfidf/words-1-11"):
        with pytest.raises(BenchError, match="must rise from 1 to 10"):
            parse_name(name)


def test_scripts_without_spaces_are_read_by_character() -> None:
    chinese, mixed = ["房间很大，服务好。", "酒店 OK"], ["房间很大", "a long line of words"]
    assert are_unspaced(chinese)
    assert not are_unspaced(mixed)
    assert not are_unspaced(["안녕하세요 세계", "123 !?", ""])
    auto = parse_name("tfidf")
    assert chosen_for(auto, chinese) == NGrams(unit=CHARACTERS, shortest=1, longest=2)
    assert chosen_for(auto, mixed) == parse_name("tfidf/words")
    assert chosen_for(parse_name("tfidf/words"), chinese).unit == WORDS


@pytest.mark.campaign
def test_words_of_jieba() -> None:
    pytest.importorskip("jieba")
    found = NGrams(unit=JIEBA, shortest=1, longest=2).of("酒店的优点 OK")
    assert list(found) == ["酒店", "的", "优点", "ok", "酒店 的", "的 优点", "优点 ok"]


def test_bytes_are_their_own_ids() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_str(byte_tokenizer())
    every = "".join(map(chr, range(1, 0x250))) + "这 😀\n\n x"
    for text in (*TEXTS, every):
        ids = tokenizer.encode(text).ids
        assert bytes(ids) == text.encode()
        row = np.array([[*ids, -1, -1]], np.float32)
        assert texts_of(row) == [text]
    assert texts_of(np.array([[*"é这".encode()][:4]])) == ["é"]


def test_texts_without_ngrams_make_no_vocabulary() -> None:
    with pytest.raises(ValueError, match="no training text has any n-gram of words"):
        Vocabulary.of(parse_name("tfidf/words"), ["a", "!"])
    found = Vocabulary.of(parse_name("tfidf/words"), ["good film"])
    with pytest.raises(ValueError, match="3 n-grams with 2 weights"):
        Vocabulary.restored(found.ngrams, found.stored(), found.idf[:2])
