"""A few inputs as networks see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.results.folder.thumbnails import InputView
from bench.results.plots.style import (
    key_below,
    new_figure,
    on_any_page,
    shortened,
    styled,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_COLUMNS = 3
MAX_ROWS = 2


@styled
def input_views(views: Sequence[InputView]) -> Figure | None:
    """A row for each kind of view, a column for each sample; `None` without any."""
    rows = list(dict.fromkeys(each.view for each in views))[:MAX_ROWS]
    samples = list(dict.fromkeys(each.sample for each in views))[:MAX_COLUMNS]
    if not rows:
        return None
    by_place = {(each.view, each.sample): each for each in views}
    figure = new_figure(0.9 + 2.4 * len(rows), title="What networks see of some training images")
    panels = figure.subplots(len(rows), len(samples), squeeze=False)
    for row, view in enumerate(rows):
        for column, sample in enumerate(samples):
            ax = panels[row, column]
            ax.set_xticks([])
            ax.set_yticks([])
            ax.grid(visible=False)
            if column == 0:
                ax.set_ylabel(wrapped(shortened(view, 40), 22))
            each = by_place.get((view, sample))
            if each is None:
                continue
            ax.imshow(each.pixels, interpolation="nearest")
            if row == 0:
                ax.set_title(shortened(each.label, 26))
    key_below(figure, note="Before their values are normalised.")
    return on_any_page(figure)
