"""`bench report`: plots and report anew, from the files of a run."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from bench.cli.console import out_console
from bench.cli.options import RunArgument, Track
from bench.errors import BenchError, nearest


def report(
    run: RunArgument,
    formats: Annotated[
        str, typer.Option("--format", help="Comma-separated: md, html, csv, latex.")
    ] = "md,html",
    track: Track = "",
) -> None:
    """Rebuild plots and report from the files of a run folder."""
    from bench.results import trackers
    from bench.results.folder import push_run, read_run
    from bench.results.report import FORMATS, write_report

    names = [name.strip() for name in formats.split(",")]
    for name in names:
        if name not in FORMATS:
            raise BenchError(
                f"--format must be among {', '.join(FORMATS)}, got {name!r}{nearest(name, FORMATS)}"
            )
    chosen = [name for name in FORMATS if name in names]
    trackers.known_trackers(track)
    found = read_run(run)
    for path in write_report(found, formats=chosen):
        out_console.print(f"report: {escape(str(path))}")
    for place in trackers.track(found, track):
        out_console.print(f"tracked: {escape(place)}")
    push_run(run)
