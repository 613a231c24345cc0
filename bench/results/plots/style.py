"""The look that all figures share: size, colours, titles, legends."""

from __future__ import annotations

import hashlib
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from bench.results.metric import ACCURACY, Metric
from bench.results.plots.canvas import library_settings
from bench.results.plots.fonts import cells, give_fonts, isolated, named
from bench.system.visible_text import visible

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

WIDTH = 8.0
"""Width of every figure in inches; a page shows it at about 600 pixels, half of its size."""
DPI = 150

# Okabe and Ito, "Color Universal Design" (2008), without the yellow that a white page swallows.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1)), (0, (5, 1, 1, 1)))
"""For lines of one colour."""
GREY = "#666666"
BOTH_GREY = "#7b7b7b"
"""Reads on white and on the dark of the page: photographs are not turned over to suit it."""
_NOTE_SIZE = 9.5

_SETTINGS: Any = {
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "lines.linewidth": 1.7,
    # Names come from suites and folders: a dollar sign in one is no mathematics.
    "text.parse_math": False,
}

_SALT = 1584
"""Gives the seven strategies that are compared most colours of their own."""

_LINE = 0.22  # inches that a line of text takes

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Look:
    """How one value of the leading axis is drawn in every figure."""

    colour: str
    marker: str


@dataclass(frozen=True, kw_only=True)
class Margins:
    """Room around the panels in inches, below a title of one line, and between panels (share)."""

    left: float
    right: float
    top: float
    bottom: float
    between: float


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One of several panels: whether none stands to its left, and none below it."""

    ax: Axes
    left: bool
    bottom: bool


def looks(values: Iterable[str]) -> dict[str, Look]:
    """A colour and a marker for each value, the same in every run that has the same values.

    A value prefers the colour that its name stands for, whatever its options; where another one
    has it already it takes the next. After seven colours they return with other markers.
    """
    listed = list(dict.fromkeys(values))
    taken: Counter[int] = Counter()
    found = {}
    for value in sorted(listed):
        first = _preferred(value)
        order = [(first + step) % len(COLOURS) for step in range(len(COLOURS))]
        colour = min(order, key=lambda index: taken[index])
        marker = taken[colour] % len(MARKERS)
        taken[colour] += 1
        found[value] = Look(colour=COLOURS[colour], marker=MARKERS[marker])
    return {value: found[value] for value in listed}


def _preferred(value: str) -> int:
    """A place among the colours that depends on the name alone."""
    name = value.partition("(")[0]
    digest = hashlib.sha256(f"{_SALT} {name}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big") % len(COLOURS)


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Give the figure that `draw` makes the shared look and fonts that have its characters.

    It depends on none of matplotlib's settings, and leaves them alone.
    """

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        with library_settings(_SETTINGS):
            from matplotlib.figure import Figure

            made = draw(*args, **kwargs)
            if isinstance(made, Figure):
                give_fonts(made)
            return made

    return drawn


def new_figure(height: float, *, title: str, fixed: Margins | None = None) -> Figure:
    """An empty figure `height` inches high under a title that says what it shows.

    Its panels fit themselves to their labels, which takes half of the time of drawing; with `fixed`
    margins they do not.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout=None if fixed else "constrained")
    text = wrapped(title, 74)
    figure.suptitle(text, x=0.01, ha="left", fontsize=12.5, fontweight="bold")
    if fixed:
        figure.subplots_adjust(
            left=fixed.left / WIDTH,
            right=1 - fixed.right / WIDTH,
            bottom=fixed.bottom / height,
            top=1 - (fixed.top + _LINE * text.count("\n")) / height,
            wspace=fixed.between,
        )
    return figure


def new_panels(
    number: int, *, rest: float, each: float, title: str, most: int = 3, **shared: Any
) -> tuple[Figure, list[Panel]]:
    """A figure of so many panels, `each` inches high, with `rest` inches for what stands around.

    Four are two by two, of others up to `most` stand in a row. `shared` is as for `subplots`.
    """
    columns = 2 if number == 4 else min(most, number)
    rows = -(-number // columns)
    figure = new_figure(rest + each * rows, title=title)
    panels = []
    for index, ax in enumerate(figure.subplots(rows, columns, squeeze=False, **shared).flat):
        if index >= number:
            ax.set_visible(False)
            continue
        bottom = index >= number - columns
        if bottom:
            ax.tick_params(labelbottom=True)
        panels.append(Panel(ax=ax, left=index % columns == 0, bottom=bottom))
    return figure, panels


def key_below(figure: Figure, handles: Sequence[Artist] = (), *, note: str = "") -> None:
    """Below all panels, how to read them: a note, and one legend. The figure grows by their height.

    A figure with fixed margins has left room for one row.
    """
    note = wrapped(note, 108)
    if not handles:
        figure.supxlabel(note, x=0.01, ha="left", fontsize=_NOTE_SIZE, color=GREY)
        return
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(len(handles), 92 // (longest + 7)))
    fitting = figure.get_layout_engine() is not None
    if fitting:
        rows = -(-len(handles) // columns) + (note.count("\n") + 1 if note else 0)
        figure.set_figheight(figure.get_figheight() + _LINE * rows)
    legend = figure.legend(
        handles=list(handles),
        loc="outside lower left" if fitting else "lower left",
        ncols=columns,
        title=note or None,
        title_fontsize=_NOTE_SIZE,
        alignment="left",
    )
    legend.get_title().set_color(GREY)


def on_any_page(figure: Figure) -> Figure:
    """Photographs are not turned over on a dark page: let its colour through, and words be read."""
    from matplotlib.text import Text

    figure.patch.set_alpha(0)
    for text in figure.findobj(Text):
        text.set_color(BOTH_GREY)
    return figure


def line_handle(label: str, **style: Any) -> Line2D:
    """A legend entry."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=shortened(label, 38), **style)


def percent_axis(axis: Axis, label: str) -> None:
    """Show fractions as percent."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(lambda fraction, _: f"{round(100 * fraction, 6):g}")
    axis.set_label_text(f"{label} (%)")


def metric_axis(axis: Axis, label: str, metric: Metric) -> None:
    """Show figures of `metric` under a label that names it, fractions as percent."""
    if metric.percent:
        percent_axis(axis, label)
    else:
        axis.set_label_text(label)


def far_below_left_out(ax: Axes, metric: Metric) -> None:
    """Let the axis of R² end at −1: one epoch far below would leave nothing to see of others."""
    if metric.name == "r2" and ax.get_ylim()[0] < LEAST_R2:
        ax.set_ylim(LEAST_R2, 1.05)


LEAST_R2 = -1.0
BELOW_LEAST_R2 = "R² below −1 is not drawn."


def log_axis(axis: Axis, *, ratio: float) -> None:
    """Ticks of a log axis as plain numbers; `ratio` is that of the largest value to the least."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if ratio < 1000 else (1,)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:g}")


def percent(fraction: float) -> str:
    """A fraction in words, `95.2 %`, which no line break parts."""
    return figure_text(fraction, ACCURACY)


def figure_text(value: float, metric: Metric) -> str:
    """A figure of `metric` in words, which no line break parts."""
    return metric.text(value).replace(" ", "\N{NO-BREAK SPACE}")


def reached(value: float, split: str, metric: Metric) -> str:
    """`95.2 % test accuracy`, `a test Brier score of 0.123`: what something reaches."""
    figure = figure_text(value, metric)
    return (
        f"{figure} {split} {metric.label}"
        if metric.percent
        else (f"a {split} {metric.label} of {figure}")
    )


def in_validation(value: float, metric: Metric) -> str:
    """`95.2 % in validation`, where accuracy is meant."""
    if metric.is_accuracy:
        return f"{figure_text(value, metric)} in validation"
    return reached(value, "validation", metric)


def shortened(text: str, length: int) -> str:
    """`text` with nothing invisible, its middle left out if it is wider than `length` letters."""
    text = named(visible(text))
    if cells(text) > length:
        kept = length - 1
        start = _as_wide(text, (kept + 1) // 2)
        end = _as_wide(text[::-1], kept // 2)[::-1]
        text = f"{start}…{end}"
    return isolated(text)


def _as_wide(text: str, width: int) -> str:
    """As much of the beginning as is `width` letters wide."""
    length = min(len(text), width)
    while cells(text[:length]) > width:
        length -= 1
    return text[:length]


def wrapped(text: str, width: int) -> str:
    """`text` in lines `width` letters wide at most; a long word breaks before its options."""
    words = [word.replace("(", " (") if len(word) > width else word for word in text.split(" ")]
    letters = max(1, width * len(text) // max(1, cells(text)))
    lines = textwrap.wrap(" ".join(words), letters, break_long_words=True, break_on_hyphens=False)
    return "\n".join(lines)
