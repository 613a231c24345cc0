"""The report's files in the run folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from bench.cache import atomic_file
from bench.plots import write_plots
from bench.report.document import document
from bench.report.evidence import Findings
from bench.report.html import render_html
from bench.report.markdown import render_markdown
from bench.store import Run


def write_report(run: Run, figures: Mapping[str, Path] | None = None) -> Path:
    """Write `report.md` and `report.html`; draws the figures if they are not given."""
    if figures is None:
        figures = write_plots(run, run.folder / "plots")
    targets = {
        name: Path(os.path.relpath(path, run.folder)).as_posix() for name, path in figures.items()
    }
    found = Findings(run=run)
    blocks = list(document(found, targets))
    path = run.folder / "report.md"
    _write(path, render_markdown(blocks))
    _write(run.folder / "report.html", render_html(blocks, found, figures))
    return path


def _write(path: Path, content: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
