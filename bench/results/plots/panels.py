"""Panels side by side: a strategy with its seeds each, a schedule with its learning rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from bench.results.grid import complete_trials, read_grid
from bench.results.metric import ACCURACY, Metric
from bench.results.plots.style import (
    GREY,
    figure_text,
    key_below,
    line_handle,
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
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_PANELS = 12
_DASHED = (0, (4, 2))


@styled
def strategy_panels(
    trials: pd.DataFrame,
    curves: pd.DataFrame,
    configs: Mapping[str, str],
    metric: Metric = ACCURACY,
) -> Figure | None:
    """Figures by epoch, a panel for each of `configs` (name → config).

    Its seeds are thin, their mean is thick with a band of one standard deviation, training (where
    it is known) is dashed; the other means are grey behind it. `None` unless two of them trained.
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
    handles = [
        line_handle("validation, mean ± standard deviation", color=GREY, linewidth=2.2),
        line_handle("validation, one seed", color=GREY, linewidth=0.8, alpha=0.6),
    ]
    if any(each["train"].size for each in seeds.values()):
        handles.append(line_handle("training, mean", color=GREY, linestyle=_DASHED, linewidth=1.2))
    handles.append(line_handle("others", color="#cccccc", linewidth=1))
    key_below(figure, handles)
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
        values = shown.setdefault(schedule, {}).setdefault(rates, [])
        if (value := grid.cells[config][grid.lead]) not in values:
            values.append(value)
    names = list(shown)[:MAX_PANELS]
    figure, panels = new_panels(
        len(names), rest=1.0, each=2.0, title=_rates_message(shown), sharey=True
    )
    look = looks(grid.axes[grid.lead])
    positive = all(min(rates) > 0 for each in shown.values() for rates in each)
    for panel, name in zip(panels, names, strict=True):
        ax = panel.ax
        for rates, values in shown[name].items():
            epochs = np.arange(1, len(rates) + 1)
            colour = look[values[0]].colour
            ax.plot(epochs, rates, color=colour, marker="." if len(rates) < 30 else "")
        ax.set_title(wrapped(shortened(name, 60), 28), loc="left", color=GREY)
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        if positive:
            ax.set_yscale("log")
        if panel.left:
            ax.set_ylabel("learning rate")
    used = {", ".join(values): values[0] for each in shown.values() for values in each.values()}
    handles = [line_handle(label, color=look[value].colour) for label, value in used.items()]
    note = "Of the head, at the first step of an epoch. Equal curves are drawn once."
    key_below(figure, handles, note=note)
    return figure


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
        sd = val.std(axis=0, ddof=1)
        bounds = (0, 1) if metric.percent else (-np.inf, np.inf)
        low, high = np.clip([mean - sd, mean + sd], *bounds)
        ax.fill_between(epochs, low, high, color=colour, alpha=0.18, linewidth=0)
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
