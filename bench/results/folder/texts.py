"""`texts.json`: what the report shows of test texts, so that it needs neither data nor network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field

from bench.results.folder.checks import read_text
from bench.results.folder.run import write_json
from bench.system.checked_json import checked_json

FILE = "texts.json"
MAX_SHOWN, MAX_WORDS = 100, 100
MAX_TEXT, MAX_WORD = 400, 40
"""Characters that are kept."""

_Text = Annotated[str, Field(max_length=MAX_TEXT + 1)]
_Word = Annotated[str, Field(max_length=MAX_WORD + 1)]
_Strict = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A part of a text, and by how much a probability `falls` where the text lacks it."""

    __pydantic_config__ = _Strict

    part: _Word
    falls: Annotated[float, Field(ge=-1, le=1)]


@dataclass(frozen=True, kw_only=True)
class ShownText:
    """The beginning of a text that a trial gets wrong, and what in it counts most for that.

    `parts` are words, or of long texts several together; nothing where the run has no checkpoint.
    """

    __pydantic_config__ = _Strict

    sample: str
    text: _Text
    parts: Annotated[tuple[LeftOut, ...], Field(max_length=MAX_WORDS)] = ()


@dataclass(frozen=True, kw_only=True)
class TestTexts:
    """The test texts of a run as its `trial` sees them, whose network takes `most` tokens.

    `tokens` are how many it sees of each, of `cut` ones not the end; `shown` are texts that it gets
    wrong, the worst first.
    """

    __pydantic_config__ = _Strict
    __test__ = False

    trial: str
    most: Annotated[int, Field(ge=1)]
    tokens: Mapping[str, Annotated[int, Field(ge=0)]]
    cut: tuple[str, ...]
    shown: Annotated[tuple[ShownText, ...], Field(max_length=MAX_SHOWN)]


def write_texts(folder: Path, texts: TestTexts) -> None:
    """Keep what the report shows, in place of what was kept before."""
    write_json(folder / FILE, asdict(texts))


def read_texts(folder: Path) -> TestTexts | None:
    """What `write_texts` kept; None where it is missing or damaged: texts only illustrate."""
    try:
        return checked_json(TestTexts, read_text(folder / FILE))
    except (OSError, ValueError):
        return None


def beginning(text: str, most: int) -> str:
    """The text in one line, cut behind so many characters."""
    line = " ".join(text[: 4 * most].split())
    return line if len(line) <= most and len(text) <= 4 * most else f"{line[:most]}…"
