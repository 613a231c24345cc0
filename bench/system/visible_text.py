"""Text of unknown origin, shown so that it can do nothing but be read."""

from __future__ import annotations

import re
import unicodedata

JOINERS = "\u200c\u200d"
"""Without width, but they change how the letters beside them look."""


def visible(text: str, *, keep: str = "") -> str:
    """`text` with every character that shows nothing, or steers what shows it, as an escape.

    Control characters (terminal codes, line ends), marks that turn the direction of writing, and
    bytes of file names that are no Unicode (lone surrogates) become `\\x1b`, `\\u202e`, `\\udcff`.
    Characters in `keep` stay. Different texts stay different, unless they spell such an escape out.
    """
    if text.isprintable():
        return text
    return "".join(c if c in keep or _is_visible(c) else _escape(c) for c in text)


_NUMBER = r"[-+]?[\d.,]+(e[-+]?\d+)?"


def cell_of_csv(text: str) -> str:
    """`text` with nothing invisible, and no formula.

    OWASP, CSV Injection: what begins like a formula and is no number gets an apostrophe. The signs
    that open one have relatives of full or small width, and blanks before them may be dropped.
    """
    text = visible(text)
    first = unicodedata.normalize("NFKC", text.lstrip())[:1]
    number = re.fullmatch(rf"{_NUMBER}( to {_NUMBER})?", text)
    return f"'{text}" if first in tuple("=+-@\N{MINUS SIGN}") and not number else text


def _is_visible(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def reading(text: str) -> str:
    """What people read: equal for texts that differ in Unicode form or in what shows nothing.

    `é` is one character or two, spaces may be of several kinds or stand at the end, and some
    characters have no width.
    """
    composed = unicodedata.normalize("NFC", text)
    shown = "".join(c for c in composed if c in JOINERS or unicodedata.category(c) != "Cf")
    return " ".join(shown.split())
