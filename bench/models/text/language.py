"""The backbone `language_tiny`: a small transformer for the embedded language; no torch here.

Its weights are not kept anywhere: `weights: language` makes them, from sentences that are generated
too.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from bench.system.lexicon import VOCABULARY

NAME = "language_tiny"
WEIGHTS = "language"
"""What its weights are called."""
UNKNOWN, MASK = "[UNK]", "[MASK]"
WORDS = (UNKNOWN, MASK, *VOCABULARY)
"""By their ids."""
LENGTH = 24
"""No sentence of the language has more words."""

_CONFIG = {"words": len(WORDS), "width": 64, "blocks": 2, "heads": 4, "positions": LENGTH}


def config() -> str:
    """What describes the network, as JSON."""
    return json.dumps({"config": _CONFIG, "pooling": "mean"}, sort_keys=True)


@lru_cache(maxsize=1)
def tokenizer() -> str:
    """The tokenizer as JSON of the library `tokenizers`: a token is a word, or a comma."""
    said: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": at,
                "content": word,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for at, word in enumerate((UNKNOWN, MASK))
        ],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: at for at, word in enumerate(WORDS)},
            "unk_token": UNKNOWN,
        },
    }
    return json.dumps(said)
