"""Augmentations of texts: how rows of tokens are varied in training.

Each is one function from the row length to a transform: from the words that the tokens of a text
are of (`words` of `Tokenised`, without padding) and a generator to the positions of the tokens that
stay, in their new order. What the tokenizer adds at both ends stays where it is. Two of the four
operations of EDA need a dictionary of synonyms in the language of the texts: they are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from bench.data.images.augmentations import AUGMENTATIONS
from bench.data.text.tokens import Tokens
from bench.system.token_rows import PADDING

Positions = npt.NDArray[np.intp]
TextTransform = Callable[[Tokens, np.random.Generator], Positions]
"""See above."""

_Share = Annotated[
    float,
    Field(ge=0, lt=1, description="The probability that one is left out.", examples=[0.1]),
]


@AUGMENTATIONS.register("token_dropout", inputs="text")
def token_dropout(size: int, *, p: _Share = 0.1) -> TextTransform:
    """Tokens left out at random, at least one stays (word dropout of Iyyer et al., 2015)."""

    def dropped(words: Tokens, draw: np.random.Generator) -> Positions:
        own = np.flatnonzero(words != PADDING)
        return _without(words, own[_left_out(len(own), p, draw)])

    return dropped


@AUGMENTATIONS.register("word_deletion", inputs="text")
def word_deletion(size: int, *, p: _Share = 0.1) -> TextTransform:
    """Words left out at random, at least one stays (Wei and Zou, EDA, 2019)."""

    def deleted(words: Tokens, draw: np.random.Generator) -> Positions:
        pieces = _words(words)
        chosen = _left_out(len(pieces), p, draw)
        gone = [piece for piece, out in zip(pieces, chosen, strict=True) if out]
        return _without(words, np.concatenate(gone) if gone else np.zeros(0, np.intp))

    return deleted


@AUGMENTATIONS.register("word_swap", inputs="text")
def word_swap(
    size: int,
    *,
    share: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="So many swaps, as a share of the words of a text; at least one.",
            examples=[0.1],
        ),
    ] = 0.1,
) -> TextTransform:
    """Two random words exchanged, several times (Wei and Zou, EDA, 2019)."""

    def swapped(words: Tokens, draw: np.random.Generator) -> Positions:
        pieces = _words(words)
        if len(pieces) < 2:
            return np.arange(len(words))
        order = list(range(len(pieces)))
        for _ in range(max(1, round(share * len(pieces)))):
            one, other = draw.choice(len(pieces), 2, replace=False)
            order[one], order[other] = order[other], order[one]
        own = np.concatenate(pieces)
        positions = np.arange(len(words))
        positions[own] = np.concatenate([pieces[at] for at in order])
        return positions

    return swapped


def _words(words: Tokens) -> list[Positions]:
    """The positions of each word's tokens."""
    own = np.flatnonzero(words != PADDING)
    starts = np.flatnonzero(np.diff(words[own])) + 1
    return [piece for piece in np.split(own, starts) if len(piece)]


def _left_out(count: int, p: float, draw: np.random.Generator) -> npt.NDArray[np.bool_]:
    out = draw.random(count) < p
    if count and out.all():
        out[draw.integers(count)] = False
    return out


def _without(words: Tokens, positions: Positions) -> Positions:
    return np.setdiff1d(np.arange(len(words)), positions)
