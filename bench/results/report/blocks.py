"""What a report is made of, whatever form it takes. Nothing here is escaped: renderers do that."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bold:
    """Text that stands out."""

    text: str


@dataclass(frozen=True)
class Link:
    """A file of the run folder, `target` relative to the report."""

    label: str
    target: str


@dataclass(frozen=True)
class Quote:
    """What others have written, as it is, in any script."""

    text: str


Inline = str | Bold | Link | Quote


@dataclass(frozen=True)
class Heading:
    """`level` 1 is the title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Pieces of text with a space between each two."""

    content: tuple[Inline, ...]


@dataclass(frozen=True)
class Bullets:
    """A list; an item is what a paragraph is."""

    items: tuple[tuple[Inline, ...], ...]


@dataclass(frozen=True)
class Table:
    """Cells of one line each; the columns in `numbers` are aligned to the right.

    `name` is that of its file where tables are written to files of their own. `terms` say what
    names in the header mean, each once.
    """

    name: str
    header: tuple[str, ...]
    rows: tuple[tuple[str | Link, ...], ...]
    numbers: tuple[int, ...] = ()
    terms: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Picture:
    """A figure with what it shows; `target` relative to the report."""

    name: str
    caption: str
    target: str


@dataclass(frozen=True)
class Code:
    """Lines as they are; of more than `max_lines` the first."""

    content: str
    language: str = ""
    max_lines: int | None = None


@dataclass(frozen=True)
class Details:
    """Blocks that are shown on demand."""

    summary: str
    blocks: tuple[Block, ...]


Block = Heading | Paragraph | Bullets | Table | Picture | Code | Details


def paragraph(*content: Inline) -> Paragraph:
    """A paragraph of its pieces."""
    return Paragraph(content)
