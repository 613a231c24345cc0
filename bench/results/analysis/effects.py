"""Which axes of the grid matter, and which configs nothing beats at lower cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.results.grid import Grid, complete_trials, over_folds

if TYPE_CHECKING:
    import pandas as pd

COSTS = {
    "train_seconds": "training time",
    "trainable_params": "trainable parameters",
    "peak_memory_mib": "peak memory",
}


@dataclass(frozen=True, kw_only=True)
class Effect:
    """The share of the variance of test figures that an axis explains, or two together."""

    axes: tuple[str, ...]
    share: float


def variance_shares(trials: pd.DataFrame, grid: Grid) -> list[Effect]:
    """Main effects and two-way interactions of the axes and the seed, largest first.

    The classical decomposition of a balanced grid (η², Fisher): shares add up to 1 with the rest,
    which is higher interactions and, with the seed as an axis, no error term. Empty unless every
    combination of the axes' values has every seed, or where nothing varies.
    """
    import pandas as pd

    complete = over_folds(complete_trials(trials).dropna(subset=[grid.metric.test]))
    columns = {
        axis: complete["config"].map(lambda config, axis=axis: grid.cells[config][axis])
        for axis in grid.keys
    }
    frame = pd.DataFrame({**columns, "seed": complete["seed"], "y": complete[grid.metric.test]})
    axes = [axis for axis in (*grid.keys, "seed") if frame[axis].nunique() > 1]
    sizes = [frame[axis].nunique() for axis in axes]
    cells = frame.groupby(axes)["y"].mean() if axes else frame["y"]
    if not axes or len(cells) != int(np.prod(sizes)) or len(frame) != len(cells):
        return []
    values = cells.unstack(axes[1:]).to_numpy().reshape(-1) if len(axes) > 1 else cells.to_numpy()
    grid_values = cells.sort_index().to_numpy().reshape(sizes) if len(axes) > 1 else values
    total = float(((grid_values - grid_values.mean()) ** 2).sum())
    if total <= 1e-18:
        return []
    shares = _shares(grid_values, axes, total)
    return sorted(shares, key=lambda effect: -effect.share)


def _shares(values: npt.NDArray[Any], axes: Sequence[str], total: float) -> list[Effect]:
    every = range(len(axes))
    mains = {i: _marginal(values, (i,)) - values.mean() for i in every}
    effects = [Effect(axes=(axes[i],), share=_squares(mains[i], values) / total) for i in every]
    for i, j in combinations(every, 2):
        together = _marginal(values, (i, j)) - values.mean() - mains[i] - mains[j]
        share = _squares(together, values) / total
        effects.append(Effect(axes=(axes[i], axes[j]), share=share))
    return effects


def _marginal(values: npt.NDArray[Any], kept: tuple[int, ...]) -> npt.NDArray[Any]:
    """The mean over all other axes, which keep length 1."""
    others = tuple(i for i in range(values.ndim) if i not in kept)
    return np.asarray(values.mean(axis=others, keepdims=True))


def _squares(effect: npt.NDArray[Any], values: npt.NDArray[Any]) -> float:
    return float((effect**2).sum()) * values.size / effect.size


def pareto_front(merits: Sequence[float], costs: Sequence[float]) -> list[bool]:
    """Of each point, whether no other is at least as good and as cheap, and better in one."""
    points = list(zip(merits, costs, strict=True))
    return [
        not any(
            other_merit >= merit
            and other_cost <= cost
            and (other_merit, other_cost) != (merit, cost)
            for other_merit, other_cost in points
        )
        for merit, cost in points
    ]
