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
    """The share of the variance of test figures that an axis explains, or two together.

    `share` is ω² (Hays, 1963): what is beyond noise, about 0 and as often below it where there is
    nothing. `seen` is η², which credits noise; `chance` is the part of `seen` that noise alone is
    expected to give.
    """

    axes: tuple[str, ...]
    share: float
    seen: float
    chance: float


def variance_shares(trials: pd.DataFrame, grid: Grid) -> list[Effect]:
    """Main effects of the axes and of the seed, and two-way interactions of axes, largest first.

    Noise is what configs and seeds do together, the seeds being blocks that all configs share. The
    rest to 1 is noise and higher interactions. Empty unless every combination of the axes' values
    has every seed, two or more, or where nothing varies.
    """
    import pandas as pd

    complete = over_folds(complete_trials(trials).dropna(subset=[grid.metric.test]))
    columns = {
        axis: complete["config"].map(lambda config, axis=axis: grid.cells[config][axis])
        for axis in grid.keys
    }
    frame = pd.DataFrame({**columns, "seed": complete["seed"], "y": complete[grid.metric.test]})
    axes = [axis for axis in grid.keys if frame[axis].nunique() > 1]
    every = [*axes, "seed"]
    sizes = [frame[axis].nunique() for axis in every]
    cells = frame.groupby(every)["y"].mean()
    if not axes or sizes[-1] < 2 or len(cells) != int(np.prod(sizes)) or len(frame) != len(cells):
        return []
    values = cells.sort_index().to_numpy(float).reshape(sizes)
    if float(np.square(values - values.mean()).sum()) <= 1e-18:
        return []
    return sorted(_effects(values, axes), key=lambda effect: -effect.share)


def _effects(values: npt.NDArray[Any], axes: Sequence[str]) -> list[Effect]:
    """The effects of `values`, an axis each and the seeds last."""
    mean = values.mean()
    total = float(np.square(values - mean).sum())
    seeds = values.ndim - 1
    deviations: dict[tuple[int, ...], npt.NDArray[Any]] = {
        (i,): _marginal(values, (i,)) - mean for i in range(values.ndim)
    }
    for i, j in combinations(range(seeds), 2):
        both = _marginal(values, (i, j)) - mean
        deviations[i, j] = both - deviations[i,] - deviations[j,]
    configs = values.mean(axis=seeds, keepdims=True)
    noise = values - configs - deviations[seeds,]
    freedom = (configs.size - 1) * (values.shape[seeds] - 1)
    mean_noise = float(np.square(noise).sum()) / freedom
    names = [*axes, "seed"]
    found = []
    for places, deviation in deviations.items():
        squares = float(np.square(deviation).sum()) * values.size / deviation.size
        by_chance = mean_noise * int(np.prod([values.shape[place] - 1 for place in places]))
        found.append(
            Effect(
                axes=tuple(names[place] for place in places),
                share=(squares - by_chance) / (total + mean_noise),
                seen=squares / total,
                chance=by_chance / total,
            )
        )
    return found


def _marginal(values: npt.NDArray[Any], kept: tuple[int, ...]) -> npt.NDArray[Any]:
    """The mean over all other axes, which keep length 1."""
    others = tuple(i for i in range(values.ndim) if i not in kept)
    return np.asarray(values.mean(axis=others, keepdims=True))


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
