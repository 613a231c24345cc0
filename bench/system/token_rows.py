"""Rows of tokens, as data makes them and networks take them."""

from __future__ import annotations

PADDING = -1
"""What fills a row of tokens behind the text: a batch is int32 [n, length] of token ids and this.

A network leaves out the columns that are padding in every row.
"""

SHARE_ONE = 2**30
"""What stands for 1 where integers tell shares.

Texts that are mixed in pairs are int32 [n, 3, length]: the tokens of both, and in every column the
share of the first.
"""

_STEPS = ((64, 8), (128, 16), (256, 32))
_LAST_STEP = 64


def width_for(length: int) -> int:
    """The width in which rows are computed whose longest text has so many tokens.

    A multiple of 8 at least, so that few widths occur: texts of one width are computed together,
    and what a text gives must not depend on which texts those are.
    """
    step = next((step for up_to, step in _STEPS if length <= up_to), _LAST_STEP)
    return max(step, -(-length // step) * step)
