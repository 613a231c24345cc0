"""What texts say of a data set, and what is made of each before anything else sees it.

Nobody reads thousands of texts, so each is looked at once, when it is read.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from bench.data.dataset import MAX_KEPT, DataIssue, naming
from bench.data.text.reading import (
    entities,
    has_control_characters,
    is_one_word,
    plain_text,
)
from bench.errors import bounded, counted
from bench.system.visible_text import visible

NAMED = 5
SHOWN = 40
"""Characters of a text in a message."""


@dataclass(frozen=True, kw_only=True)
class CleanTexts:
    """Texts as data sets keep them `[n]`, empty where one says nothing, and what is to be told."""

    texts: tuple[str, ...]
    issues: tuple[DataIssue, ...]


def clean_texts(
    ids: Sequence[str], places: Sequence[str], written: Sequence[str], *, unescape: bool
) -> CleanTexts:
    """What `plain_text` makes of the texts, and of their HTML entities where they are unescaped.

    `places` say in messages where the texts of these samples (`ids`) stand.
    """
    marked = {i: found for i, text in enumerate(written) if (found := entities(text))}
    if unescape:
        written = [html.unescape(text) if i in marked else text for i, text in enumerate(written)]
    texts = tuple(map(plain_text, written))
    steering = [i for i, text in enumerate(texts) if text and has_control_characters(written[i])]
    empty = [i for i, text in enumerate(texts) if not text]
    short = [i for i, text in enumerate(texts) if text and is_one_word(text)]
    kinds = sorted({each for found in marked.values() for each in found})
    issues: list[DataIssue] = []

    def tell(kind: str, which: Sequence[int], message: str, *, quoted: bool = False) -> None:
        if which:
            shown = [f"{places[i]}{f' ({_start(texts[i])})' if quoted else ''}" for i in which]
            issues.append(
                DataIssue(
                    kind=kind,
                    message=f"{message}: {naming(shown, at_most=NAMED)}.",
                    count=len(which),
                    samples=tuple(ids[i] for i in which[:MAX_KEPT]),
                )
            )

    number = counted(len(empty), "text")
    tell("empty-text", empty, f"{number} left out (empty, or nothing but blanks and signs that "
         "show nothing)")  # fmt: skip
    tell("one-word", short, f"{counted(len(short), 'text')} of one word or none", quoted=True)
    number = counted(len(steering), "text")
    tell("control-characters", steering, f"Control characters were taken out of {number}")
    number = counted(len(marked), "text")
    some = naming(kinds, at_most=3)
    if unescape:
        tell("html", list(marked), f"HTML entities ({some}) became characters in {number}")
    else:
        stay = (
            f"HTML entities ({some}) stay as they are in {number}; `unescape: true`, as an option"
        )
        tell("html", list(marked), f"{stay} of the data set, makes characters of them")
    return CleanTexts(texts=texts, issues=tuple(issues))


def _start(text: str) -> str:
    return visible(bounded(text, SHOWN))
