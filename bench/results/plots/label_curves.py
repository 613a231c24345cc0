"""Figures against the number of training images: how much labelling pays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.results.analysis import Contender, LabelCurves
from bench.results.grid import ALL, is_missing
from bench.results.metric import Metric
from bench.results.plots.style import (
    Look,
    figure_text,
    key_below,
    line_handle,
    metric_axis,
    new_figure,
    reached,
    shortened,
    styled,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

APART = 0.012
"""Intervals at one size stand side by side, by such a share of the axis."""


@styled
def label_curves(found: LabelCurves | None, look: Mapping[str, Look]) -> Figure | None:
    """Test figures with 95 % intervals by training images of a class, a line for each value.

    `None` of a run that does not vary how many images train.
    """
    if found is None:
        return None
    figure = new_figure(4.4, title=_message(found))
    ax = figure.subplots()
    images = np.array(list(found.images.values()))
    width = float(np.log(images[-1] / images[0]))
    names = found.names
    for place, name in enumerate(names):
        shift = float(np.exp(APART * width * (place - (len(names) - 1) / 2)))
        known = {
            number * shift: each
            for number, verdict in zip(images, found.verdicts.values(), strict=True)
            for each in verdict.contenders
            if each.name == name
        }
        _draw(ax, known, look[name])
    ax.set_xscale("log")
    ax.set_xticks(images, [_tick(size, number) for size, number in found.images.items()])
    ax.minorticks_off()
    ax.set_xlabel("training images of a class (log scale)")
    metric_axis(ax.yaxis, f"test {found.metric.label}", found.metric)
    handles = [
        line_handle(name, color=look[name].colour, marker=look[name].marker) for name in names
    ]
    key_below(
        figure,
        handles,
        note="Bars: 95 % interval over seeds and test images. Those of one size stand side by "
        "side, so that all can be seen.",
    )
    return figure


def _draw(ax: Axes, known: Mapping[float, Contender], look: Look) -> None:
    places, figures = list(known), [each.figure for each in known.values()]
    for place, each in known.items():
        if not is_missing(each.interval[0]):
            ax.vlines(place, *each.interval, color=look.colour, linewidth=1.1, alpha=0.6)
    ax.plot(
        places,
        figures,
        color=look.colour,
        marker=look.marker,
        markersize=7,
        markeredgecolor="white",
        markeredgewidth=0.8,
    )


def _tick(size: str, images: float) -> str:
    return f"{images:.0f}\n{ALL}" if size == ALL else size


def _message(found: LabelCurves) -> str:
    """Who is first with the fewest images and with the most, if anybody is shown to be ahead."""
    pairs = [pair for verdict in found.verdicts.values() for pair in verdict.comparisons]
    if not any(pair.verdict in ("better", "worse") for pair in pairs):
        return f"No {found.axis} is shown to be ahead of another with any number of images"
    (few, first), *_, (many, last) = (
        (found.images[size], _best(verdict.contenders, found.metric))
        for size, verdict in found.verdicts.items()
    )
    if first.name == last.name:
        return (
            f"{shortened(first.name, 40)} is first with {few:.0f} images of a class "
            f"({figure_text(first.figure, found.metric)}) and with {many:.0f} "
            f"({figure_text(last.figure, found.metric)})"
        )
    return (
        f"With {few:.0f} images of a class {shortened(first.name, 40)} is first: "
        f"{reached(first.figure, 'test', found.metric)}; with {many:.0f} "
        f"{shortened(last.name, 40)}: {figure_text(last.figure, found.metric)}"
    )


def _best(contenders: tuple[Contender, ...], metric: Metric) -> Contender:
    return max(contenders, key=lambda each: metric.sign * each.figure)
