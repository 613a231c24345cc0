"""`bench list`: what a suite may name."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

import bench
from bench.cli.console import out_console
from bench.cli.options import Plugins, load_plugins


def list_catalogue(
    kind: Annotated[str | None, typer.Argument(metavar="[KIND]", help="One kind only.")] = None,
    plugins: Plugins = None,
) -> None:
    """List the names that a suite may use, with their options."""
    load_plugins(plugins)
    kinds = bench.list(kind)
    from bench.runs.listing import plural

    for name, rows in kinds.items():
        table = Table(title=plural(name), title_justify="left", box=None, show_header=False)
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        out_console.print(table, "")
