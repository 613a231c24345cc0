"""Reports as a reader of the rendered page sees them."""

from __future__ import annotations

import html
import re

import pandas as pd
from markdown_it import MarkdownIt


def rendered(source: str) -> str:
    return str(MarkdownIt("commonmark").enable("table").render(source))


def table_with(source: str, column: str) -> pd.DataFrame:
    """The first table with this column."""
    for body in re.findall(r"<table>.*?</table>", rendered(source), flags=re.DOTALL):
        header, *rows = (
            [html.unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
            for row in re.findall(r"<tr>(.*?)</tr>", body, flags=re.DOTALL)
        )
        if column in header:
            return pd.DataFrame(rows, columns=header)
    raise AssertionError(f"no table has the column {column!r}")
