"""Blocks whose prose calls samples what they are; cells, code and names of files stay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

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
from bench.results.sample_words import SampleWords


def called(blocks: Iterable[Block], words: SampleWords) -> Iterator[Block]:
    """The blocks with what samples are called."""
    return (_block(block, words) for block in blocks)


def _block(block: Block, words: SampleWords) -> Block:
    match block:
        case Heading():
            return replace(block, text=words(block.text))
        case Paragraph():
            return Paragraph(_inlines(block.content, words))
        case Bullets():
            return Bullets(tuple(_inlines(item, words) for item in block.items))
        case Table():
            return replace(
                block,
                header=tuple(map(words, block.header)),
                terms=tuple((words(name), words(meaning)) for name, meaning in block.terms),
            )
        case Picture():
            return replace(block, caption=words(block.caption))
        case Details():
            return Details(words(block.summary), tuple(called(block.blocks, words)))
        case Code():
            return block


def _inlines(content: tuple[Inline, ...], words: SampleWords) -> tuple[Inline, ...]:
    return tuple(_inline(each, words) for each in content)


def _inline(each: Inline, words: SampleWords) -> Inline:
    if isinstance(each, Link | Quote):
        return each
    return Bold(words(each.text)) if isinstance(each, Bold) else words(each)
