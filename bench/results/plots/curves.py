"""Loss and the run's metric by epoch: averaged over seeds, and of single trials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import counted
from bench.results.grid import SEPARATOR, Grid, complete_trials, is_missing, read_grid, spread
from bench.results.metric import ACCURACY, LOSS, Metric
from bench.results.plots.bands import BAND, LEAST_BANDED, band
from bench.results.plots.style import (
    BELOW_LEAST_R2,
    GREY,
    LEAST_R2,
    Look,
    Margins,
    far_below_left_out,
    figure_text,
    key_below,
    line_handle,
    log_axis,
    looks,
    metric_axis,
    new_figure,
    reached,
    shortened,
    styled,
    wrapped,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_PANELS = 6
"""Rows of panels in one figure; more combinations than these are left to the single trials."""

MAX_SPREADS = 7
"""Lines in a panel whose seeds or bands can be told apart."""

DASHED = (0, (4, 2))
_CHOSEN: Mapping[str, Any] = {"color": GREY, "linestyle": ":", "linewidth": 1.3, "zorder": 1}

# Beyond this ratio the smallest and the largest loss cannot both be read on a linear axis.
_LOG_RATIO = 20.0


@dataclass(frozen=True, kw_only=True, eq=False)
class _Line:
    """What is drawn of one config, metric or loss, and split.

    `seeds` [seeds, epochs] are what `mean` [epochs] is over. A config that trains nothing has one
    level instead of a mean by epoch.
    """

    config: str
    metric: Metric
    split: str
    mean: np.ndarray
    seeds: np.ndarray | None = None
    untrained: bool = False


@styled
def mean_curves(
    trials: pd.DataFrame, curves: pd.DataFrame, metric: Metric = ACCURACY
) -> Figure | None:
    """Loss and metric averaged over seeds, a row of panels for each combination of other axes.

    Within a panel the strategies (or whichever axis leads) lie over each other. A mean ends with
    the last epoch that all its seeds reached. `None` without complete trials.
    """
    complete = complete_trials(trials)
    if complete.empty:
        return None
    grid = read_grid(trials, metric)
    look = looks(grid.axes[grid.lead])
    lines = _lines(complete, curves, metric)
    panels = _panels(complete, grid)
    shown = list(panels)[:MAX_PANELS]
    spread = max(map(len, panels.values())) <= MAX_SPREADS
    figure = new_figure(1.0 + 2.3 * len(shown), title=_message(complete, grid))
    rows = figure.subplots(len(shown), 2, squeeze=False, sharex=True, sharey="col")
    for row, panel in zip(rows, shown, strict=True):
        row[0].set_title(wrapped(shortened(panel, 90), 45), loc="left", color=GREY)
        for line in lines:
            if line.config in panels[panel]:
                value = grid.cells[line.config][grid.lead]
                _draw(row[int(line.metric is not LOSS)], line, look[value], spread=spread)
    _finish_all(rows, lines, metric)
    used = {grid.cells[config][grid.lead] for config in complete["config"]}
    key_below(
        figure,
        _legend({value: each for value, each in look.items() if value in used}, lines),
        note=_note(lines, metric, hidden=len(panels) - len(shown), spread=spread),
    )
    return figure


@styled
def trial_curves(
    trial: Mapping[str, Any],
    curves: pd.DataFrame,
    metric: Metric = ACCURACY,
    *,
    label: str,
    look: Look,
) -> Figure:
    """Loss and metric of one trial, with its chosen epoch; `curves` are its rows alone."""
    lines = list(_trial_lines(str(trial["config"]), [trial], curves, metric))
    best, test = trial["best_epoch"], trial[metric.test]
    result = "" if is_missing(test) else f": {reached(test, 'test', metric)}"
    margins = Margins(left=0.95, right=0.15, top=0.5, bottom=0.85, between=0.27)
    figure = new_figure(3.4, title=shortened(label, 110) + result, fixed=margins)
    row = figure.subplots(1, 2)
    for line in lines:
        _draw(row[int(line.metric is not LOSS)], line, look)
    _finish_all(row[np.newaxis], lines, metric)
    handles = _split_handles(lines)
    if not curves.empty and not is_missing(best):
        for ax in row:
            ax.axvline(best, **_CHOSEN)
        handles.append(line_handle(f"chosen epoch: {best}", **_CHOSEN))
    key_below(figure, handles)
    return figure


def _lines(complete: pd.DataFrame, curves: pd.DataFrame, metric: Metric) -> list[_Line]:
    columns = ["trial", "epoch", "split", LOSS.name, metric.name]
    of_config = {
        str(config): group
        for config, group in curves[columns]
        .merge(complete[["trial", "config"]], on="trial")
        .groupby("config", sort=False)
    }
    none = curves[columns].iloc[:0]
    return [
        line
        for config, group in complete.groupby("config", sort=False)
        for line in _trial_lines(
            str(config), group.to_dict("records"), of_config.get(str(config), none), metric
        )
    ]


def _trial_lines(
    config: str, trials: Sequence[Mapping[Any, Any]], curves: pd.DataFrame, metric: Metric
) -> Iterable[_Line]:
    if curves.empty:
        for each in (LOSS, metric):
            level = spread(trial[each.val] for trial in trials).mean
            yield _Line(
                config=config, metric=each, split="val", mean=np.array([level]), untrained=True
            )
        return
    for split, rows in curves.sort_values("epoch").groupby("split"):
        seeds = [group for _, group in rows.groupby("trial", sort=False)]
        common = min(len(group) for group in seeds)
        for each in (LOSS, metric):
            known = each is LOSS or each.is_accuracy
            if split == "train" and not (known or _follows(rows, each)):
                continue  # little is known of a network that moves
            values = np.stack([group[each.name].to_numpy(dtype=float)[:common] for group in seeds])
            # One seed that diverged leaves a gap in the mean rather than silently dropping out.
            values = np.where(np.isfinite(values), values, np.nan)
            yield _Line(
                config=config,
                metric=each,
                split=str(split),
                mean=values.mean(axis=0),
                seeds=values,
            )


def _follows(rows: pd.DataFrame, metric: Metric) -> bool:
    """Whether it was measured in training too, which no metric of classes but accuracy is."""
    return not metric.of_classes and bool(rows[metric.name].notna().any())


def _panels(complete: pd.DataFrame, grid: Grid) -> dict[str, set[str]]:
    """Panel title → configs: one for each combination of the axes that do not lead."""
    others = [key for key in grid.keys if key != grid.lead]
    panels: dict[str, set[str]] = {}
    for config in dict.fromkeys(complete["config"]):
        title = SEPARATOR.join(f"{axis}: {grid.cells[config][axis]}" for axis in others)
        panels.setdefault(title, set()).add(config)
    return panels


def _draw(ax: Axes, line: _Line, look: Look, *, spread: bool = False) -> None:
    if line.untrained:
        if np.isfinite(line.mean[0]):
            ax.axhline(line.mean[0], color=look.colour, linestyle=(0, (1, 1)), linewidth=2)
        return
    epochs = np.arange(1, len(line.mean) + 1)
    val = line.split == "val"
    second_round = look.marker != "o"
    single = len(epochs) == 1
    ax.plot(
        epochs,
        line.mean,
        color=look.colour,
        linestyle="-" if val else DASHED,
        linewidth=1.9 if val else 1.2,
        marker=look.marker if second_round or single else None,
        markersize=6 if single else 4,
        markerfacecolor=look.colour if val else "white",
        markevery=max(1, len(epochs) // 6),
        zorder=3 if val else 2,
    )
    if val and spread and line.seeds is not None:
        _draw_spread(ax, line, line.seeds, look.colour)


def _draw_spread(ax: Axes, line: _Line, seeds: np.ndarray, colour: str) -> None:
    """The band of the mean; of too few seeds for one, the seeds."""
    epochs = np.arange(1, len(line.mean) + 1)
    ends = band(seeds, line.metric)
    if ends is None:
        if len(seeds) > 1:
            ax.plot(epochs, seeds.T, color=colour, linewidth=0.8, alpha=0.5, zorder=1)
        return
    low, high = ends
    if line.metric is LOSS:
        low = np.maximum(low, line.mean / 4)  # a log axis has no room for less than nothing
    ax.fill_between(epochs, low, high, color=colour, alpha=0.18, linewidth=0, zorder=1)


def _finish_all(rows: np.ndarray, lines: Sequence[_Line], metric: Metric) -> None:
    """Axes and labels of the two columns of panels."""
    for column, each in enumerate((LOSS, metric)):
        own = [line for line in lines if line.metric is each]
        _finish(rows[:, column], each, own, of=metric)


def _finish(axes: np.ndarray, metric: Metric, lines: Sequence[_Line], *, of: Metric) -> None:
    from matplotlib.ticker import MaxNLocator

    values = np.concatenate([line.mean for line in lines])
    values = values[np.isfinite(values)]
    positive = values[values > 0]
    ratio = positive.max() / positive.min() if len(positive) else 1.0
    for ax in axes:
        if metric is not LOSS:
            metric_axis(ax.yaxis, metric.label, metric)
            far_below_left_out(ax, metric)
        else:
            ax.set_ylabel(of.loss_axis)
            if ratio > _LOG_RATIO:
                ax.set_yscale("log")
                log_axis(ax.yaxis, ratio=ratio)
        if not len(values):
            ax.text(0.5, 0.5, f"no finite {metric.label}", ha="center", transform=ax.transAxes)
    if max(len(line.mean) for line in lines) > 1:
        axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    else:
        axes[-1].set_xlim(0.5, 1.5)
        axes[-1].set_xticks([] if all(line.untrained for line in lines) else [1])
    axes[-1].set_xlabel("epoch")


def _legend(look: Mapping[str, Look], lines: Sequence[_Line]) -> list[Artist]:
    handles: list[Artist] = [
        line_handle(
            value,
            color=each.colour,
            marker=each.marker if each.marker != "o" else None,
            linewidth=2.5,
        )
        for value, each in look.items()
    ]
    return handles + _split_handles(lines)


def _split_handles(lines: Sequence[_Line]) -> list[Artist]:
    handles: list[Artist] = []
    if any(not line.untrained for line in lines):
        handles.append(line_handle("validation", color=GREY, linewidth=1.9))
        handles.append(line_handle("training", color=GREY, linestyle=DASHED, linewidth=1.2))
    if any(line.untrained for line in lines):
        handles.append(line_handle("not trained: validation", color=GREY, linestyle=(0, (1, 1))))
    return handles


def _message(complete: pd.DataFrame, grid: Grid) -> str:
    values = complete["config"].map(lambda config: grid.cells[config][grid.lead])
    metric = grid.metric
    means = complete.groupby(values)[metric.last_val].mean().dropna()
    means = means.sort_values(ascending=metric.higher_is_better)
    if means.empty:
        return f"Loss and {metric.label} by epoch"
    best = reached(means.iloc[-1], "validation", metric)
    message = f"{shortened(str(means.index[-1]), 40)} ends at {best}"
    if len(means) == 1:
        return message
    worst = figure_text(means.iloc[0], metric)
    return f"{message} on average, {shortened(str(means.index[0]), 40)} at {worst}"


def _note(lines: Sequence[_Line], metric: Metric, *, hidden: int, spread: bool) -> str:
    notes = []
    numbers = {len(line.seeds) for line in lines if line.seeds is not None}
    if not spread and max(numbers, default=1) > 1:
        notes.append(f"Mean over seeds; of more than {MAX_SPREADS} lines no band is drawn.")
    elif any(n >= LEAST_BANDED for n in numbers):
        notes.append(f"Mean over seeds; {BAND}, of validation.")
    if spread and numbers & set(range(2, LEAST_BANDED)):
        notes.append("Thin: each of two seeds, in validation.")
    if any(not np.isfinite(line.mean).all() for line in lines):
        notes.append(f"Gaps: a loss or {metric.label} was not finite.")
    values = [line.mean for line in lines if line.metric is metric]
    if metric.name == "r2" and any((each < LEAST_R2).any() for each in values):
        notes.append(BELOW_LEAST_R2)
    if hidden:
        notes.append(f"The figures of single trials show {counted(hidden, 'more combination')}.")
    return " ".join(notes)
