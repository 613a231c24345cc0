"""`bench report`: plots and report anew, from the files of a run."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

import bench
from bench.cli.console import out_console
from bench.cli.options import RunArgument, Track


def report(
    run: RunArgument,
    formats: Annotated[
        str, typer.Option("--format", help="Comma-separated: md, html, csv, latex.")
    ] = "md,html",
    track: Track = "",
) -> None:
    """Rebuild plots and report from the files of a run folder."""
    rebuilt = bench.report(run, format=formats, track=track)
    for path in rebuilt.files:
        out_console.print(f"report: {escape(str(path))}")
    for trial, problem in rebuilt.damaged.items():
        file = f"checkpoints/{trial}.safetensors"
        text = f"{file} is damaged ({problem}); bench run trains its trial again"
        out_console.print(f"[yellow]note[/] {escape(text)}", highlight=False)
    for place in rebuilt.tracked:
        out_console.print(f"tracked: {escape(place)}")
