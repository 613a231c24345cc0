"""Text of unknown origin in YAML: names from the folder must not end a comment or a scalar."""

from __future__ import annotations

import math
import textwrap

import yaml

WIDTH = 100
SHOWN_NAME = 40


def quoted(text: str) -> str:
    """A double-quoted YAML scalar on one line, with everything escaped that is not printable."""
    dumped = yaml.safe_dump(text, default_style='"', allow_unicode=True, width=math.inf)
    return str(dumped).strip()


def printable(text: str) -> str:
    """One line of `text`: no control characters, line ends or invisible marks."""
    return "".join(character if character.isprintable() else "?" for character in text)


def short_name(text: str) -> str:
    """`text` on one line, cut to a length that fits a table."""
    text = printable(text)
    return text if len(text) <= SHOWN_NAME else f"{text[: SHOWN_NAME - 1]}…"


def comment(text: str, *, indent: str = "", hang: str = "") -> list[str]:
    """`text` as comment lines; those after the first are indented by `hang`."""
    return textwrap.wrap(
        printable(text),
        WIDTH,
        initial_indent=f"{indent}# ",
        subsequent_indent=f"{indent}# {hang}",
        break_long_words=False,
        break_on_hyphens=False,
    )


def item(text: str) -> list[str]:
    """`text` as an item of a list in a comment."""
    return comment(f"- {text}", hang="  ")
