"""The report's files in the run folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal

from bench.errors import BenchError
from bench.results.folder import Run, refuse_links, write_json
from bench.results.plots import Drawn, write_plots
from bench.results.report.document import document
from bench.results.report.evidence import Findings
from bench.results.report.html import render_html
from bench.results.report.markdown import render_markdown
from bench.results.report.tables import render_csv, render_latex, tables
from bench.system.cache import atomic_file

Format = Literal["md", "html", "csv", "latex"]
FORMATS: tuple[Format, ...] = ("md", "html", "csv", "latex")
DEFAULT_FORMATS: tuple[Format, ...] = ("md", "html")


def write_report(
    run: Run,
    figures: Mapping[str, Path] | None = None,
    *,
    formats: Collection[Format] = DEFAULT_FORMATS,
) -> list[Path]:
    """Write the report in each of `formats` into the run's folder; returns what can be opened.

    The verdict goes into `verdict.json` beside it.

    `md` and `html` are the files `report.md` and `report.html`; `csv` and `latex` are the folder
    `tables` with a file for each table. Draws the figures if they are not given.
    """
    _check_within(run.folder)
    drawn = write_plots(run, run.folder / "plots") if figures is None else Drawn(files=figures)
    targets = {
        name: Path(os.path.relpath(path, run.folder)).as_posix()
        for name, path in drawn.files.items()
    }
    found = Findings(run=run)
    write_json(run.folder / "verdict.json", found.verdict_json)
    blocks = list(document(found, targets, drawn))
    written = []
    if "md" in formats:
        written.append(_write(run.folder / "report.md", render_markdown(blocks)))
    if "html" in formats:
        written.append(_write(run.folder / "report.html", render_html(blocks, found, drawn.files)))
    if "csv" in formats:
        for table in tables(blocks):
            _write(run.folder / "tables" / f"{table.name}.csv", render_csv(table))
    if "latex" in formats:
        for table in tables(blocks):
            _write(run.folder / "tables" / f"{table.name}.tex", render_latex(table))
    if {"csv", "latex"} & set(formats):
        written.append(run.folder / "tables")
    return written


def _check_within(folder: Path) -> None:
    """Raise `BenchError` if what is written below `folder` would land, or remove, elsewhere."""
    refuse_links(folder)
    for name in ("plots", "plots/trials", "tables"):
        inner = folder / name
        if inner.exists() and not inner.is_dir():
            raise BenchError(f"{inner} must be a folder; remove the file")


def _write(path: Path, content: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    with atomic_file(path) as temporary:
        temporary.write_text(content, encoding="utf-8", errors="backslashreplace", newline="")
    return path
