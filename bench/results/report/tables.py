"""The report's tables as files of their own: CSV for spreadsheets, LaTeX for papers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from itertools import zip_longest

from bench.results.report.blocks import Block, Details, Link, Table
from bench.system.visible_text import cell_of_csv

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
    "→": r"$\rightarrow$",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
}


_LATIN = 0x24F  # the last letter that pdfLaTeX may know
_BEYOND_LATIN = "% Not for pdfLaTeX: LuaLaTeX or XeLaTeX, with a font that has all characters."


def tables(blocks: Iterable[Block]) -> Iterator[Table]:
    """The tables of a report, those in its details too."""
    for block in blocks:
        if isinstance(block, Table):
            yield block
        elif isinstance(block, Details):
            yield from tables(block.blocks)


def render_csv(table: Table) -> str:
    """The table as CSV (RFC 4180); a cell that a spreadsheet would take for a formula is quoted."""
    rows = [[cell_of_csv(_text(cell)) for cell in row] for row in (table.header, *table.rows)]
    # Where the comma is a decimal sign, spreadsheets part cells at semicolons too.
    parted = any(separator in cell for row in rows for cell in row for separator in ";\t")
    written = io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_ALL if parted else csv.QUOTE_MINIMAL).writerows(rows)
    return written.getvalue()


def render_latex(table: Table) -> str:
    """The table as a LaTeX `tabular` with the rules of booktabs."""
    columns = "".join("r" if index in table.numbers else "l" for index in range(len(table.header)))
    lines = [" & ".join(_latex(_text(cell)) for cell in row) + r" \\" for row in table.rows]
    head = " & ".join(map(_latex, table.header)) + r" \\"
    start, end = rf"\begin{{tabular}}{{{columns}}}", r"\end{tabular}"
    if any(ord(character) > _LATIN for character in "".join([head, *lines])):
        start = f"{_BEYOND_LATIN}\n{start}"
    return "\n".join([start, r"\toprule", head, r"\midrule", *lines, r"\bottomrule", end]) + "\n"


def _text(cell: str | Link) -> str:
    return cell.label if isinstance(cell, Link) else cell


def _latex(text: str) -> str:
    """The text as it reads, whatever stands before it.

    After the end of a row or a rule, `[` would begin an argument and `*` a variant of the command;
    two hyphens would be joined to a dash.
    """
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    source = "".join(
        "-{}" if character == following == "-" else _LATEX.get(character, character)
        for character, following in zip_longest(plain, plain[1:])
    )
    return f"{{}}{source}" if source[:1] in ("[", "*") else source
