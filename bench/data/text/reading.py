"""From bytes to a text: its encoding, and what of it is no text."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence

from bench.data.encodings import unicode_text
from bench.errors import DataError

USUAL = (
    "cp1252", "gb18030", "cp932", "euc_jp", "big5", "euc_kr", "cp1251", "koi8_r", "cp1250",
    "cp1254", "cp1253", "cp1256", "cp1255", "cp1258", "cp949", "cp874",
)  # fmt: skip
"""Encodings of files that people still have, of those that fit a text alike the likelier first.

`charset_normalizer` knows a hundred, and takes one that nobody uses where few letters tell.
"""
DETECTED_BY = 1 << 17
"""Bytes, of lines that are not ASCII, by which an encoding is detected."""

_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\ufffe\uffff\ud800-\udfff]")
"""Control characters but tab and line end, marks of byte order, and halves of characters."""
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


SAY = "as an option of the data set: `encoding: NAME`, such as cp1252 or gb18030"


def told(content: bytes, encoding: str | None, what: str) -> tuple[str, str] | None:
    """The text and its encoding where somebody says it: the suite, or the bytes themselves.

    Raises `DataError` for bytes that are not what is said.
    """
    if encoding is None:
        try:
            return unicode_text(content)
        except UnicodeDecodeError as error:
            raise DataError(f"{what} is damaged: its first bytes say {error.encoding}") from None
    try:
        return content.decode(encoding).removeprefix("\ufeff"), encoding
    except UnicodeError as error:
        raise DataError(
            f"{what} must be text in {encoding}, as the option encoding says ({error}); without "
            "it the encoding is detected"
        ) from None


def decoded_by(content: bytes, encodings: Sequence[str], what: str) -> tuple[str, str]:
    """The text in the first of `encodings` that it can have, and the name of that.

    Raises `DataError` where it can have none of them.
    """
    for encoding in encodings:
        try:
            return content.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    raise DataError(f"{what} is not UTF-8, and no other encoding fits it; say which it has, {SAY}")


def fitting_encodings(content: bytes, what: str) -> list[str]:
    """Those of `USUAL` in which the bytes read as text, the best first.

    Raises `DataError` without the package `charset_normalizer`.
    """
    try:
        from charset_normalizer import from_bytes
    except ImportError:
        raise DataError(
            f"{what} is not UTF-8; say which encoding it has, {SAY}, or install what detects it: "
            'pip install "bench[text]"'
        ) from None
    telling = b"\n".join(line for line in content.split(b"\n") if not line.isascii())
    some = telling[:DETECTED_BY].rpartition(b"\n")[0] if len(telling) > DETECTED_BY else telling
    fitting = {
        (round(match.chaos, 1), -match.coherence, USUAL.index(name))
        for match in from_bytes(some, cp_isolation=list(USUAL))
        for name in {match.encoding, *match.could_be_from_charset} & set(USUAL)
    }
    return [USUAL[place] for *_, place in sorted(fitting)]


def detected(content: bytes, what: str) -> tuple[str, str]:
    """The text and the encoding that fits it best; raises `DataError` where none can be known."""
    return decoded_by(content, fitting_encodings(content, what), what)


def looks_like_text(start: bytes) -> bool:
    """Whether a file that begins so may be text: it has no zero byte, or a mark of its encoding."""
    return b"\0" not in start or start.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff"))


def plain_text(text: str) -> str:
    """A text as data sets keep it; empty where it says nothing.

    Unicode's composed form (NFC), lines that end with a line feed, no control characters and no
    blanks at its ends. Emoji, joiners and marks of direction stay.
    """
    text = unicodedata.normalize("NFC", _NO_TEXT.sub("", "\n".join(text.splitlines()))).strip()
    return text if any(map(_says_something, text)) else ""


def _says_something(character: str) -> bool:
    return not character.isspace() and unicodedata.category(character) != "Cf"


def has_control_characters(text: str) -> bool:
    """Whether it has what `plain_text` takes out of a text, beside ends of lines."""
    return _NO_TEXT.search(text.replace("\r", "").lstrip("\ufeff")) is not None


def entities(text: str) -> list[str]:
    """The HTML entities in a text, such as `&amp;`."""
    return [each for each in _ENTITY.findall(text) if html.unescape(each) != each]


def is_one_word(text: str) -> bool:
    """Whether a text has one word at most; of scripts without blanks, two characters."""
    words = re.findall(r"\w+", text)
    if len(words) > 1:
        return False
    return not words or len(words[0]) <= 2 or not any(map(_has_no_blanks, words[0]))


def _has_no_blanks(character: str) -> bool:
    """Whether the character's script writes words without blanks between them."""
    name = unicodedata.name(character, "")
    return name.startswith(("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR"))
