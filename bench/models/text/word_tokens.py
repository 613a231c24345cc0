"""What cuts texts into the words of a file of vectors: JSON of the library `tokenizers`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

UNKNOWN = "[no vector]"
"""The token of all words without a vector: its id is the number of words, so that none has it."""

_LETTER = r"[\p{L}\p{M}]"
_BETWEEN_SPACES = r"[\p{Han}\p{Hiragana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]"
"""Letters of scripts that put no space between words: each is taken for a word."""

WORDS = "|".join(
    (
        rf"{_BETWEEN_SPACES}\p{{M}}*",
        rf"{_LETTER}+?(?=n['’]t(?![\p{{L}}\p{{N}}]))",  # do, of don't
        r"n['’]t(?![\p{L}\p{N}])",
        r"['’](?:s|m|d|ll|re|ve)(?![\p{L}\p{N}])",
        r"\p{N}+(?:[.,:]\p{N}+)+",  # 1,000.5
        rf"(?:(?!{_BETWEEN_SPACES})[\p{{L}}\p{{M}}\p{{N}}_])+"
        rf"(?:-(?:(?!{_BETWEEN_SPACES})[\p{{L}}\p{{M}}\p{{N}}])+)*",  # well-known
        r"\.{2,}|-{2,}|''|``",
        r"\S",
    )
)
"""Words as GloVe's vectors were made of them (the Stanford tokenizer's rules for English)."""


def word_tokenizer(words: Sequence[str]) -> str:
    """The tokenizer that gives each word its row; words are lower case where all of these are."""
    lower = is_lower(words)
    normalisers = [{"type": "NFC"}, *([{"type": "Lowercase"}] if lower else [])]
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": {"type": "Sequence", "normalizers": normalisers},
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": f"(?i:{WORDS})" if not lower else WORDS},
                "behavior": "Removed",
                "invert": True,
            },
            "post_processor": None,
            "decoder": None,
            "model": {
                "type": "WordLevel",
                "vocab": {**{word: row for row, word in enumerate(words)}, UNKNOWN: len(words)},
                "unk_token": UNKNOWN,
            },
        },
        ensure_ascii=False,
    )


def is_lower(words: Iterable[str]) -> bool:
    """Whether no word has a capital letter."""
    return all(word == word.lower() for word in words)
