"""What texts say of a data set, and what is made of each before anything else sees it.

Nobody reads thousands of texts, so each is looked at once, when it is read.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
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
    quoted = {i: f"{places[i]} ({visible(bounded(texts[i], SHOWN))})" for i in short}
    told = (
        ("empty-text", empty, places, f"{counted(len(empty), 'text')} left out (empty, or nothing "
         "but blanks and signs that show nothing)"),
        ("one-word", short, quoted, f"{counted(len(short), 'text')} of one word or none"),
        ("control-characters", steering, places,
         f"Control characters were taken out of {counted(len(steering), 'text')}"),
        ("html", list(marked), places, _html_text(marked, unescape=unescape)),
    )  # fmt: skip
    issues = tuple(
        DataIssue(
            kind=kind,
            message=f"{message}: {naming([shown[i] for i in which], at_most=NAMED)}.",
            count=len(which),
            samples=tuple(ids[i] for i in which[:MAX_KEPT]),
        )
        for kind, which, shown, message in told
        if which
    )
    return CleanTexts(texts=texts, issues=issues)


def _html_text(marked: Mapping[int, Sequence[str]], *, unescape: bool) -> str:
    some = naming(sorted({each for found in marked.values() for each in found}), at_most=3)
    number = counted(len(marked), "text")
    if unescape:
        return f"HTML entities ({some}) became characters in {number}"
    return (
        f"HTML entities ({some}) stay as they are in {number}; `unescape: true`, as an option of "
        "the data set, makes characters of them"
    )
