"""The way of a simulated run through the analysis: which configs stand, then all pairs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bench.results.analysis.crossed import CrossedTables
from benchmarks.validity.squares import Numbers, Right, tables_of


def analyse(right: Right, val: Numbers | None = None) -> tuple[CrossedTables, Numbers]:
    """The tables `[runs, pairs]` of all pairs of strategies, and their differences by seed.

    `right` is `[runs, strategies, seeds, samples]`; with validation scores `val[runs, strategies,
    configs, seeds]` it has configs behind the strategies too, and each seed of a strategy is
    represented by the config that the other seeds' mean score chooses.
    """
    if val is None:
        return tables_of(right)
    return tables_of(represented(right, chosen_by_others(val)))


def chosen_by_others(val: Numbers) -> npt.NDArray[np.intp]:
    """For each seed the config with the best mean score over the other seeds; of equals the first.

    `[runs, strategies, seeds]`. Sums of the same scores in another order are equal, so they are
    rounded.
    """
    others = val.sum(axis=-1, keepdims=True) - val
    return others.round(9).argmax(axis=2)


def chosen_by_all(val: Numbers) -> npt.NDArray[np.intp]:
    """For all seeds the config with the best mean score over them, its own luck included."""
    best = val.sum(axis=-1).round(9).argmax(axis=2)
    return np.broadcast_to(best[..., None], (*best.shape, val.shape[-1]))


def represented(right: Right, chosen: npt.NDArray[np.intp]) -> Right:
    """Of `right[runs, strategies, configs, seeds, samples]` the config chosen for each seed."""
    found = np.take_along_axis(right, chosen[:, :, None, :, None], axis=2)
    return np.asarray(found[:, :, 0])
