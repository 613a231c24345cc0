"""Small copies of images in rows, each under a few words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.results.plots.fonts import cells
from bench.results.plots.style import key_below, new_figure, on_any_page, shortened, wrapped

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

A_ROW = 5
LETTERS = 20
"""Letters of the words above a picture that are as wide as it."""
_SMALL = 9.0


def picture_rows(
    pictures: Sequence[np.ndarray], texts: Sequence[str], *, title: str, note: str
) -> Figure:
    """The pictures `[height, width, 3]` in rows, each under its text, with a note below all."""
    rows = -(-len(pictures) // A_ROW)
    lines = max(text.count("\n") + 1 for text in texts)
    figure = new_figure(0.8 + (1.35 + 0.2 * lines) * rows, title=title)
    panels = figure.subplots(rows, A_ROW, squeeze=False)
    for index, ax in enumerate(panels.flat):
        ax.axis("off")
        if index < len(pictures):
            ax.imshow(pictures[index])
            ax.set_title(texts[index], fontsize=_SMALL)
    key_below(figure, note=note)
    return on_any_page(figure)


def broken(name: str, width: int = LETTERS) -> str:
    """A name in at most two lines; a long word breaks after its underscores and hyphens."""
    short = shortened(name, 2 * width - 4)
    if cells(short) <= width:
        return short
    return wrapped(re.sub(r"(?<=[_-])", " ", short), width).replace("_ ", "_").replace("- ", "-")
