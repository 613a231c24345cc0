"""Panels side by side: a strategy with its seeds each, a schedule with its learning rates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import counted
from bench.results.grid import SEPARATOR, Grid, complete_trials, read_grid
from bench.results.metric import ACCURACY, Metric
from bench.results.plots.bands import BAND, LEAST_BANDED, band
from bench.results.plots.style import (
    BELOW_LEAST_R2,
    GREY,
    LEAST_R2,
    LINES,
    far_below_left_out,
    figure_text,
    key_below,
    line_handle,
    log_axis,
    looks,
    metric_axis,
    new_panels,
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

MAX_PANELS = 12
MAX_HANDLES = 16
"""Curves in one legend."""

_DASHED = (0, (4, 2))


@styled
def strategy_panels(
    trials: pd.DataFrame,
    curves: pd.DataFrame,
    configs: Mapping[str, str],
    metric: Metric = ACCURACY,
) -> Figure | None:
    """Figures by epoch, a panel for each of `configs` (name → config).

    Its seeds are thin, their mean is thick with the band of its 95 % interval, training (where it
    is known) is dashed; the other means are grey behind it. `None` unless two of them trained.
    """
    from matplotlib.ticker import MaxNLocator

    grid = read_grid(trials)
    complete = complete_trials(trials)
    seeds = {
        name: {
            split: _by_seed(complete, curves, config, split, metric) for split in ("train", "val")
        }
        for name, config in list(configs.items())[:MAX_PANELS]
    }
    seeds = {name: each for name, each in seeds.items() if each["val"].size}
    if len(seeds) < 2:
        return None
    means = {name: each["val"].mean(axis=0) for name, each in seeds.items()}
    figure, panels = new_panels(
        len(seeds),
        rest=1.0,
        each=2.2,
        title=_panels_message(seeds, metric),
        sharex=True,
        sharey=True,
    )
    look = looks(grid.axes[grid.lead])
    for panel, (name, own) in zip(panels, seeds.items(), strict=True):
        ax = panel.ax
        for other, mean in means.items():
            if other != name:
                ax.plot(np.arange(1, len(mean) + 1), mean, color="#cccccc", linewidth=1)
        _draw_seeds(ax, own, look[name].colour, metric)
        ax.set_title(wrapped(shortened(name, 60), 28), loc="left", color=GREY)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        if panel.bottom:
            ax.set_xlabel("epoch")
        if panel.left:
            metric_axis(ax.yaxis, metric.label, metric)
            far_below_left_out(ax, metric)
    handles = [
        line_handle("validation, mean", color=GREY, linewidth=2.2),
        line_handle("validation, one seed", color=GREY, linewidth=0.8, alpha=0.6),
    ]
    if any(each["train"].size for each in seeds.values()):
        handles.append(line_handle("training, mean", color=GREY, linestyle=_DASHED, linewidth=1.2))
    handles.append(line_handle("others", color="#cccccc", linewidth=1))
    banded = any(len(each["val"]) >= LEAST_BANDED for each in seeds.values())
    notes = [f"{BAND[:1].upper()}{BAND[1:]}."] if banded else []
    if metric.name == "r2" and any((each["val"] < LEAST_R2).any() for each in seeds.values()):
        notes.append(BELOW_LEAST_R2)
    key_below(figure, handles, note=" ".join(notes))
    return figure


@styled
def learning_rates(trials: pd.DataFrame, curves: pd.DataFrame) -> Figure | None:
    """The head's learning rate at the first step of every epoch, a panel for each schedule.

    Equal curves are drawn once. `None` without curves.
    """
    from matplotlib.ticker import MaxNLocator

    grid = read_grid(trials)
    complete = complete_trials(trials)
    rows = curves[(curves["split"] == "train") & curves["trial"].isin(complete["trial"])]
    if rows.empty:
        return None
    first = {
        str(row["trial"]): (str(row["config"]), str(row["schedule"]))
        for row in complete.drop_duplicates("config").to_dict("records")
    }
    shown: dict[str, dict[tuple[float, ...], list[str]]] = {}
    for trial, own in rows[rows["trial"].isin(first)].groupby("trial", sort=False):
        config, schedule = first[str(trial)]
        rates = tuple(own.sort_values("epoch")["lr"].round(12))
        shown.setdefault(schedule, {}).setdefault(rates, []).append(config)
    names = list(shown)[:MAX_PANELS]
    figure, panels = new_panels(
        len(names), rest=1.0, each=2.0, title=_rates_message(shown), sharey=True
    )
    look = looks(grid.axes[grid.lead])
    every = [rate for each in shown.values() for rates in each for rate in rates]
    handles: dict[tuple[str, str, Any], Artist] = {}
    for panel, name in zip(panels, names, strict=True):
        ax = panel.ax
        labels = _rates_labels(list(shown[name].values()), grid)
        seen: Counter[str] = Counter()
        for (rates, configs), label in zip(shown[name].items(), labels, strict=True):
            epochs = np.arange(1, len(rates) + 1)
            colour = look[grid.cells[configs[0]][grid.lead]].colour
            style = LINES[seen[colour] % len(LINES)]
            seen[colour] += 1
            ax.plot(
                epochs,
                rates,
                color=colour,
                linestyle=style,
                marker="." if len(rates) < 30 else "",
            )
            handles.setdefault(
                (label, colour, style), line_handle(label, color=colour, linestyle=style)
            )
        ax.set_title(wrapped(shortened(name, 60), 28), loc="left", color=GREY)
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        if min(every) > 0:
            ax.set_yscale("log")
            log_axis(ax.yaxis, ratio=max(every) / min(every))
        if panel.left:
            ax.set_ylabel("learning rate")
    note = "Of the head, at the first step of an epoch. Equal curves are drawn once."
    if len(handles) > MAX_HANDLES:
        note += f" Drawn, but not named: {counted(len(handles) - MAX_HANDLES, 'more curve')}."
    key_below(figure, list(handles.values())[:MAX_HANDLES], note=note)
    return figure


def _rates_labels(curves: Sequence[Sequence[str]], grid: Grid) -> list[str]:
    """What the configs of each curve are; where the leading values do not tell, the other axes do.

    `curves` are the configs of each.
    """
    leads = [list(dict.fromkeys(grid.cells[c][grid.lead] for c in configs)) for configs in curves]
    every = Counter(value for values in leads for value in values)
    others = [key for key in grid.keys if key not in (grid.lead, "schedule")]
    labels = []
    for configs, values in zip(curves, leads, strict=True):
        label = ", ".join(values)
        if any(every[value] > 1 for value in values):
            for axis in others:
                own = list(dict.fromkeys(grid.cells[config][axis] for config in configs))
                if len(own) < len(grid.axes[axis]):
                    label += f"{SEPARATOR}{axis} {', '.join(own)}"
        labels.append(label)
    return labels


def _by_seed(
    complete: pd.DataFrame, curves: pd.DataFrame, config: str, split: str, metric: Metric
) -> np.ndarray:
    """Figures `[seeds, epochs]` up to the last epoch that all seeds reached; none if none known."""
    trials = complete.loc[complete["config"] == config, "trial"]
    rows = curves[curves["trial"].isin(trials) & (curves["split"] == split)]
    if rows[metric.name].isna().all():
        return np.empty((0, 0))
    series = [
        group.sort_values("epoch")[metric.name].to_numpy(float)
        for _, group in rows.groupby("trial", sort=False)
    ]
    common = min(map(len, series), default=0)
    return np.array([values[:common] for values in series]) if common else np.empty((0, 0))


def _draw_seeds(ax: Axes, seeds: Mapping[str, np.ndarray], colour: str, metric: Metric) -> None:
    val, train = seeds["val"], seeds["train"]
    epochs = np.arange(1, val.shape[1] + 1)
    mean = val.mean(axis=0)
    if len(val) > 1:
        ax.plot(epochs, val.T, color=colour, linewidth=0.8, alpha=0.45)
    ends = band(val, metric)
    if ends is not None:
        ax.fill_between(epochs, *ends, color=colour, alpha=0.18, linewidth=0)
    single = "o" if len(epochs) == 1 else None
    ax.plot(epochs, mean, color=colour, linewidth=2.2, marker=single)
    if train.size:
        common = train.mean(axis=0)
        ax.plot(
            np.arange(1, len(common) + 1), common, color=colour, linestyle=_DASHED, linewidth=1.2
        )


def _panels_message(seeds: Mapping[str, Mapping[str, np.ndarray]], metric: Metric) -> str:
    """Who is first at the end of the second epoch, where transfer shows, and at the end."""
    ends = {name: float(each["val"].mean(axis=0)[-1]) for name, each in seeds.items()}
    early = {name: float(each["val"].mean(axis=0)[:2][-1]) for name, each in seeds.items()}
    merits = {name: metric.sign * end for name, end in ends.items()}
    best, worst = max(merits, key=lambda n: merits[n]), min(merits, key=lambda n: merits[n])
    first = reached(early[best], "validation", metric)
    then, other, later = (
        figure_text(value, metric) for value in (ends[best], early[worst], ends[worst])
    )
    return (
        f"{shortened(best, 36)}: {first} after two epochs, {then} at the end; "
        f"{shortened(worst, 36)}: {other} and {later}"
    )


def _rates_message(shown: Mapping[str, Mapping[tuple[float, ...], list[str]]]) -> str:
    every = [rate for each in shown.values() for rates in each for rate in rates]
    low, high = min(every), max(every)
    if low == high:
        return f"The learning rate is {high:.2g} throughout"
    return f"Learning rates run from {high:.2g} down to {low:.2g}"
