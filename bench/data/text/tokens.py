"""Tokens of texts, as networks take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.errors import DataError, import_extra
from bench.system.token_rows import PADDING

Tokens = npt.NDArray[np.int32]

_CHUNK = 4096
"""Texts that are cut at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tokenised:
    """Texts as tokens: `ids` int32 [n, length], `PADDING` behind each text.

    `words` int32 [n, length] says which word of its text a token is of, counted from 0; -1 of
    padding and of what the tokenizer adds. `cut` says which texts were longer, `unknown` which have
    no word that the tokenizer knows, bool [n].
    """

    ids: Tokens
    words: Tokens
    cut: npt.NDArray[np.bool_]
    unknown: npt.NDArray[np.bool_]


def load_tokenizer(text: str) -> Any:
    """The tokenizer that the JSON of the library `tokenizers` describes.

    Raises `MissingExtraError` without the library and `DataError` for what is no tokenizer.
    """
    tokenizers = import_extra("tokenizers", needed_for="suites of texts", extra="text")
    try:
        return tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises plain exceptions
        raise DataError(f"this is no tokenizer of the library tokenizers: {error}") from error


class Cutter:
    """Cuts texts into rows of `length` tokens; what is longer loses its end.

    `tokenizer` is JSON of the library `tokenizers`; what it adds at both ends stays. Raises as
    `load_tokenizer`.
    """

    def __init__(self, tokenizer: str, *, length: int) -> None:
        self._length = length
        self._cutter = load_tokenizer(tokenizer)
        self._cutter.no_padding()
        self._cutter.enable_truncation(length)

    def __call__(self, texts: Sequence[str]) -> Tokenised:
        """The tokens of each text."""
        shape = (len(texts), self._length)
        ids, words = np.full(shape, PADDING, np.int32), np.full(shape, PADDING, np.int32)
        cut = np.zeros(len(texts), np.bool_)
        for start in range(0, len(texts), _CHUNK):
            found = self._cutter.encode_batch(list(texts[start : start + _CHUNK]))
            for row, each in enumerate(found, start):
                count = len(each.ids)
                ids[row, :count] = each.ids
                words[row, :count] = [PADDING if word is None else word for word in each.word_ids]
                cut[row] = bool(each.overflowing)
        nothing = getattr(self._cutter.model, "unk_token", None)
        of_unknown = None if nothing is None else self._cutter.token_to_id(nothing)
        known = (words != PADDING) & (ids != (PADDING if of_unknown is None else of_unknown))
        return Tokenised(ids=ids, words=words, cut=cut, unknown=~known.any(axis=1))


def tokenise(texts: Sequence[str], tokenizer: str, *, length: int) -> Tokenised:
    """The texts as a `Cutter` cuts them."""
    return Cutter(tokenizer, length=length)(texts)


def row_lengths(ids: Tokens) -> npt.NDArray[np.int64]:
    """How many tokens each row has."""
    lengths: npt.NDArray[np.int64] = (ids != PADDING).sum(axis=1, dtype=np.int64)
    return lengths
