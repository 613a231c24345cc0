"""Markdown building blocks. Whatever comes from suites, folders or errors is made inert here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from bench.errors import counted

_TERMINAL_CODES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def text(value: Any) -> str:
    """`value` on one line, shown as it is: no markup, no HTML, safe within a table."""
    plain = _TERMINAL_CODES.sub("", str(value))
    plain = " ".join("".join(c if c.isprintable() else " " for c in plain).split())
    plain = re.sub(r"([\\`*\[\]|#~$])", r"\\\1", plain)
    # Code hosts make links of bare addresses: names have nowhere to lead.
    plain = plain.replace("//", r"/\/")
    plain = re.sub(r"\b(www)\.", r"\1\.", plain, flags=re.IGNORECASE)
    plain = re.sub(r"(?<=\w)@(?=\w)", r"\@", plain)
    # Inside a word an underscore is a letter, as in most names here.
    plain = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", plain)
    # At the start of a line these would open a list or underline a heading.
    plain = re.sub(r"^([-+=])(?=[-+=\s]|$)", r"\\\1", plain)
    plain = re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", plain)
    return re.sub(r"[&<>]", lambda match: _ENTITIES[match[0]], plain)


def fence(content: str, language: str = "", *, max_lines: int | None = None) -> str:
    """A code block that nothing in `content` can end."""
    lines = code_lines(content, max_lines=max_lines)
    runs = re.findall("`+", content)
    ticks = "`" * max(3, 1 + max((len(run) for run in runs), default=0))
    return "\n".join([ticks + language, *lines, ticks])


def code_lines(content: str, *, max_lines: int | None = None) -> list[str]:
    """The lines of `content` without terminal codes and other invisible characters."""
    plain = _TERMINAL_CODES.sub("", content).expandtabs(4)
    lines = ["".join(c if c.isprintable() else "�" for c in line) for line in plain.splitlines()]
    if max_lines is not None and len(lines) > max_lines:
        lines = [*lines[:max_lines], f"… {counted(len(lines) - max_lines, 'more line')}"]
    return lines


def link(label: str, target: str) -> str:
    """A link to a file, `target` relative to the report."""
    return f"[{text(label)}]({quote(target)})"


def image(caption: str, target: str) -> str:
    """An embedded figure, `target` relative to the report."""
    return f"![{text(caption)}]({quote(target)})"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int]) -> str:
    """A table whose columns also line up as plain text; the columns in `right` are numbers.

    Cells are Markdown: their makers have passed them through `text`.
    """
    widths = [max(3, *(len(row[i]) for row in [header, *rows])) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * (w - 1) + (":" if i in right else "-") for i, w in enumerate(widths)]
    return "\n".join([line(header), line(rule), *(line(row) for row in rows)])
