"""Test figures compared: ranked, by two axes, against costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.results.analysis import COSTS, mean_interval, pareto_front
from bench.results.grid import (
    SEPARATOR,
    ConfigResult,
    Grid,
    complete_trials,
    over_folds,
    rank_configs,
    read_grid,
)
from bench.results.metric import ACCURACY, Metric
from bench.results.plots.bands import LEAST_BANDED
from bench.results.plots.style import (
    GREY,
    Look,
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
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from numpy.typing import ArrayLike

MAX_ROWS = 24
"""Rows of the ranked plot; of more configs, the best of each leading value by validation."""

# Times whose ratio exceeds this are spread over a log axis.
_WIDE_RATIO = 8.0

_INTERVAL = "95 % interval over seeds (Student's t)"
_SD = "± one standard deviation over seeds"

MAX_CELLS = 12
"""Columns of a heat map whose cells have room for a deviation; of twice as many, for a mean."""
MAX_NAMED = 40
"""Names on one side of a heat map; of more, every second one, third one and so on is named."""

_FILLS = ("full", "none", "left", "right", "bottom", "top")
"""How the markers of configs differ that have one leading value."""


@styled
def ranked_configs(trials: pd.DataFrame, metric: Metric = ACCURACY) -> Figure | None:
    """Test figures at the chosen epoch: a dot per seed, the mean with its 95 % interval.

    A row is a config. If there are more than `MAX_ROWS`, each strategy (or leading value) shows the
    config with its best mean validation figure. `None` without a known test figure.
    """
    grid = read_grid(trials, metric)
    results = [result for result in rank_configs(trials, grid) if result.rank is not None]
    if not results:
        return None
    rows = results if len(results) <= MAX_ROWS else _chosen_by_validation(results, grid)
    notes = _seeds_notes({result.test.n for result in rows})
    if len(rows) < len(results):
        notes.append(
            f"Of {len(results)} configs, for each {grid.lead} the one with the {metric.best} mean "
            f"validation {metric.label}."
        )
    labels = [wrapped(shortened(result.label, 64), 32) for result in rows]
    lines = sum(label.count("\n") + 1 for label in labels)
    height = 1.6 + 0.24 * max(lines, 1.5 * len(rows))
    figure = new_figure(height, title=_ranked_message(rows, metric))
    ax = figure.subplots()
    look = looks(grid.axes[grid.lead])
    for position, result in enumerate(rows):
        _draw_row(ax, position, result, trials, metric, look[result.cell[grid.lead]])
    ax.set_yticks(range(len(rows)), labels)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    metric_axis(ax.xaxis, f"test {metric.label} at the chosen epoch", metric)
    key_below(figure, note=" ".join(notes))
    return figure


@styled
def heat_map(
    trials: pd.DataFrame, axis: str, metric: Metric = ACCURACY, *, by: str | None = None
) -> Figure | None:
    """Mean test figures by `axis` and `by` (default: the leading axis), ± standard deviation.

    Every seed is first averaged over the remaining axes. `None` unless both axes vary freely.
    """
    grid = read_grid(trials, metric)
    complete = complete_trials(trials).dropna(subset=[metric.test])
    lead = by or grid.lead
    if complete.empty or axis == lead or not {axis, lead} <= set(grid.keys):
        return None
    rows, columns = grid.axes[lead], grid.axes[axis]
    mean, sd = _cells(complete, grid, lead, axis)
    row = 0.58 if len(columns) <= MAX_CELLS else 0.34
    height = 2.0 + row * min(len(rows), MAX_NAMED)
    figure = new_figure(height, title=_heat_map_message(mean, lead, axis, metric))
    ax = figure.subplots()
    shades = "viridis" if metric.higher_is_better else "viridis_r"  # the best is bright
    image = ax.imshow(np.ma.masked_invalid(mean), cmap=shades, aspect="auto")
    ax.grid(visible=False)
    ax.set_facecolor("#eeeeee")
    _name_columns(ax, columns)
    step = _step(rows)
    ax.set_yticks(
        range(0, len(rows), step), [wrapped(shortened(value, 56), 28) for value in rows[::step]]
    )
    ax.tick_params(length=0)
    ax.set_xlabel(axis)
    ax.set_ylabel(lead)
    numbered = len(columns) <= 2 * MAX_CELLS and step == 1
    deviations = numbered and len(columns) <= MAX_CELLS and bool(np.isfinite(sd).any())
    if numbered:
        _annotate(ax, image, mean, sd if deviations else np.full_like(sd, np.nan), metric)
    bar = figure.colorbar(image, ax=ax, aspect=14, pad=0.02)
    metric_axis(bar.ax.yaxis, f"test {metric.label}", metric)
    first = ", other axes averaged first" if len(grid.keys) > 2 else ""
    several = f"Mean {_SD}" if deviations else "Mean over seeds"
    spread = several if np.isfinite(sd).any() else "One seed"
    skipped = max(step, _step(columns))
    some = f" One of {skipped} values is named." if skipped > 1 else ""
    key_below(figure, note=f"{spread}{', in percent' if metric.percent else ''}{first}.{some}")
    return figure


def _step(values: Sequence[str]) -> int:
    """Of so many values one is named."""
    return -(-len(values) // MAX_NAMED)


def _name_columns(ax: Axes, columns: Sequence[str]) -> None:
    """Names below the columns: level while there is room, then slanting, then upright."""
    few = len(columns) <= 5
    step = _step(columns)
    shown = columns[::step]
    ax.set_xticks(
        range(0, len(columns), step),
        [wrapped(shortened(v, 40), 66 // len(columns)) if few else shortened(v, 26) for v in shown],
        rotation=0 if few else 35 if len(shown) <= MAX_CELLS else 90,
        ha="center" if few or len(shown) > MAX_CELLS else "right",
        rotation_mode="default" if few or len(shown) > MAX_CELLS else "anchor",
    )


@styled
def against_cost(trials: pd.DataFrame, column: str, metric: Metric = ACCURACY) -> Figure | None:
    """Test figures against a cost: a small dot per seed, a large one per config's mean.

    `column` is one of `COSTS`. Configs that none beats at lower cost are joined by a line. `None`
    unless two configs have both figures, and the cost differs.
    """
    grid = read_grid(trials, metric)
    complete = complete_trials(trials)
    costs = complete.groupby("config")[column].mean()
    ranked = [result for result in rank_configs(trials, grid) if result.rank is not None]
    results = [r for r in ranked if np.isfinite(costs.get(r.config, np.nan))]
    means = [float(costs[result.config]) for result in results]
    if len(results) < 2 or not max(means) > min(means):
        return None
    tested = [result.test.mean for result in results]
    front = pareto_front([metric.sign * each for each in tested], means)
    figure = new_figure(4.0, title=_cost_message(column, results, means, metric))
    ax = figure.subplots()
    look = looks(grid.axes[grid.lead])
    unit, size = _cost_unit(column, max(means))
    kept = sorted((c / size, r) for r, c, best in zip(tested, means, front, strict=True) if best)
    ax.step(*zip(*kept, strict=True), where="post", color=GREY, linestyle=":", linewidth=1.3)
    fills = _fills(results, grid)
    for result, mean in zip(results, means, strict=True):
        trial = _trials_of(result, trials)
        each, fill = look[result.cell[grid.lead]], fills.get(_others(result, grid), _FILLS[0])
        _dots(ax, trial[column].astype(float) / size, trial[metric.test], each)
        _mean_dot(ax, mean / size, result.test.mean, each, fill)
    _scale_cost(ax, [mean / size for mean in means])
    ax.set_xlabel(f"{COSTS[column]} of a trial ({unit})")
    metric_axis(ax.yaxis, f"test {metric.label}", metric)
    used = {result.cell[grid.lead] for result in results}
    handles = [
        line_handle(value, color=each.colour, marker=each.marker, linestyle="")
        for value, each in look.items()
        if value in used
    ]
    handles += [
        line_handle(others, color=GREY, marker="o", linestyle="", fillstyle=fill, markersize=9)
        for others, fill in fills.items()
    ]
    better = "more accurate" if metric.is_accuracy else "better"
    note = (
        "Small: one seed. Large: mean over the seeds of a config. Dotted: no other config is "
        f"{better} at the same {COSTS[column]} or less."
    )
    several = len({_others(result, grid) for result in results}) > 1
    if several and not fills:
        others = ", ".join(key for key in grid.keys if key != grid.lead)
        note += f" Configs that differ in {others} only look the same."
    if len(results) < len(ranked):
        note += f" Left out: {len(ranked) - len(results)} of {len(ranked)} configs whose "
        note += f"{COSTS[column]} is not known."
    key_below(figure, handles, note=note)
    return figure


def _seeds_notes(numbers: set[int]) -> list[str]:
    """What is drawn of configs with these numbers of seeds."""
    if max(numbers) < 2:
        return ["One seed."]
    if max(numbers) < LEAST_BANDED:
        return ["Small: one seed. Large: mean; of two seeds no interval is drawn."]
    return [f"Small: one seed. Large: mean, with its {_INTERVAL}."]


def _chosen_by_validation(results: Sequence[ConfigResult], grid: Grid) -> list[ConfigResult]:
    # By validation, since the best of many test figures flatters.
    chosen: dict[str, ConfigResult] = {}
    for result in sorted(results, key=lambda r: _loss_of(r.val.mean, grid.metric)):
        chosen.setdefault(result.cell[grid.lead], result)
    return [result for result in results if result in chosen.values()]


def _loss_of(value: float, metric: Metric) -> float:
    """Less is better; what is not known comes last."""
    return float(np.nan_to_num(-metric.sign * value, nan=np.inf))


def _draw_row(
    ax: Axes,
    position: int,
    result: ConfigResult,
    trials: pd.DataFrame,
    metric: Metric,
    look: Look,
) -> None:
    seeds = _trials_of(result, trials)[metric.test].dropna().to_numpy()
    # Equal figures of several seeds would hide each other.
    shifts = 0.11 * (np.arange(len(seeds)) - (len(seeds) - 1) / 2)
    _dots(ax, seeds, position + np.clip(shifts, -0.35, 0.35), look)
    text = metric.number(result.test.mean)
    if len(seeds) >= LEAST_BANDED:
        low, high = mean_interval(seeds)
        ax.hlines(position, low, high, look.colour)
    _mean_dot(ax, result.test.mean, position, look)
    ax.annotate(text, (1.01, position), xycoords=("axes fraction", "data"), va="center", size=10)


def _trials_of(result: ConfigResult, trials: pd.DataFrame) -> pd.DataFrame:
    """A row a seed."""
    complete = complete_trials(trials)
    return over_folds(complete[complete["config"] == result.config])


def _dots(ax: Axes, x: ArrayLike, y: ArrayLike, look: Look) -> None:
    ax.plot(
        x,
        y,
        linestyle="",
        marker=look.marker,
        markersize=5,
        color=look.colour,
        alpha=0.5,
        markeredgewidth=0,
    )


def _mean_dot(ax: Axes, x: float, y: float, look: Look, fill: str = _FILLS[0]) -> None:
    edge = "white" if fill == _FILLS[0] else look.colour
    # What is hollow in part stays so above the dots of the seeds.
    style: Mapping[str, Any] = {"fillstyle": fill, "markerfacecoloralt": "white"}
    if fill == "none":
        style = {"markerfacecolor": "white"}
    ax.plot(
        x, y, marker=look.marker, markersize=10, color=look.colour, markeredgecolor=edge, **style
    )


def _others(result: ConfigResult, grid: Grid) -> str:
    """The values of a config on the axes that do not lead."""
    return SEPARATOR.join(result.cell[key] for key in grid.keys if key != grid.lead)


def _fills(results: Sequence[ConfigResult], grid: Grid) -> dict[str, str]:
    """How configs of one leading value differ: nothing where they do not, or are too many."""
    others = sorted({_others(result, grid) for result in results})
    if not 1 < len(others) <= len(_FILLS):
        return {}
    return dict(zip(others, _FILLS, strict=False))


def _ranked_message(rows: Sequence[ConfigResult], metric: Metric) -> str:
    best, worst = rows[0], rows[-1]
    message = f"{shortened(best.label, 60)} reaches {reached(best.test.mean, 'test', metric)}"
    if len(rows) == 1:
        return message
    return f"{message}, {shortened(worst.label, 60)} {figure_text(worst.test.mean, metric)}"


def _cells(
    complete: pd.DataFrame, grid: Grid, lead: str, axis: str
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over seeds, [values of `lead`, values of `axis`]."""
    values = complete.assign(
        row=complete["config"].map(lambda config: grid.cells[config][lead]),
        column=complete["config"].map(lambda config: grid.cells[config][axis]),
    )
    per_seed = values.groupby(["row", "column", "seed"])[grid.metric.test].mean()
    over_seeds = per_seed.groupby(["row", "column"])
    rows, columns = list(grid.axes[lead]), list(grid.axes[axis])
    mean, sd = (
        cells.unstack("column").reindex(index=rows, columns=columns).to_numpy(dtype=float)
        for cells in (over_seeds.mean(), over_seeds.std(ddof=1))
    )
    return mean, sd


def _heat_map_message(mean: np.ndarray, lead: str, axis: str, metric: Metric) -> str:
    by_axis = metric.points(metric.number(max(_range(row) for row in mean)))
    by_lead = metric.number(max(_range(column) for column in mean.T))
    return (
        f"Changing the {axis} moves test {metric.label} by up to {by_axis}, "
        f"changing the {lead} by up to {by_lead}"
    )


def _range(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.max() - known.min()) if len(known) else 0.0


def _annotate(ax: Axes, image: AxesImage, mean: np.ndarray, sd: np.ndarray, metric: Metric) -> None:
    size = 10 if mean.shape[1] <= MAX_CELLS - 2 else 8 if mean.shape[1] <= 16 else 7
    for (row, column), value in np.ndenumerate(mean):
        text, colour = "–", GREY
        if np.isfinite(value):
            text = metric.number(value)
            if np.isfinite(sd[row, column]):
                text += f"\n± {metric.number(float(sd[row, column]))}"
            red, green, blue, _ = image.cmap(image.norm(value))
            light = 0.299 * red + 0.587 * green + 0.114 * blue > 0.55
            colour = "black" if light else "white"
        ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)


def _cost_message(
    column: str, results: Sequence[ConfigResult], means: Sequence[float], metric: Metric
) -> str:
    best, cheapest = results[0], results[int(np.argmin(means))]
    first, least = (
        _reached_at_cost(result, column, cost, metric)
        for result, cost in ((best, means[0]), (cheapest, min(means)))
    )
    message = f"{shortened(best.label, 60)} reaches {first}"
    if best.config == cheapest.config:
        ahead = "most accurate" if metric.is_accuracy else f"{metric.best} {metric.label}"
        return f"{message}: the {ahead} with {_least(column)}"
    return f"{message}; with {_least(column)}, {shortened(cheapest.label, 60)} reaches {least}"


def _least(column: str) -> str:
    return f"the {'fewest' if column.endswith('params') else 'least'} {COSTS[column]}"


def _reached_at_cost(result: ConfigResult, column: str, cost: float, metric: Metric) -> str:
    unit, size = _cost_unit(column, cost)
    return f"{figure_text(result.test.mean, metric)} with {float(f'{cost / size:.3g}'):,g} {unit}"


def _cost_unit(column: str, largest: float) -> tuple[str, float]:
    """A unit for costs of up to `largest`, and its size."""
    if column == "train_seconds":
        return _time_unit(largest)
    if column == "peak_memory_mib":
        return ("GiB", 1024.0) if largest >= 2048 else ("MiB", 1.0)
    return ("million", 1e6) if largest >= 1e6 else ("parameters", 1.0)


def _time_unit(longest: float) -> tuple[str, float]:
    """The largest unit of which `longest` seconds are at least three, and its seconds."""
    units = (("h", 3600.0), ("min", 60.0))
    return next(((unit, size) for unit, size in units if longest >= 3 * size), ("s", 1.0))


def _scale_cost(ax: Axes, means: Sequence[float]) -> None:
    positive = [mean for mean in means if mean > 0]
    ratio = max(positive) / min(positive)
    if ratio <= _WIDE_RATIO:
        ax.set_xlim(left=min(0.0, ax.get_xlim()[0]))
        return
    if len(positive) == len(means):
        ax.set_xscale("log")
        log_axis(ax.xaxis, ratio=ratio)
    else:  # what trains nothing takes no time, and a log axis has no place for it
        ax.set_xscale("symlog", linthresh=min(positive))
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
