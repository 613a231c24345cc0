"""Which config stands for a strategy, so that what is reported was not chosen on the same luck."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.results.analysis.label_sizes import at_size, size_compared
from bench.results.grid import PIPELINE, Grid, complete_trials, has_folds

if TYPE_CHECKING:
    import pandas as pd

BLOCK = "backbone"
"""The axis whose values are blocks: strategies are compared on the same ones."""

ONE_BLOCK = ""
"""The block where there are none."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What stands for a value of the leading axis in a block.

    In each seed it is the config that the *other* seeds' validation figures choose: `trials` maps
    seed → trials (one, or one a fold in their order), `configs` seed → config, `val` seed →
    validation figure. `config` is what all seeds choose, for use; `candidates` counts the configs.
    """

    config: str
    candidates: int
    trials: Mapping[int, tuple[str, ...]]
    configs: Mapping[int, str]
    val: Mapping[int, float]

    @property
    def all_trials(self) -> tuple[str, ...]:
        """The trials of all seeds."""
        return tuple(trial for own in self.trials.values() for trial in own)

    @property
    def agreeing(self) -> int:
        """In how many seeds the others choose what all choose."""
        return sum(config == self.config for config in self.configs.values())


def choices(trials: pd.DataFrame, grid: Grid) -> dict[str, dict[str, Choice]]:
    """Value of the leading axis → block → what stands for it; values without a test figure miss.

    Of configs that validation finds equal, and where there is no validation, the first of the grid
    stands. The test split has no say. Where the number of training images varies, one of them is
    compared: `size_compared`.
    """
    complete = compared_trials(trials, grid)
    in_blocks = BLOCK in grid.varying and grid.lead not in (BLOCK, PIPELINE)
    found: dict[str, dict[str, Choice]] = {}
    cells = complete["config"].map(
        lambda config: (
            grid.cells[config][grid.lead],
            grid.cells[config][BLOCK] if in_blocks else ONE_BLOCK,
        )
    )
    for (value, block), own in complete.groupby(cells, sort=False):
        found.setdefault(value, {})[block] = choice_among(own, grid)
    return {value: found[value] for value in grid.axes[grid.lead] if value in found}


def compared_trials(trials: pd.DataFrame, grid: Grid) -> pd.DataFrame:
    """The trials that a verdict looks at: complete, tested, of one size and with all folds."""
    complete = complete_trials(trials)
    complete = complete[complete[grid.metric.test].notna() & complete["seed"].notna()]
    complete = at_size(complete, grid, size_compared(complete, grid))
    return with_all_folds(complete) if has_folds(complete) else complete


def choice_among(trials: pd.DataFrame, grid: Grid) -> Choice:
    """What stands for some of the trials that a verdict looks at, of one config or of several."""
    order = {config: index for index, config in enumerate(grid.cells)}
    by_config = trials.groupby(["seed", "config"], observed=True)["trial"].agg(tuple).unstack()
    by_config = by_config[sorted(by_config.columns, key=lambda name: order[str(name)])]
    val = trials.pivot_table(index="seed", columns="config", values=grid.metric.val, dropna=False)
    val = val.reindex(index=by_config.index, columns=by_config.columns)
    return _choice(by_config, val, grid)


def representatives(trials: pd.DataFrame, grid: Grid) -> dict[str, str]:
    """For each value of the leading axis the config that stands for it, for use: value → config."""
    return {value: chosen_config(own, grid) for value, own in choices(trials, grid).items()}


def chosen_config(own: Mapping[str, Choice], grid: Grid) -> str:
    """What all seeds choose, on that of several backbones which validation prefers."""
    return preferred(own, grid).config


def preferred(own: Mapping[str, Choice], grid: Grid) -> Choice:
    """Of several backbones that which validation prefers."""

    def merit(choice: Choice) -> float:
        known = [value for value in choice.val.values() if not math.isnan(value)]
        return grid.metric.sign * sum(known) / len(known) if known else -math.inf

    return max(own.values(), key=merit)


def with_all_folds(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials of the seeds that have all folds of their config, in the order of folds."""
    counts = trials.groupby(["config", "seed"])["fold"].transform("nunique")
    return trials[counts == trials["fold"].nunique()].sort_values("fold", kind="stable")


def _choice(trials: pd.DataFrame, val: pd.DataFrame, grid: Grid) -> Choice:
    """`trials` and `val` have a row a seed and a column a config."""
    plain = np.asarray(val.to_numpy(), dtype=np.float64)
    figures = grid.metric.sign * plain
    ids = trials.to_numpy(dtype=object)
    known = np.asarray(trials.notna().to_numpy(), dtype=bool)
    names = [str(name) for name in trials.columns]
    chosen = {}
    for row, seed in enumerate(trials.index):
        others = np.arange(len(figures)) != row if len(figures) > 1 else slice(None)
        chosen[int(str(seed))] = _best(figures[others], np.asarray(known[row], dtype=bool))
    return Choice(
        config=names[_best(figures, np.asarray(known.any(axis=0)))],
        candidates=len(names),
        trials={seed: ids[row, chosen[seed]] for row, seed in enumerate(chosen)},
        configs={seed: names[column] for seed, column in chosen.items()},
        val={seed: float(plain[row, chosen[seed]]) for row, seed in enumerate(chosen)},
    )


def _best(figures: np.ndarray, allowed: np.ndarray) -> int:
    """The column with the largest mean of what is known, of those that are allowed."""
    known = np.isfinite(figures)
    counts, sums = known.sum(axis=0), np.where(known, figures, 0.0).sum(axis=0)
    means = np.where(counts > 0, np.round(sums / np.maximum(counts, 1), 12), -np.inf)
    means = np.where(allowed, means, -np.inf)
    best = int(means.argmax())
    return best if np.isfinite(means[best]) else int(np.flatnonzero(allowed)[0])
