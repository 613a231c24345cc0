"""What a run compared and how its configs rank: the numbers that plots and reports share.

Only complete trials count. Spreads describe the seeds that were run; they test nothing.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bench.results.metric import ACCURACY, Metric
from bench.system.visible_text import visible

if TYPE_CHECKING:
    import pandas as pd

PIPELINE = "pipeline"
"""A strategy on a backbone: what a run compares whose strategies cannot be compared on backbones.

Where some backbone has a strategy of its own, as TF-IDF has its logistic regression, no comparison
within backbones says what it is worth beside the others.
"""

PIPELINE_OF = ("strategy", "backbone")

AXES = (
    "strategy",
    "backbone",
    "weights",
    "head",
    "schedule",
    "augmentation",
    "optimizer",
    "lr",
    "batch_size",
    "epochs",
    "precision",
)
"""Columns of `trials` that tell configs apart, most telling first; settings come after them."""

BEFORE_RATES = (AXES.index("optimizer"), "")

SHOTS = "shots"
"""The setting that says how many images of each class train."""

ALL = "all"
"""Its value where all of them do."""

SEPARATOR = " · "
UNKNOWN = "–"


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The axes of a run, all values as visible text in order of appearance.

    `keys` are the varying axes that are needed to tell the configs apart. An axis that follows
    from those before it, such as the LR that one strategy brings along, varies but is no key.
    `cells` maps config → axis → value, `labels` config → its keys' values in words;
    `metric` is what configs are compared by.
    """

    axes: Mapping[str, tuple[str, ...]]
    keys: tuple[str, ...]
    cells: Mapping[str, Mapping[str, str]]
    labels: Mapping[str, str]
    metric: Metric = ACCURACY

    @property
    def varying(self) -> tuple[str, ...]:
        """The axes with more than one value; a pipeline tells its strategy and its backbone."""
        told = PIPELINE_OF if PIPELINE in self.axes else ()
        several = (axis for axis, values in self.axes.items() if len(values) > 1)
        return tuple(axis for axis in several if axis not in told)

    @property
    def lead(self) -> str:
        """The axis that colours stand for: the strategy where it varies.

        It is never how many images train: more of them are no rival of fewer. Where strategies
        cannot be compared on the same backbones, it is the pipeline.
        """
        return next((key for key in self.keys if key != SHOTS), "strategy")

    def trial_label(self, trial: Mapping[Any, Any]) -> str:
        """A row of `trials` in words: the label of its config, its seed, its fold if it has one."""
        label = f"{self.labels[str(trial['config'])]}{SEPARATOR}seed {trial['seed']}"
        fold = trial.get("fold")
        return label if is_missing(fold) else f"{label}{SEPARATOR}fold {fold}"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The spread of a figure over seeds; `sd` is the sample standard deviation, NaN for n < 2."""

    n: int
    mean: float
    sd: float


@dataclass(frozen=True, kw_only=True)
class ConfigResult:
    """What the complete trials of one config reached: figures of the grid's metric, and seconds.

    Of a run with folds, each seed counts with the mean over its folds; `best_epochs` are of all.
    `rank` is by the mean of `test`, 1 the best; equal means share a rank; `None` if no test figure
    is known.
    """

    config: str
    label: str
    cell: Mapping[str, str]
    rank: int | None
    seeds: tuple[int, ...]
    test: Spread
    val: Spread
    last_test: Spread
    train_seconds: Spread
    best_epochs: tuple[int, ...]


def complete_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials that count."""
    return trials[trials["status"] == "complete"]


def has_folds(trials: pd.DataFrame) -> bool:
    """Whether each trial is tested on a fold; older tables have no such column."""
    return "fold" in trials and bool(trials["fold"].notna().any())


def over_folds(trials: pd.DataFrame) -> pd.DataFrame:
    """A row for each config and seed: figures are means over its folds, the rest is of the first.

    What the seeds of a run vary can be read off these rows. Single folds share training images, so
    they are no more seeds. Without folds, `trials` as they are.
    """
    if not has_folds(trials):
        return trials
    keys = ["config", "seed"]
    figures = list(trials.select_dtypes("float").columns)
    means = trials.groupby(keys)[figures].mean()
    rows = trials.drop_duplicates(keys)
    own = means.loc[list(zip(rows["config"], rows["seed"], strict=True))]
    return rows.assign(fold=None, **{name: own[name].to_numpy() for name in figures})


def read_grid(trials: pd.DataFrame, metric: Metric = ACCURACY) -> Grid:
    """The grid of all trials, whatever became of them; `metric` is what compares its configs."""
    known = {
        str(row["config"]): _cell(row)
        for row in trials.groupby("config", sort=False).first().reset_index().to_dict("records")
    }
    if _has_lone_backbone(known.values()):
        known = {config: {PIPELINE: _pipeline(cell), **cell} for config, cell in known.items()}
    names = sorted({axis for cell in known.values() for axis in cell}, key=axis_order)
    axes = {
        axis: tuple(dict.fromkeys(cell[axis] for cell in known.values() if axis in cell))
        for axis in names
    }
    cells = {
        config: {axis: cell.get(axis, UNKNOWN) for axis in names} for config, cell in known.items()
    }
    keys = _keys(axes, list(cells.values()))
    return Grid(axes=axes, keys=keys, cells=cells, labels=_labels(cells, keys), metric=metric)


def rank_configs(trials: pd.DataFrame, grid: Grid) -> list[ConfigResult]:
    """The configs with a complete trial, the best mean test figure first, then in grid order."""
    complete = complete_trials(trials)
    groups = {str(config): group for config, group in complete.groupby("config", sort=False)}
    results = [
        _config_result(config, groups[config], grid) for config in grid.cells if config in groups
    ]
    # Sums of the same figures in another order differ in the last digit: that is no lead.
    scores = {r.config: round(grid.metric.sign * r.test.mean, 12) for r in results if r.test.n}
    ranks = {
        config: 1 + sum(other > score for other in scores.values())
        for config, score in scores.items()
    }
    ranked = [replace(result, rank=ranks.get(result.config)) for result in results]
    return sorted(ranked, key=lambda result: result.rank or len(ranked) + 1)


def spread(values: Iterable[Any]) -> Spread:
    """The spread of `values`; missing ones and NaN are left out."""
    known = [float(value) for value in values if not is_missing(value)]
    nan = math.nan
    return Spread(
        n=len(known),
        mean=statistics.fmean(known) if known else nan,
        sd=statistics.stdev(known) if len(known) > 1 else nan,
    )


def is_missing(value: Any) -> bool:
    """Whether a cell of a table holds nothing: null or NaN."""
    import pandas as pd

    return value is None or value is pd.NA or value != value


def value_text(value: Any) -> str:
    """A setting's value in words: `step(gamma=0.5)`, `0.001`, `none`."""
    if isinstance(value, Mapping) and "name" in value:
        options = [f"{k}={value_text(v)}" for k, v in value.items() if k != "name"]
        return f"{value['name']}({', '.join(options)})" if options else str(value["name"])
    if isinstance(value, (Mapping, list)):
        return json.dumps(value, ensure_ascii=False)
    if is_missing(value):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def axis_order(axis: str) -> tuple[int, str]:
    """To sort axes by: most telling first, settings after them by name."""
    if axis == PIPELINE:
        return (-1, "")
    return (AXES.index(axis) if axis in AXES else len(AXES), axis)


def flat(content: Mapping[str, Any], *, separator: str) -> dict[str, Any]:
    """Nested mappings as one, names joined by `separator`."""
    found: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            inner = flat(value, separator=separator)
            found |= {f"{name}{separator}{below}": each for below, each in inner.items()}
        else:
            found[name] = value
    return found


def _cell(row: Mapping[Any, Any]) -> dict[str, str]:
    # A trial that never ran has no precision: unknown is not one more value of the axis.
    cell = {axis: row[axis] for axis in AXES if not is_missing(row[axis])}
    settings = {} if is_missing(row["settings"]) else json.loads(row["settings"])
    cell |= {name: value for name, value in settings.items() if name not in row}
    texts = {name: visible(value_text(value)) for name, value in cell.items()}
    return {**texts, SHOTS: ALL} if SHOTS in cell and is_missing(cell[SHOTS]) else texts


def _has_lone_backbone(cells: Iterable[Mapping[str, str]]) -> bool:
    """Whether strategies cannot be compared on backbones: one has one strategy, or none has all."""
    of_backbone: dict[str, set[str]] = {}
    for cell in cells:
        of_backbone.setdefault(cell["backbone"], set()).add(cell["strategy"])
    counts = {len(own) for own in of_backbone.values()}
    strategies = set().union(*of_backbone.values())
    if len(of_backbone) < 2 or len(strategies) < 2:
        return False
    return min(counts) == 1 or max(counts) < len(strategies)


def _pipeline(cell: Mapping[str, str]) -> str:
    return " on ".join(cell[axis] for axis in PIPELINE_OF)


def _keys(
    axes: Mapping[str, tuple[str, ...]], cells: Sequence[Mapping[str, str]]
) -> tuple[str, ...]:
    keys: tuple[str, ...] = ()
    # A rate may follow from how many images train, as where it was searched for each number of
    # them; that number is never said to follow from a rate.
    for axis in sorted(axes, key=lambda axis: BEFORE_RATES if axis == SHOTS else axis_order(axis)):
        told_apart = {tuple(cell[key] for key in keys) for cell in cells}
        with_axis = {tuple(cell[key] for key in (*keys, axis)) for cell in cells}
        if len(axes[axis]) > 1 and len(with_axis) > len(told_apart):
            keys = (*keys, axis)
    return tuple(axis for axis in axes if axis in keys)


def _labels(cells: Mapping[str, Mapping[str, str]], keys: tuple[str, ...]) -> dict[str, str]:
    shown = keys or ("strategy",)
    labels = {
        config: SEPARATOR.join(cell[axis] for axis in shown) for config, cell in cells.items()
    }
    counts = Counter(labels.values())
    return {
        config: label if counts[label] == 1 else f"{label}{SEPARATOR}{config[:8]}"
        for config, label in labels.items()
    }


def _config_result(config: str, trials: pd.DataFrame, grid: Grid) -> ConfigResult:
    seeds = over_folds(trials)
    return ConfigResult(
        config=config,
        label=grid.labels[config],
        cell=grid.cells[config],
        rank=None,
        seeds=tuple(sorted(int(seed) for seed in seeds["seed"].dropna())),
        test=spread(seeds[grid.metric.test]),
        val=spread(seeds[grid.metric.val]),
        last_test=spread(seeds[grid.metric.last_test]),
        train_seconds=spread(seeds["train_seconds"]),
        best_epochs=tuple(sorted(int(epoch) for epoch in trials["best_epoch"].dropna())),
    )
