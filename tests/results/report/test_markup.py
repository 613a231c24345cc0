from __future__ import annotations

import html
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from bench.results.report.markup import fence, image, link, table, text

HOSTILE = [
    "a|b",
    "<script>alert(1)</script>",
    "`code` and ``more``",
    "**bold** _it_ __x__ ~~gone~~",
    "[link](http://x.example) ![image](y)",
    "# heading",
    "- item",
    "+ item",
    "1. item",
    "12) item",
    "===",
    "---",
    "&amp; &lt;",
    "back\\slash \\| pipe",
    "two\nlines\r\nand\ttabs",
    "\x1b[31mred\x1b[0m",
    "full_finetune _private trailing_ a__b",
    "$x_1$ costs",
    "http://evil.example/x and HTTPS://www.evil.example",
    "www.evil.example",
    "///a//b",
    "user@evil.example",
]


def markdown() -> MarkdownIt:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"])


def _plain(value: str) -> str:
    """What a reader may expect to see of `value`: its printable characters on one line."""
    return " ".join("".join(c if c.isprintable() else " " for c in value).split())


def _seen(source: str) -> str:
    inline = markdown().renderInline(source)
    return html.unescape(inline)


def test_hostile_strings_are_shown_as_they_are() -> None:
    for value in HOSTILE:
        expected = _plain(value.replace("\x1b[31m", "").replace("\x1b[0m", ""))
        tokens = markdown().parse(text(value))
        assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
        assert _seen(text(value)) == expected


def test_names_stay_readable_in_a_terminal() -> None:
    for name in ("full_finetune", "step(step_size=7)", "95.2", "-0.5", "a · b", "1e-05"):
        assert text(name) == name


@pytest.mark.parametrize(
    "name",
    ["http://evil.example/x", "www.evil.example", "WWW.evil.example", "see ftp://evil.example",
     "//evil.example/x", "https://www.evil.example"],
)  # fmt: skip
def test_bare_addresses_lead_nowhere(name: str) -> None:
    """GitHub links what has a scheme or `www.`: neither stands unescaped (GFM, autolinks)."""
    assert not re.search(r"(?i)(?<!\\)//|\bwww\.", text(name).replace(r"/\/", ""))
    assert _seen(text(name)) == name


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_string_is_one_cell_of_a_table(value: str) -> None:
    cell = text(value)
    if "\x1b[" in value:
        return
    source = table(["name", "n"], [[cell, "1"]], right=[1])
    tokens = markdown().parse(source)
    inline = [token.content for token in tokens if token.type == "inline"]
    assert len(inline) == 4
    assert _seen(inline[2]) == _plain(value)


@settings(deadline=None)
@given(st.text(alphabet="`~ab\n<>|\\\x1b\t", max_size=60))
def test_nothing_ends_a_fence(content: str) -> None:
    tokens = markdown().parse(fence(content, "sh"))
    assert [token.type for token in tokens] == ["fence"]
    assert "\x1b" not in tokens[0].content


def test_a_fence_keeps_lines_and_says_how_many_it_leaves_out() -> None:
    shown = markdown().parse(fence("one\n  two\nthree", max_lines=2))[0].content
    assert shown == "one\n  two\n… 1 more line\n"


def test_links_hold_names_with_any_character() -> None:
    source = link("a]b", "plots/a b(c)é.png") + image("x", "plots/#1.png")
    shown = markdown().renderInline(source)
    assert '<a href="plots/a%20b%28c%29%C3%A9.png">a]b</a>' in shown
    assert '<img src="plots/%231.png" alt="x"' in shown


def test_columns_of_a_table_line_up_as_plain_text() -> None:
    lines = table(["name", "n"], [["a", "1"], ["longer", "1000"]], right=[1]).split("\n")
    assert lines == [
        "| name   |    n |",
        "| ------ | ---: |",
        "| a      |    1 |",
        "| longer | 1000 |",
    ]
