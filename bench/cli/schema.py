"""`bench schema`: what editors need to complete and check suites."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import bench
from bench.cli.console import out_console
from bench.cli.options import Plugins, load_plugins
from bench.errors import system_errors_told


def schema(
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it to this file instead.")
    ] = None,
    plugins: Plugins = None,
) -> None:
    """Print the JSON Schema of suites, for completion and checks in editors."""
    from bench.system.cache import atomic_file

    load_plugins(plugins)
    text = bench.schema()
    if out is None:
        typer.echo(text, nl=False)
        return
    out = out.expanduser()
    with system_errors_told(), atomic_file(out, ours=False) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    out_console.print(f"schema: {out}", markup=False, highlight=False)
