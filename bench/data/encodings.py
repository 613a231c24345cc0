"""How bytes are read as text where they say so themselves."""

from __future__ import annotations

import codecs

UTF_8 = "UTF-8"

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),  # begins as the next one does
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)


def unicode_text(content: bytes) -> tuple[str, str] | None:
    """The text without a mark of its encoding, and the name of that: UTF-8, or what a mark says.

    None where it is neither. Raises `UnicodeDecodeError` for what is not what its mark says.
    """
    marked = next((each for each in _MARKS if content.startswith(each[0])), None)
    _, encoding, name = marked or (b"", "utf-8-sig", UTF_8)
    try:
        return content.decode(encoding), name
    except UnicodeDecodeError:
        if marked is not None:
            raise
        return None
