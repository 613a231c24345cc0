"""Fonts that have the characters of a figure, and what stands for those that no font has."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any

from bench.system.visible_text import visible

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure
    from matplotlib.text import Text

BASE = "DejaVu Sans"
"""Comes with matplotlib: Latin, Greek, Cyrillic, Arabic, Hebrew, but no Chinese and no Hindi."""

_NO_FONT = "Last Resort"  # a font of boxes

# Marks of Unicode's algorithm for two directions of writing (UAX 9): they show nothing.
_LEFT_TO_RIGHT, _ISOLATED, _END = "\u200e", "\u2068", "\u2069"
_MARKS = frozenset(_LEFT_TO_RIGHT + _ISOLATED + _END)

_stand_ins: ContextVar[Mapping[str, str]] = ContextVar("stand_ins")


def undrawable(names: Iterable[str]) -> list[str]:
    """Those of `names` that no font of this machine draws, each once."""
    shown = {name: visible(name) for name in names}
    missing = _found({c for text in shown.values() for c in text})[1]
    return [name for name, text in shown.items() if missing & set(text)]


@contextmanager
def standing_in(names: Mapping[str, str]) -> Iterator[None]:
    """What figures show in place of a name: `names` maps names to it."""
    token = _stand_ins.set(names)
    try:
        yield
    finally:
        _stand_ins.reset(token)


def named(text: str) -> str:
    """`text` with what stands in for the names in it."""
    names = _stand_ins.get({})
    if text.isascii() or not names:
        return text
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(visible(name), names[name])
    return text


def isolated(text: str) -> str:
    """`text` so that its direction of writing does not reorder what stands around it."""
    return f"{_ISOLATED}{text}{_END}" if _runs_left(text) else text


def cells(text: str) -> int:
    """The width of `text` in letters: Chinese characters take two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def give_fonts(figure: Figure) -> None:
    """Give every text of the figure fonts that have its characters; no box is ever drawn.

    What no font has is shown as its code, `\\u732b`.
    """
    from matplotlib.ticker import FixedLocator

    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        if not isinstance(axis.get_major_locator(), FixedLocator):
            continue  # numbers
        labels = [label.get_text() for label in axis.get_ticklabels()]
        if not all(map(str.isascii, labels)):
            axis.set_ticks(axis.get_ticklocs(), [_legible(label) for label in labels])
    for text in _texts(figure):
        content = text.get_text()
        if content.isascii():
            continue
        text.set_text(_legible(content))
        families, _ = _found(set(content))
        if len(families) > 1:
            text.set_fontfamily(list(families))


def _texts(artist: Artist) -> Iterator[Text]:
    """All texts below the artist but labels of numbers, whose ticks take long to make."""
    from matplotlib.axis import Axis
    from matplotlib.text import Text
    from matplotlib.ticker import FixedLocator

    for child in artist.get_children():
        if isinstance(child, Text):
            yield child
        if not isinstance(child, Axis):
            yield from _texts(child)
            continue
        yield child.label
        if isinstance(child.get_major_locator(), FixedLocator):
            yield from child.get_ticklabels()


def _legible(content: str) -> str:
    _, missing = _found(set(content))
    content = "".join(_code(c) if c in missing else c for c in content)
    if not _runs_left(content):
        return content
    # Names may run from right to left; the sentence that they stand in does not.
    lines = (line.removeprefix(_LEFT_TO_RIGHT) for line in content.split("\n"))
    return "\n".join(f"{_LEFT_TO_RIGHT}{line}" for line in lines)


def _code(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _runs_left(text: str) -> bool:
    return not text.isascii() and any(unicodedata.bidirectional(c) in ("R", "AL") for c in text)


def _found(characters: set[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """The families that together have the characters, and the characters that none has."""
    wanted = frozenset(c for c in characters - _MARKS if not c.isascii() and not c.isspace())
    return _families(wanted) if wanted else ((BASE,), frozenset())


@cache
def _families(wanted: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    from matplotlib.font_manager import findfont

    families, missing = [BASE], wanted - _drawn(findfont(BASE), wanted)
    if not missing:
        return tuple(families), missing
    files = _font_files()
    while missing:
        found = {name: _drawn(path, missing) for name, path in files.items()}
        best = max(found, key=lambda name: len(found[name]), default=None)
        if best is None or not found[best]:
            break
        families.append(best)
        missing -= found[best]
    return tuple(families), missing


def _font_files() -> dict[str, str]:
    """A file of each upright family, of normal weight or nearly so, sans-serif families first.

    Matplotlib lists the fonts once and keeps the list: those installed since are added.
    """
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = {entry.fname for entry in fontManager.ttflist}
    for path in sorted(set(findSystemFonts()) - known):
        try:
            fontManager.addfont(path)
        except Exception:  # whatever is wrong with a font file, it is none
            continue
    upright = [
        (
            "sans" not in entry.name.lower(),
            entry.name,
            abs(_weight(entry.weight) - _weight("normal")),
            entry.fname,
        )
        for entry in fontManager.ttflist
        if entry.style == "normal" and not entry.name.startswith(_NO_FONT)
    ]
    files: dict[str, str] = {}
    for _, name, _, path in sorted(upright):
        files.setdefault(name, path)
    return files


def _weight(weight: str | int) -> int:
    from matplotlib.font_manager import weight_dict

    return weight_dict[weight] if isinstance(weight, str) else weight


@cache
def _drawn(path: str, characters: frozenset[str]) -> frozenset[str]:
    """The characters that the font file draws; fonts of coloured pictures draw none."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
        font.set_size(12, 72)
    except Exception:
        return frozenset()
    return frozenset(c for c in characters if _has_glyph(font, c))


def _has_glyph(font: Any, character: str) -> bool:
    if not font.get_char_index(ord(character)):
        return False
    if unicodedata.category(character)[0] not in "LNSP":
        return True  # a mark that is joined to what it stands by
    try:
        left, bottom, right, top = font.load_char(ord(character)).bbox
    except RuntimeError:
        return False
    return bool(right > left and top > bottom)
