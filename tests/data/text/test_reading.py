"""From bytes to texts: encodings as files have them, and what of a text is kept."""

from __future__ import annotations

import builtins
import unicodedata
from typing import Any

import pytest

from bench.data.text.reading import (
    detected,
    entities,
    has_control_characters,
    is_one_word,
    looks_like_text,
    plain_text,
    told,
)
from bench.errors import DataError

FRENCH = "Le café était très bon, mais le garçon n'a pas souri; déçu.\nÀ bientôt, où êtes-vous?\n"
CHINESE = "这家酒店的优点：便宜。\n房间很干净，服务也很周到，下次还会来。\n"
JAPANESE = "とても良い商品でした。また買います。\n最悪です。二度と買いません。\n"
RUSSIAN = "Очень хороший товар, рекомендую всем.\nУжасно, не покупайте это никогда.\n"
KOREAN = "정말 좋은 제품입니다. 추천합니다.\n최악입니다. 다시는 사지 않겠습니다.\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (FRENCH, "cp1252"), (FRENCH, "latin-1"), (CHINESE, "gb18030"), (CHINESE[:6], "gbk"),
        (JAPANESE, "cp932"), (JAPANESE, "euc_jp"), (RUSSIAN, "cp1251"), (RUSSIAN, "koi8_r"),
        (KOREAN, "cp949"),
    ],
)  # fmt: skip
def test_usual_encodings_are_detected_in_a_few_lines(text: str, encoding: str) -> None:
    pytest.importorskip("charset_normalizer")
    content = f"text,label\n{text}".encode(encoding)
    assert told(content, None, "it") is None
    assert detected(content, "it")[0] == f"text,label\n{text}"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_says_so_itself(encoding: str) -> None:
    found = told(CHINESE.encode(encoding), None, "it")
    assert found == (CHINESE, "UTF-8" if "8" in encoding else encoding.upper())


def test_an_encoding_that_is_told_is_taken_or_refused() -> None:
    assert told("é".encode("cp437"), "cp437", "it") == ("é", "cp437")
    assert told(b"\xef\xbb\xbfa", "utf-8", "it") == ("a", "utf-8")
    with pytest.raises(DataError, match=r"x\.csv must be text in ascii, as the option encoding"):
        told("é".encode(), "ascii", "x.csv")
    with pytest.raises(DataError, match="its first bytes say utf-16"):
        told(b"\xff\xfea", None, "it")


def test_without_what_detects_encodings_it_has_to_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "charset_normalizer":
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(DataError, match=r"x\.csv is not UTF-8; say which encoding it has, .*bench"):
        detected("é".encode("cp1252"), "x.csv")


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("a\r\nb\rc\u2028d\n", "a\nb\nc\nd"),
        ("\ufeff a\x00b\x1b[1m\tc\x7f ", "ab[1m\tc"),
        ("e\u0301te\u0301", "été"),
        ("①ﬁ２", "①ﬁ２"),
        ("half \ud83d of it", "half  of it"),
        ("👩‍👩‍👧 👍🏽", "👩‍👩‍👧 👍🏽"),
        ("\u202bשלום עולם\u202c", "\u202bשלום עולם\u202c"),
        ("می‌خواهم", "می‌خواهم"),
        ("好评", "好评"),
        (" \t\r\n\x07\u200b\u00a0", ""),
    ],
)
def test_what_is_kept_of_a_text(written: str, kept: str) -> None:
    found = plain_text(written)
    assert found == kept
    assert plain_text(found) == found
    assert unicodedata.is_normalized("NFC", found)


def test_what_is_noticed_of_a_text() -> None:
    assert entities("a &amp; b &#39;c&#x27; &nosuch; &; AT&T; R&D") == ["&amp;", "&#39;", "&#x27;"]
    assert has_control_characters("a\x07b")
    assert not has_control_characters("\ufeffa\r\nb\tc")
    assert all(map(is_one_word, ["Good!", "...", "don", "不错", "+1"]))
    assert not any(map(is_one_word, ["Very good", "不错的酒店", "ดีมากครับ"]))
    assert looks_like_text("é".encode("cp1252"))
    assert looks_like_text("a".encode("utf-16"))
    assert not looks_like_text(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
