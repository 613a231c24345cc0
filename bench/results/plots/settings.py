"""What the settings of a search mattered: importances, and all of them side by side."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import counted
from bench.results.analysis import Goal, Setting, Study, goal_of, importances, number_text
from bench.results.grid import is_missing
from bench.results.metric import ACCURACY, Metric
from bench.results.plots.style import (
    GREY,
    in_validation,
    key_below,
    new_figure,
    shortened,
    styled,
    wrapped,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_STUDIES = 12
MAX_PARALLEL = 6
MAX_SETTINGS = 8


@styled
def setting_importances(studies: Sequence[Study], objective: Goal) -> Figure | None:
    """Which settings tell the best trials from the others: a row a study, a column a setting.

    `None` if no study searched two settings with enough complete trials.
    """
    found = {study.name: importances(study, objective) for study in studies}
    found = {name: shares for name, shares in found.items() if shares}
    if not found:
        return None
    shown = list(found)[:MAX_STUDIES]
    every = list(dict.fromkeys(name for each in shown for name in found[each]))
    settings = every[:MAX_SETTINGS]
    shares = np.array([[found[name].get(each, np.nan) for each in settings] for name in shown])
    labels = [wrapped(shortened(name, 48), 26) for name in shown]
    lines = 1 + max(label.count("\n") for label in labels)
    height = 1.9 + len(shown) * max(0.45, 0.12 + 0.2 * lines)
    figure = new_figure(height, title=_importance_message(found))
    ax = figure.subplots()
    ax.imshow(np.ma.masked_invalid(shares), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    ax.grid(visible=False)
    ax.set_facecolor("#eeeeee")
    many = len(settings) > 4
    ax.set_xticks(
        range(len(settings)),
        [shortened(name, 26) if many else _setting_name(name, 16) for name in settings],
        rotation=35 if many else 0,
        ha="right" if many else "center",
    )
    ax.set_yticks(range(len(shown)), labels)
    ax.tick_params(length=0)
    for (row, column), share in np.ndenumerate(shares):
        text = f"{100 * share:z.0f}" if np.isfinite(share) else "–"
        colour = "white" if share > 0.55 else "black"
        ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=10)
    notes = [
        "Share in percent of the difference between a study's best trials and its others "
        "(PED-ANOVA over its complete trials); rough for few trials."
    ]
    if np.isnan(shares).any():
        notes.append("–: not searched.")
    if len(every) > len(settings):
        notes.append(f"Only the first {MAX_SETTINGS} settings are shown.")
    if len(found) > len(shown):
        notes.append(f"{counted(len(found) - len(shown), 'more study', 'more studies')} not shown.")
    key_below(figure, note=" ".join(notes))
    return figure


@styled
def setting_lines(studies: Sequence[Study], metric: Metric = ACCURACY) -> Figure | None:
    """All searched settings and validation figures side by side: a line a complete trial.

    A panel for each study that searched two settings or more; of many those with the best figures.
    `None` if there is none with a complete trial.
    """
    able = [study for study in studies if len(study.space) > 1 and len(_figures(study, metric))]
    best = sorted(able, key=lambda s: -(metric.sign * _figures(s, metric)).max())[:MAX_PARALLEL]
    shown = [study for study in able if study in best]
    if not shown:
        return None
    alike = len({study.searched for study in shown}) == 1
    height = 0.9 + (1.6 * len(shown) + 0.6 if alike else 2.3 * len(shown))
    figure = new_figure(height, title=_lines_message(shown, metric))
    for ax, study in zip(figure.subplots(len(shown), 1, squeeze=False).flat, shown, strict=True):
        _draw_parallel(ax, study, metric)
        ax.set_title(shortened(study.name, 72), loc="left", color=GREY)
        ax.tick_params(length=0, labelbottom=not alike or study is shown[-1])
    worse = "less accurate" if metric.is_accuracy else "worse"
    better = "more accurate" if metric.is_accuracy else "better"
    notes = [
        f"A line is a complete trial: the more it stands out from the page, the {better} of its "
        "study. Thick: the chosen one."
    ]
    if any(len(study.space) > MAX_SETTINGS for study in shown):
        notes.append(f"Only the first {MAX_SETTINGS} settings are shown.")
    if len(able) > len(shown):
        notes.append(
            f"{counted(len(able) - len(shown), f'{worse} study', f'{worse} studies')} not shown."
        )
    key_below(figure, note=" ".join(notes))
    return figure


def _setting_name(name: str, width: int) -> str:
    """The name of a setting in lines of about `width` characters."""
    lines = []
    for part in shortened(name, 3 * width).split("."):
        words = part.replace("_", "_ ") if len(part) > width else part
        lines.append(wrapped(words, width).replace("_ ", "_"))
    return "\n".join(lines)


def _figures(study: Study, metric: Metric) -> np.ndarray:
    """The known validation figures of the complete trials."""
    return study.complete[goal_of(metric).name].dropna().to_numpy(float)


def _draw_parallel(ax: Axes, study: Study, metric: Metric) -> None:
    settings = study.space[:MAX_SETTINGS]
    figures = _figures(study, metric)
    low, high = float(figures.min()), float(figures.max())
    scale = Setting(
        name=f"validation {metric.axis_label}", low=low, high=high if high > low else low + 0.01
    )
    uprights = [_upright(study, setting) for setting in settings]
    heights = study.trials[goal_of(metric).name].map(lambda value: scale.position(float(value)))
    if not metric.higher_is_better:  # the best stand on top
        heights = 1 - heights
    _draw_lines(ax, study, [*(each for each, _ in uprights), heights])
    ends = [
        (at if metric.higher_is_better else 1 - at, metric.number(_at(scale, at)))
        for at in (0.0, 0.5, 1.0)
    ]
    marks = [*(each for _, each in uprights), ends]
    for position, each in enumerate(marks):
        _draw_upright(ax, position, each)
    names = [setting.name for setting in settings]
    labels = [_setting_name(name, max(10, 84 // len(marks))) for name in (*names, scale.name)]
    ax.set_xticks(range(len(marks)), labels)
    ax.set_xlim(-0.1, len(marks) - 1 + 0.3)
    ax.set_ylim(-0.08, 1.08)
    ax.set_yticks([])
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _draw_lines(ax: Axes, study: Study, heights: Sequence[pd.Series[float]]) -> None:
    """A line for each complete trial, the best last, the chosen one on top."""
    from matplotlib import colormaps

    shade = colormaps["viridis_r"]
    complete = (study.trials["state"] == "complete").to_numpy(bool)
    chosen = (study.trials["number"] == study.best).to_numpy(bool)
    lines = np.column_stack([each.to_numpy(float) for each in heights])
    for index in np.argsort(lines[:, -1], kind="stable"):
        line = lines[index]
        if not complete[index] or not np.isfinite(line[-1]):
            continue
        style: Mapping[str, Any] = {"linewidth": 1.1, "alpha": 0.75, "zorder": 2}
        if chosen[index]:
            style = {"linewidth": 3.5, "marker": "o", "zorder": 3}
        # Of the palest colours nothing would be seen on white.
        ax.plot(range(len(line)), line, color=shade(0.08 + 0.92 * line[-1]), **style)


def _draw_upright(ax: Axes, position: int, marks: Sequence[tuple[float, str]]) -> None:
    ax.axvline(position, color="#999999", linewidth=1, zorder=1)
    for height, text in marks:
        ax.annotate(
            shortened(text, 14),
            (position, height),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            zorder=5,
            bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.6},
        )


def _upright(study: Study, setting: Setting) -> tuple[pd.Series[float], list[tuple[float, str]]]:
    """Where each trial stands on the axis of a setting, from 0 to 1, and the marks on it."""
    values = study.column(setting)
    if setting.numeric:
        wide = _with_tried(setting, values.dropna().tolist())
        marks = [(at, number_text(_at(wide, at))) for at in (0.0, 0.5, 1.0)]
        return values.map(lambda value: wide.position(float(value))), marks
    choices = [text for choice in setting.choices if (text := setting.text(choice)) is not None]
    names = list(dict.fromkeys([*choices, *values.dropna()]))
    heights = {name: index / max(1, len(names) - 1) for index, name in enumerate(names)}
    return values.map(heights), [(height, name) for name, height in heights.items()]


def _with_tried(setting: Setting, values: Sequence[float]) -> Setting:
    """The range of a setting with what was tried outside of it."""
    low, high = min(setting.low, *values), max(setting.high, *values)
    return Setting(
        name=setting.name,
        low=low,
        high=high if high > low else low + 1.0,
        log=setting.log and low > 0,
    )


def _at(setting: Setting, position: float) -> float:
    """The value at a position of the range."""
    if setting.log:
        low, high = math.log(setting.low), math.log(setting.high)
        return math.exp(low + position * (high - low))
    return setting.low + position * (setting.high - setting.low)


def _importance_message(found: Mapping[str, Mapping[str, float]]) -> str:
    tops = Counter(max(shares, key=lambda name: shares[name]) for shares in found.values())
    (top, times), *others = tops.most_common(3)
    if len(found) == 1:
        name, shares = next(iter(found.items()))
        return f"{top} matters most to {shortened(name, 50)}: {100 * shares[top]:.0f} %"
    rest = "".join(f", {name} in {count}" for name, count in others)
    return f"{top} matters most in {times} of {len(found)} studies{rest}"


def _lines_message(shown: Sequence[Study], metric: Metric) -> str:
    goal = goal_of(metric)
    known = [
        (float(row[goal.name]), study, row)
        for study in shown
        if (row := study.chosen) is not None and not is_missing(row[goal.name])
    ]
    if not known:
        return f"Validation {metric.label} by the settings of each trial"
    figure, study, row = max(known, key=lambda each: goal.gain(each[0]))
    values = ", ".join(f"{name} {text}" for name, text in study.values_of(row).items())
    return (
        f"The best trial of {shortened(study.name, 40)} reaches "
        f"{in_validation(figure, metric)} "
        f"with {shortened(values, 90)}"
    )
