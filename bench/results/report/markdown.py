"""`report.md`: blocks as Markdown that reads well on a code host and in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.results.report.blocks import (
    Block,
    Bold,
    Bullets,
    Code,
    Details,
    Heading,
    Inline,
    Link,
    Paragraph,
    Picture,
    Quote,
    Table,
)
from bench.results.report.markup import fence, image, link, table, text


def render_markdown(blocks: Iterable[Block]) -> str:
    """The blocks as a Markdown document."""
    return "\n\n".join(_block(block) for block in blocks) + "\n"


def _block(block: Block) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {text(block.text)}"
        case Paragraph():
            return _inline(block.content)
        case Bullets():
            return "\n".join(f"- {_inline(item)}" for item in block.items)
        case Table():
            rows = [[_piece(cell) for cell in row] for row in block.rows]
            shown = table([text(name) for name in block.header], rows, right=block.numbers)
            terms = [f"{text(name)}: {text(meaning)}" for name, meaning in block.terms]
            return f"{shown}\n\n{'; '.join(terms)}." if terms else shown
        case Picture():
            picture = image(block.name.replace("_", " "), block.target)
            return f"{text(block.caption)}\n\n{picture}"
        case Code():
            return fence(block.content, block.language, max_lines=block.max_lines)
        case Details():
            inside = "\n\n".join(_block(inner) for inner in block.blocks)
            summary = text(block.summary)
            return f"<details><summary>{summary}</summary>\n\n{inside}\n\n</details>"


def _inline(content: Sequence[Inline]) -> str:
    return " ".join(_piece(piece) for piece in content)


def _piece(piece: Inline) -> str:
    if isinstance(piece, Bold):
        return f"**{text(piece.text)}**"
    if isinstance(piece, Link):
        return link(piece.label, piece.target)
    return text(piece.text if isinstance(piece, Quote) else piece)
