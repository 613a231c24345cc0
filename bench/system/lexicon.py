"""The words of the embedded language, which its sentences are made of and its tokenizer knows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

Forms: TypeAlias = tuple[str, str]
"""A word with one thing and with several: `soup` and `soups`, `knows` and `know`."""


def _words(words: str) -> tuple[str, ...]:
    return tuple(words.split())


def _nouns(words: str) -> tuple[Forms, ...]:
    return tuple((word, _plural(word)) for word in _words(words))


def _plural(noun: str) -> str:
    if noun.endswith(("s", "sh", "ch", "x")):
        return f"{noun}es"
    return f"{noun[:-1]}ies" if noun.endswith(("dy", "ry")) else f"{noun}s"


def _verbs(words: str) -> tuple[Forms, ...]:
    return tuple((f"{word}s", word) for word in _words(words))


TOPICS: dict[str, tuple[Forms, ...]] = {
    "film": _nouns(
        "film scene actor plot trailer sequel script camera studio director screen comedy drama "
        "ending"
    ),
    "food": _nouns(
        "soup cake salad noodle pie sauce steak curry cheese sandwich cookie pancake dumpling "
        "pickle"
    ),
    "music": _nouns(
        "song album guitar concert drum choir melody band violin singer chorus piano record flute"
    ),
    "school": _nouns(
        "lesson teacher exam book classroom essay library lecture course tutor campus pupil "
        "diploma pencil"
    ),
    "sport": _nouns(
        "match goal coach team stadium race player referee trophy league ball runner striker season"
    ),
    "travel": _nouns(
        "hotel flight train beach museum harbour island station tour ferry airport castle garden "
        "trail"
    ),
}
"""The things that are spoken of, by topic."""

PEOPLE = _nouns(
    "guest neighbour visitor critic friend doctor driver farmer tourist student parent lawyer"
)
"""Who speaks of them, whatever the topic."""

PRAISE = _words(
    "wonderful superb lovely brilliant charming delightful excellent splendid perfect marvellous "
    "great good amazing impressive beautiful enjoyable"
)
BLAME = _words(
    "awful terrible dreadful horrible boring bland poor bad ugly dull shabby mediocre tedious "
    "miserable annoying disappointing"
)
NEGATORS = _words("not never hardly scarcely")
"""In front of praise or blame they make the other of it."""
INTENSIFIERS = _words("very really quite truly")
"""They leave it what it is."""

PREPOSITIONS = _words("near behind beside above below with")
MENTION = _verbs("see know mention remember notice recall report explain hear read discover find")
"""What people do with things, and which says nothing of these."""
DELIGHT, DISMAY = (
    _verbs("smile cheer clap return stay rejoice"),
    _verbs("frown leave complain sigh protest groan"),
)
"""What people do because of things."""
BE: Forms = ("is", "are")
JOINTS = _words("the that and so because ,")


def _all_words() -> Iterable[str]:
    for pairs in (*TOPICS.values(), PEOPLE, MENTION, DELIGHT, DISMAY, (BE,)):
        for pair in pairs:
            yield from pair
    for words in (PRAISE, BLAME, NEGATORS, INTENSIFIERS, PREPOSITIONS, JOINTS):
        yield from words


VOCABULARY = tuple(sorted(_all_words()))
"""Every word of the language, once."""
