"""Tokens of texts, as networks take them."""

from __future__ import annotations

PADDING = -1
"""What fills a row of tokens behind the text: a batch is int32 [n, length] of token ids and this.

A network leaves out the columns that are padding in every row.
"""
