"""The report's tables as files of their own: CSV for spreadsheets, LaTeX for papers."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator

from bench.results.report.blocks import Block, Details, Link, Table
from bench.system.visible_text import visible

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "^": r"\textasciicircum{}",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "%": r"\%",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": "--",
    "η": r"$\eta$",
    "²": r"$^2$",
    "…": r"\dots{}",
    "·": r"$\cdot$",
}


_NUMBER = r"[-+]?[\d.,]+(e[-+]?\d+)?"


def tables(blocks: Iterable[Block]) -> Iterator[Table]:
    """The tables of a report, those in its details too."""
    for block in blocks:
        if isinstance(block, Table):
            yield block
        elif isinstance(block, Details):
            yield from tables(block.blocks)


def render_csv(table: Table) -> str:
    """The table as CSV (RFC 4180); a cell that a spreadsheet would take for a formula is quoted."""
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow([_inert(name) for name in table.header])
    writer.writerows([_inert(_text(cell)) for cell in row] for row in table.rows)
    return written.getvalue()


def render_latex(table: Table) -> str:
    """The table as a LaTeX `tabular` with the rules of booktabs."""
    columns = "".join("r" if index in table.numbers else "l" for index in range(len(table.header)))
    lines = [" & ".join(_latex(_text(cell)) for cell in row) + r" \\" for row in table.rows]
    head = " & ".join(map(_latex, table.header)) + r" \\"
    start, end = rf"\begin{{tabular}}{{{columns}}}", r"\end{tabular}"
    return "\n".join([start, r"\toprule", head, r"\midrule", *lines, r"\bottomrule", end]) + "\n"


def _text(cell: str | Link) -> str:
    return cell.label if isinstance(cell, Link) else cell


def _inert(cell: str) -> str:
    """Nothing invisible, and no formula.

    OWASP, CSV Injection: what begins like a formula and is no number gets an apostrophe.
    """
    cell = visible(cell)
    number = re.fullmatch(rf"{_NUMBER}( to {_NUMBER})?", cell)
    return f"'{cell}" if cell[:1] in tuple("=+-@\t\r") and not number else cell


def _latex(text: str) -> str:
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return "".join(_LATEX.get(character, character) for character in plain)
