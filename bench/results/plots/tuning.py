"""The search for settings: how it went, what it cost, and which settings mattered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import counted
from bench.results.analysis import (
    LR,
    Goal,
    Study,
    goal_of,
    incumbents,
    number_text,
)
from bench.results.grid import Grid, is_missing
from bench.results.metric import ACCURACY, Metric
from bench.results.plots.bands import BAND, ends, reach
from bench.results.plots.style import (
    GREY,
    LINES,
    MARKERS,
    Look,
    figure_text,
    in_validation,
    key_below,
    line_handle,
    log_axis,
    looks,
    metric_axis,
    new_figure,
    new_panels,
    shortened,
    styled,
    wrapped,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_PANELS = 12
MAX_LINES = 16
"""Studies in one legend."""

# Beyond this ratio the smallest and the largest figure cannot both be read on a linear axis.
_LOG_RATIO = 20.0
_BOTTOM = 0.03  # of a panel's height: where trials stand of which no figure is known
_CHOSEN: Mapping[str, Any] = {"marker": "o", "linestyle": "", "markeredgecolor": "black"}
_RING: Mapping[str, Any] = {**_CHOSEN, "markerfacecolor": "none", "markersize": 12}
_SUITE: Mapping[str, Any] = {**_CHOSEN, "marker": "*", "markersize": 13}


def study_looks(studies: Sequence[Study], grid: Grid) -> dict[str, Look]:
    """How each study is drawn: in the colour that its cell of the tuned run's `grid` has elsewhere.

    Studies of one colour differ in their markers.
    """
    look = looks(grid.axes[grid.lead]) if grid.cells else {}
    found: dict[str, Look] = {}
    for study in studies:
        cell = grid.cells.get(study.tuned_config or "", {})
        rows = study.trials.get(grid.lead)
        own = rows.iloc[0] if rows is not None and len(rows) else ""
        value = cell.get(grid.lead, str(own))
        each = look.get(value, Look(colour=GREY, marker=MARKERS[0]))
        free = [marker for marker in (each.marker, *MARKERS) if _unused(each, marker, found)]
        found[study.name] = replace(each, marker=free[0]) if free else each
    return found


def _unused(look: Look, marker: str, found: Mapping[str, Look]) -> bool:
    return Look(colour=look.colour, marker=marker) not in found.values()


@styled
def tuning_history(
    studies: Sequence[Study],
    objective: Goal,
    look: Mapping[str, Look],
    metric: Metric = ACCURACY,
) -> Figure | None:
    """The objective of every trial by number with the best so far, a panel for each study.

    `None` if no trial has a figure.
    """
    from matplotlib.ticker import MaxNLocator

    shown = [study for study in studies if len(study.trials)][:MAX_PANELS]
    values = _finite(study.trials[objective.name] for study in shown)
    if not len(values):
        return None
    figure, panels = new_panels(
        len(shown),
        rest=1.0,
        each=2.1,
        title=_history_message(studies, objective, metric),
        sharex=True,
        sharey=True,
    )
    for panel, study in zip(panels, shown, strict=True):
        ax = panel.ax
        _draw_history(ax, study, objective, look[study.name].colour)
        ax.set_title(wrapped(shortened(study.name, 56), 28), loc="left", color=GREY)
        ax.margins(y=0.14)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        if panel.bottom:
            ax.set_xlabel("trial")
        if panel.left:
            _objective_axis(ax, objective, values, metric)
    key_below(
        figure,
        _history_handles(shown),
        note=_history_note(shown, objective, hidden=len(studies) - len(shown)),
    )
    return figure


@styled
def tuning_curves(
    studies: Sequence[Study],
    look: Mapping[str, Look],
    metric: Metric = ACCURACY,
    *,
    seeds: int = 1,
) -> Figure | None:
    """The best validation figure so far against the training images that the search spent.

    A line for each study, with the band of its 95 % interval over so many tuning `seeds`. `None` if
    no complete trial has one, or no training images were counted.
    """
    found = {study.name: incumbents(study, goal_of(metric)) for study in studies}
    known = {name: rows.dropna(subset=["value"]) for name, rows in found.items()}
    known = {name: rows for name, rows in known.items() if len(rows)}
    most = max((float(rows["images"].max()) for rows in found.values() if len(rows)), default=0.0)
    if not known or not most:
        return None
    unit, size = _images_unit(most)
    figure = new_figure(4.0, title=_curves_message(known, most, metric))
    ax = figure.subplots()
    lines = _line_styles(known, look)
    half = reach(seeds)
    for name, rows in known.items():
        colour, images = look[name].colour, rows["images"] / size
        single = len(rows) == 1
        ax.plot(
            images,
            rows["value"],
            drawstyle="steps-post",
            color=colour,
            linestyle=lines[name],
            marker=look[name].marker,
            markevery=[len(rows) - 1],
            markersize=8 if single else 6,
        )
        if half is not None:
            band = ends(rows["value"].to_numpy(float), half * rows["sd"].to_numpy(float), metric)
            ax.fill_between(images, *band, step="post", color=colour, alpha=0.15, linewidth=0)
    metric_axis(ax.yaxis, f"best validation {metric.label}", metric)
    ax.set_xlabel(f"training images processed by the search ({unit})")
    ax.set_xlim(left=0)
    about = "" if half is None else f" {BAND[:1].upper()}{BAND[1:]}."
    note = (
        f"Trials in order of their numbers, pruned and failed ones counted.{about}{_unnamed(known)}"
    )
    key_below(figure, _study_handles(known, look, lines), note=note)
    return figure


@styled
def tuned_learning_rates(
    studies: Sequence[Study], look: Mapping[str, Look], metric: Metric = ACCURACY
) -> Figure | None:
    """Validation figures against learning rate, a dot a trial, large for the chosen ones.

    `None` unless a learning rate was searched and a trial with one has a figure.
    """
    tried = {study.name: _rates(study, metric) for study in studies if LR in study.searched}
    tried = {name: rows for name, rows in tried.items() if len(rows)}
    if not tried:
        return None
    best = {name: rows[rows["chosen"]] for name, rows in tried.items()}
    best = {name: rows for name, rows in best.items() if len(rows)}
    figure = new_figure(4.0, title=_rates_message(best, metric))
    ax = figure.subplots()
    for name, rows in tried.items():
        each = look[name]
        complete = rows["state"] == "complete"
        style: Mapping[str, Any] = {"linestyle": "", "marker": each.marker, "color": each.colour}
        done, cut = rows[complete], rows[~complete]
        ax.plot(done["lr"], done["value"], markersize=5, alpha=0.6, **style)
        ax.plot(cut["lr"], cut["value"], markersize=5, alpha=0.6, fillstyle="none", **style)
    for name, rows in best.items():
        each = look[name]
        ax.plot(
            rows["lr"],
            rows["value"],
            **{**_CHOSEN, "marker": each.marker},
            color=each.colour,
            markersize=12,
            markeredgewidth=1.5,
        )
    ax.set_xscale("log")
    rates = np.concatenate([rows["lr"] for rows in tried.values()])
    log_axis(ax.xaxis, ratio=float(rates.max() / rates.min()) if rates.min() < rates.max() else 1e3)
    ax.set_xlabel("learning rate")
    metric_axis(ax.yaxis, f"validation {metric.label}", metric)
    cut_short = any((rows["state"] != "complete").any() for rows in tried.values())
    hollow = " Hollow: not complete." if cut_short else ""
    note = f"Small: one trial, mean over tuning seeds. Large: the chosen trial of a study.{hollow}"
    note += _unnamed(tried)
    key_below(figure, _study_handles(tried, look, dict.fromkeys(tried, "")), note=note)
    return figure


def _finite(columns: Any) -> np.ndarray:
    """The known values of some columns in one array."""
    arrays = [column.to_numpy(float) for column in columns]
    values = np.concatenate(arrays) if arrays else np.empty(0)
    return np.asarray(values[np.isfinite(values)])


def _draw_history(ax: Axes, study: Study, objective: Goal, colour: str) -> None:
    trials = study.trials
    known = trials[np.isfinite(trials[objective.name].to_numpy(float))]
    unknown = trials[~trials.index.isin(known.index)]
    for state, marks in _marks(colour).items():
        done, bare = (rows[rows["state"] == state] for rows in (known, unknown))
        ax.plot(done["number"], done[objective.name], **marks)
        if len(bare):
            heights = np.full(len(bare), _BOTTOM)
            below: Any = {"transform": ax.get_xaxis_transform(), "clip_on": False}
            ax.plot(bare["number"], heights, **marks, **below, in_layout=False)
    best = incumbents(study, objective)
    ax.plot(best["number"], best["value"], drawstyle="steps-post", color=colour)
    for row, own in ((study.suite, {**_SUITE, "color": colour}), (study.chosen, _RING)):
        if row is not None and not is_missing(row[objective.name]):
            ax.plot(row["number"], row[objective.name], **own, zorder=4)


def _marks(colour: str) -> dict[str, dict[str, Any]]:
    """How a trial of each state is drawn."""
    dot = {"linestyle": "", "marker": "o", "markersize": 5, "color": colour}
    return {
        "complete": {**dot, "alpha": 0.6, "markeredgewidth": 0},
        "pruned": {**dot, "fillstyle": "none"},
        "failed": {**dot, "marker": "x", "color": GREY},
    }


def _history_handles(shown: Sequence[Study]) -> list[Artist]:
    states = {state for study in shown for state in study.trials["state"]}
    marks = _marks(GREY)
    entries: dict[str, tuple[bool, Mapping[str, Any]]] = {
        "trial": (True, marks["complete"]),
        "best so far": (True, {"color": GREY}),
        "the suite's own values": (any(s.suite for s in shown), {**_SUITE, "color": GREY}),
        "chosen": (any(s.chosen for s in shown), _RING),
        "pruned": ("pruned" in states, marks["pruned"]),
        "failed": ("failed" in states, marks["failed"]),
    }
    return [line_handle(label, **style) for label, (there, style) in entries.items() if there]


def _history_note(shown: Sequence[Study], objective: Goal, *, hidden: int) -> str:
    seconds = objective.name == "seconds"
    notes = ["Of all tuning seeds." if seconds else "Of validation, means over tuning seeds."]
    figures = (study.trials[objective.name].to_numpy(float) for study in shown)
    if not all(np.isfinite(each).all() for each in figures):
        notes.append("At the bottom: trials without a known figure.")
    if hidden:
        notes.append(f"{counted(hidden, 'more study', 'more studies')} not shown.")
    return " ".join(notes)


def _objective_axis(ax: Axes, objective: Goal, values: np.ndarray, metric: Metric) -> None:
    measured = _measured(objective, metric)
    if measured is not None:
        metric_axis(ax.yaxis, measured.label, measured)
        return
    words = {"val_loss": "loss (nats)", "val_metric": "metric"}
    ax.set_ylabel(words.get(objective.name, "training time (s)"))
    if values.min() > 0 and values.max() / values.min() > _LOG_RATIO:
        ax.set_yscale("log")
        log_axis(ax.yaxis, ratio=float(values.max() / values.min()))


def _images_unit(most: float) -> tuple[str, float]:
    units = (("million", 1e6), ("thousand", 1e3))
    return next(((unit, size) for unit, size in units if most >= 2 * size), ("number", 1.0))


def _line_styles(names: Mapping[str, Any], look: Mapping[str, Look]) -> dict[str, Any]:
    """A line style for each study: those of one colour have lines of their own."""
    seen: Counter[str] = Counter()
    styles = {}
    for name in names:
        colour = look[name].colour
        styles[name] = LINES[seen[colour] % len(LINES)]
        seen[colour] += 1
    return styles


def _study_handles(
    names: Mapping[str, Any], look: Mapping[str, Look], lines: Mapping[str, Any]
) -> list[Artist]:
    return [
        line_handle(name, color=look[name].colour, marker=look[name].marker, linestyle=lines[name])
        for name in list(names)[:MAX_LINES]
    ]


def _unnamed(names: Mapping[str, Any]) -> str:
    """What the legend leaves out."""
    more = len(names) - MAX_LINES
    return (
        f" {counted(more, 'more study', 'more studies')} drawn, but not named." if more > 0 else ""
    )


def _rates(study: Study, metric: Metric) -> pd.DataFrame:
    """Learning rate and validation figure of the trials that have both."""
    import pandas as pd

    (setting,) = (setting for setting in study.space if setting.name == LR)
    rows = pd.DataFrame(
        {
            "lr": pd.to_numeric(study.column(setting), errors="coerce"),
            "value": study.trials[goal_of(metric).name],
            "state": study.trials["state"],
            "chosen": study.trials["number"] == study.best,
        }
    ).dropna()
    return rows[rows["lr"] > 0]


def _measured(objective: Goal, metric: Metric) -> Metric | None:
    """The metric of an objective that is one."""
    known = {"val_accuracy": ACCURACY, "val_metric": metric}
    return known.get(objective.name)


def _objective_text(objective: Goal, metric: Metric) -> Callable[[float], str]:
    measured = _measured(objective, metric)
    if measured is not None:
        return lambda value: figure_text(value, measured)
    unit = "nats" if objective.name == "val_loss" else "s"
    return lambda value: f"{value:.3g}\N{NO-BREAK SPACE}{unit}"


def _history_message(studies: Sequence[Study], objective: Goal, metric: Metric) -> str:
    """In how many studies the suite's own values were bettered, and where most."""
    text = _objective_text(objective, metric)
    steps = {}
    for study in studies:
        best = incumbents(study, objective)["value"].dropna()
        own: Any = (study.suite or {}).get(objective.name)
        if len(best) and not is_missing(own):
            steps[study.name] = (float(own), float(best.iloc[-1]))
    if not steps:
        return "The best trial of each study so far"
    better = {
        name: objective.gain(last) - objective.gain(first)
        for name, (first, last) in steps.items()
        if objective.gain(last) > objective.gain(first)
    }
    number = f"{len(steps)} stud{'y' if len(steps) == 1 else 'ies'}"
    if not better:
        return f"The search found nothing better than the suite's own values in {number}"
    most = max(better, key=lambda name: better[name])
    first, last = (text(value) for value in steps[most])
    of = "training time" if objective.name == "seconds" else "validation"
    step = f"{shortened(most, 40)}: {first} to {last} in {of}"
    if len(steps) == 1:
        return f"The search improves on the suite's own values for {step}"
    return (
        f"The search improves on the suite's own values in {len(better)} of {number}, most for "
        f"{step}"
    )


def _curves_message(known: Mapping[str, pd.DataFrame], most: float, metric: Metric) -> str:
    ends = {name: float(rows["value"].iloc[-1]) for name, rows in known.items()}
    unit, size = _images_unit(most)
    spent = f"{most / size:.3g}{'' if size == 1 else ' ' + unit} training images"
    merits = {name: metric.sign * end for name, end in ends.items()}
    best = max(merits, key=lambda name: merits[name])
    end = in_validation(ends[best], metric)
    message = f"After {spent}, the best of {shortened(best, 40)} reaches {end}"
    if len(ends) == 1:
        return message
    worst = min(merits, key=lambda name: merits[name])
    return f"{message}, of {shortened(worst, 40)} {figure_text(ends[worst], metric)}"


def _rates_message(best: Mapping[str, pd.DataFrame], metric: Metric) -> str:
    rates = {name: float(rows["lr"].iloc[0]) for name, rows in best.items()}
    if not rates:
        return f"Validation {metric.label} by learning rate"
    low, high = min(rates, key=lambda n: rates[n]), max(rates, key=lambda n: rates[n])
    if rates[low] == rates[high]:
        names = shortened(low, 40) if len(rates) == 1 else "all"
        return f"The best learning rate found is {number_text(rates[low])} for {names}"
    return (
        f"The best learning rates found run from {number_text(rates[low])} "
        f"({shortened(low, 36)}) to {number_text(rates[high])} ({shortened(high, 36)})"
    )
