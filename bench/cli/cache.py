"""`bench cache`: what the cache holds, and emptying it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

import bench
from bench.cli.console import out_console
from bench.system.cache_content import ALL, COLUMNS, KINDS


def cache(
    empty: Annotated[
        str,
        typer.Option(
            metavar="KINDS",
            help=f"Remove these kinds, separated by commas: {', '.join(KINDS)}, or {ALL}. A later "
            "run makes or downloads again what it needs.",
        ),
    ] = "",
) -> None:
    """Show what the cache holds and how large it is, or empty it."""
    content = bench.cache(empty=empty)
    table = Table(*COLUMNS, box=None, pad_edge=False)
    for row in content.rows:
        table.add_row(*map(escape, row))
    out_console.print(table)
    for sentence in content.sentences:
        out_console.print(escape(sentence), highlight=False)
