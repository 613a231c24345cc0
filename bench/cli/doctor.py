"""`bench doctor`: what this machine has, and what is missing."""

from __future__ import annotations

import typer
from rich.markup import escape

import bench
from bench.cli.console import out_console


def doctor() -> None:
    """Check this machine: packages, devices, memory, cache."""
    checkup = bench.doctor()
    for finding in checkup.findings:
        mark = "[green]ok[/]  " if finding.ok else "[red]fail[/]"
        out_console.print(f"{mark} {escape(finding.text)}", highlight=False)
    if not checkup.ok:
        raise typer.Exit(1)
