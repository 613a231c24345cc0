"""LR range tests: the loss over the learning rate, with what it suggests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import counted
from bench.results.analysis import LrCell
from bench.results.plots.canvas import save
from bench.results.plots.style import (
    GREY,
    key_below,
    line_handle,
    log_axis,
    looks,
    new_panels,
    shortened,
    styled,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_PANELS = 12

_SUITE: Mapping[str, Any] = {"color": GREY, "linestyle": (0, (4, 2)), "linewidth": 1.3}
_VALLEY: Mapping[str, Any] = {
    "color": "black",
    "marker": "o",
    "markersize": 8,
    "markeredgecolor": "white",
}
_STEEPEST: Mapping[str, Any] = {
    "color": "black",
    "marker": "v",
    "markersize": 8,
    "markerfacecolor": "white",
}


@styled
def lr_range_panels(cells: Sequence[LrCell]) -> Figure | None:
    """Training loss over the learning rate, a panel for each cell; equal tests share one.

    Thin: the loss of each step. Thick: the smoothed loss, with both suggestions on it. Dashed: what
    the suite gives. The diverging end is cut off. `None` without cells.
    """
    panels = list(_alike(cells).values())
    shown = panels[:MAX_PANELS]
    if not shown:
        return None
    figure, places = new_panels(len(shown), rest=1.0, each=2.3, title=_message(cells), sharex=True)
    look = looks(dict.fromkeys(cell.lead for cell in cells))
    for place, alike in zip(places, shown, strict=True):
        _draw(place.ax, alike, look[alike[0].lead].colour)
        if place.bottom:
            place.ax.set_xlabel("learning rate")
        if place.left:
            place.ax.set_ylabel("training loss (nats)")
    key_below(figure, _handles(), note=_note(panels))
    return figure


def write_lr_range_panels(cells: Sequence[LrCell], folder: Path) -> Path | None:
    """Draw `lr_find.png` into `folder`, in place of an earlier one; None without cells."""
    path = folder / "lr_find.png"
    folder.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    figure = lr_range_panels(cells)
    if figure is None:
        return None
    save(figure, path)
    return path


def _alike(cells: Sequence[LrCell]) -> dict[bytes, list[LrCell]]:
    """The cells by their losses."""
    found: dict[bytes, list[LrCell]] = {}
    for cell in cells:
        found.setdefault(cell.losses.tobytes(), []).append(cell)
    return found


def _draw(ax: Axes, alike: Sequence[LrCell], colour: str) -> None:
    cell = alike[0]
    ax.plot(cell.lrs, cell.losses, color=colour, linewidth=0.8, alpha=0.45)
    ax.plot(cell.lrs, cell.smoothed, color=colour, linewidth=2.2)
    for suite_lr in {lr for each in alike for lr in each.suite_lrs}:
        ax.axvline(suite_lr, **_SUITE, zorder=1)
    for lr, style in ((cell.valley, _VALLEY), (cell.steepest, _STEEPEST)):
        if lr is not None:
            ax.plot([lr], [_height(cell, lr)], **style, zorder=4)
    if cell.valley is not None:
        ax.annotate(
            f"{cell.valley:.2g}",
            (cell.valley, _height(cell, cell.valley)),
            xytext=(-6, -5),
            textcoords="offset points",
            ha="right",
            va="top",
            bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},
        )
    ax.set_xscale("log")
    log_axis(ax.xaxis, ratio=cell.lrs.max() / cell.lrs.min())
    ax.set_ylim(*_limits(cell))
    ax.ticklabel_format(axis="y", useOffset=False)
    more = f" and {len(alike) - 1} alike" if len(alike) > 1 else ""
    ax.set_title(wrapped(shortened(cell.label, 60) + more, 28), loc="left", color=GREY)


def _height(cell: LrCell, lr: float) -> float:
    return float(cell.smoothed[np.argmin(np.abs(np.log(cell.lrs / lr)))])


def _limits(cell: LrCell) -> tuple[float, float]:
    """Of the losses up to the least smoothed one, and what lies below: a divergence has no end."""
    falling = cell.losses[: int(np.nanargmin(cell.smoothed)) + 1]
    low, high = np.nanmin(cell.losses), max(np.nanmax(falling), np.nanmin(cell.losses) + 1e-6)
    return low - 0.08 * (high - low), high + 0.25 * (high - low)


def _handles() -> list[Artist]:
    return [
        line_handle("one step", color=GREY, linewidth=0.8, alpha=0.6),
        line_handle("smoothed", color=GREY, linewidth=2.2),
        line_handle("steepest", linestyle="", **_STEEPEST),
        line_handle("valley", linestyle="", **_VALLEY),
        line_handle("suite", **_SUITE),
    ]


def _note(panels: Sequence[Sequence[LrCell]]) -> str:
    notes = ["The number is the valley: two thirds into the longest fall of the loss."]
    if any(len(alike) > 1 for alike in panels):
        notes.append("Cells that have the same test share a panel.")
    if len(panels) > MAX_PANELS:
        notes.append(f"Not drawn: {counted(len(panels) - MAX_PANELS, 'more panel')}.")
    return " ".join(notes)


def _message(cells: Sequence[LrCell]) -> str:
    known = [cell for cell in cells if cell.valley is not None]
    far = [cell for cell in known if cell.is_far]
    if not known:
        return "The loss falls by more than its scatter at no learning rate"
    if len(far) == 1:
        label, distance = shortened(far[0].label, 60), far[0].distance_text
        return f"{label}: the suite's learning rate lies {distance} the valley"
    flat = f"; {len(cells) - len(known)} show no fall" if len(known) < len(cells) else ""
    if far:
        return (
            f"In {len(far)} of {len(known)} cells the suite's learning rate lies more than "
            f"10 × away from the valley{flat}"
        )
    every = f" in all of {len(known)} cells" if len(known) > 1 else ""
    return f"The suite's learning rate lies within 10 × of the valley{every}{flat}"
