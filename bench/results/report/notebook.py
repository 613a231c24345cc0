"""What a notebook shows of a run, and of what else is made of blocks.

All of it is escaped, and comes from files that may be another's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from bench.results.analysis import LrCell
from bench.results.folder import Run
from bench.results.grid import UNKNOWN
from bench.results.plots import caption
from bench.results.report.blocks import Block, Picture, Table, paragraph
from bench.results.report.document import document
from bench.results.report.evidence import Findings
from bench.results.report.html import render_fragment

PNG = b"\x89PNG\r\n\x1a\n"
MAX_PICTURE_BYTES = 2_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class ShownRun(Run):
    """A run with its verdict, which shows itself in a notebook."""

    @cached_property
    def verdict(self) -> dict[str, Any]:
        """The content of `verdict.json`: `recommended`, `comparisons`, `sentences` and so on."""
        return Findings(run=self).verdict_json

    def _repr_html_(self) -> str:
        return html(self._blocks(), folder=self.folder)

    def _blocks(self) -> Iterator[Block]:
        blocks = document(Findings(run=self), {})
        yield from islice(blocks, 3)
        for name in (self.metric.test, "curves"):
            yield Picture(name, caption(name, self.metric) or name, f"plots/{name}.png")
        yield paragraph(f"Run folder: {self.folder}")


def shows_itself(run: Run) -> ShownRun:
    """The same run, as one that notebooks show."""
    return ShownRun(**{field.name: getattr(run, field.name) for field in fields(Run)})


def html(blocks: Iterable[Block], *, folder: Path | None = None) -> str:
    """The blocks, with the pictures that `folder` has."""
    shown: list[Block] = []
    figures = {}
    for block in blocks:
        if isinstance(block, Picture):
            if folder is None or not _is_picture(folder / block.target, folder):
                continue
            figures[block.name] = folder / block.target
        shown.append(block)
    return render_fragment(shown, figures)


def lr_range_blocks(cells: Sequence[LrCell], plot: Path | None) -> Iterator[Block]:
    """What the LR range test of each cell suggests, beside the learning rates of the suite."""
    rows = tuple(
        (
            cell.label,
            *(UNKNOWN if lr is None else f"{lr:.2g}" for lr in (cell.steepest, cell.valley)),
            " to ".join(f"{lr:g}" for lr in sorted(set(cell.suite_lrs))),
        )
        for cell in cells
    )
    yield Table("lr_find", ("cell", "steepest", "valley", "suite"), rows, (1, 2, 3))
    if plot is not None:
        caption = "The loss of each cell while the learning rate grows."
        yield Picture("lr_find", caption, f"plots/{plot.name}")


def _is_picture(path: Path, folder: Path) -> bool:
    """Whether it is a PNG in `folder` that a notebook bears: a link may lead anywhere."""
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            return False
        if path.stat().st_size > MAX_PICTURE_BYTES:
            return False
        with path.open("rb") as file:
            return file.read(len(PNG)) == PNG
    except OSError:
        return False
