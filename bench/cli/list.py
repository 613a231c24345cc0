"""`bench list`: what a suite may name."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from bench.cli.console import out_console
from bench.cli.options import Plugins, load_plugins
from bench.errors import BenchError, nearest


def list_catalogue(
    kind: Annotated[str | None, typer.Argument(metavar="[KIND]", help="One kind only.")] = None,
    plugins: Plugins = None,
) -> None:
    """Show the catalogue: what a suite may name."""
    from bench.runs.listing import listings, plural

    load_plugins(plugins)
    kinds = listings()
    chosen = [name for name in kinds if kind in (None, name, plural(name))]
    if not chosen:
        raise BenchError(f"KIND must be a known kind, got {kind!r}{nearest(str(kind), kinds)}")
    for name in chosen:
        table = Table(title=plural(name), title_justify="left", box=None, show_header=False)
        for row in kinds[name]:
            table.add_row(*(escape(cell) for cell in row))
        out_console.print(table, "")
