"""Where training and validation part in a run's own curves, and what of its grid parts less."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.results.folder import Run
from bench.results.grid import Grid, complete_trials

if TYPE_CHECKING:
    import pandas as pd

LEAST_RISE = 0.05
"""Of the lowest validation loss; what rises less is not told from noise."""

LEAST_SEEDS = 0.75
"""The share of seeds whose validation loss has to rise."""

LESS = 0.01
"""By so much a gap of accuracies has to be smaller to be told as a way out."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The curves of a config, as means over its seeds (and over their folds).

    `epochs` is the last epoch that all seeds have; validation loss is lowest after `lowest`, and
    both losses are pairs: there, and at the end. `rising` counts the seeds whose validation loss is
    higher at the end. By seed: `gaps`, training minus validation accuracy at the end, and `vals`,
    validation figures at the chosen epochs, which are `chosen`.
    """

    config: str
    epochs: int
    lowest: int
    val_loss: tuple[float, float]
    train_loss: tuple[float, float]
    rising: int
    gaps: Mapping[int, float]
    vals: Mapping[int, float]
    chosen: tuple[int, ...]

    @property
    def gap(self) -> float:
        """The mean gap; NaN where accuracies are not known."""
        return _mean(self.gaps.values())

    @property
    def val(self) -> float:
        """The mean validation figure; NaN where none is known."""
        return _mean(self.vals.values())

    @property
    def over_fits(self) -> bool:
        """Whether validation gets worse while training still gets better."""
        lowest, last = self.val_loss
        return (
            last - lowest >= LEAST_RISE * abs(lowest)
            and self.train_loss[1] < self.train_loss[0]
            and self.rising >= LEAST_SEEDS * len(self.gaps)
            and self.lowest < self.epochs
        )


@dataclass(frozen=True, kw_only=True)
class WayOut:
    """A config that differs in one axis and parts less: both differences over shared seeds.

    `gap` is its own; `val_difference` is its validation figure minus the other's.
    """

    axis: str
    value: str
    gap: float
    val_difference: float


def fits(run: Run, grid: Grid) -> list[Fit]:
    """The configs whose curves of training and validation are known, in the order of the grid.

    Epochs in which a loss of a seed is no number have no say; a seed without any is left out.
    """
    import pandas as pd

    complete = complete_trials(run.trials)
    complete = complete[complete["seed"].notna()]
    curves = run.curves[run.curves["trial"].isin(complete["trial"])]
    if not {"train", "val"} <= set(curves["split"]):
        return []
    cells = complete.set_index("trial")[["config", "seed"]]
    joined = curves.join(cells, on="trial")
    means = joined.groupby(["config", "seed", "epoch", "split"])[["loss", "accuracy"]].mean()
    by_split = pd.DataFrame(means.unstack("split"))
    known = set(by_split.index.get_level_values("config"))
    rows = dict(list(complete.groupby("config")))
    found = (
        _fit(
            config, pd.DataFrame(by_split.xs(config, level="config")), rows[config], run.metric.val
        )
        for config in grid.cells
        if config in known
    )
    return [fit for fit in found if fit is not None]


def ways_out(fit: Fit, others: Sequence[Fit], grid: Grid) -> list[WayOut]:
    """What of the run's own grid has a smaller gap: of each axis the value best on validation.

    The best on validation come first. Nobody says that they would part less elsewhere.
    """
    found: dict[str, tuple[float, WayOut]] = {}
    for other in others:
        cells = grid.cells[fit.config], grid.cells[other.config]
        axes = [key for key in grid.keys if cells[0][key] != cells[1][key]]
        shared = [seed for seed in fit.gaps if seed in other.gaps]
        if len(axes) != 1 or not shared:
            continue
        (axis,) = axes
        gap = _mean(other.gaps[seed] for seed in shared)
        merit = _mean(other.vals[seed] - fit.vals[seed] for seed in shared)
        if not gap <= _mean(fit.gaps[seed] for seed in shared) - LESS or math.isnan(merit):
            continue
        way = WayOut(axis=axis, value=cells[1][axis], gap=gap, val_difference=merit)
        rank = grid.metric.sign * merit
        if axis not in found or rank > found[axis][0]:
            found[axis] = rank, way
    return [way for _, way in sorted(found.values(), key=lambda each: -each[0])]


def _fit(config: str, curves: pd.DataFrame, rows: pd.DataFrame, val_column: str) -> Fit | None:
    """`curves` has a row for each seed and epoch, and columns (figure, split)."""
    val, train = (curves["loss", split].unstack("epoch") for split in ("val", "train"))
    finite = np.isfinite(val.to_numpy(float)) & np.isfinite(train.to_numpy(float))
    val, train = val[finite.any(axis=1)], train[finite.any(axis=1)]
    epochs = val.columns[finite[finite.any(axis=1)].all(axis=0)]
    if len(epochs) == 0 or val.empty:
        return None
    last, lowest = int(epochs[-1]), int(val[epochs].mean().idxmin())
    accuracies = curves["accuracy"].xs(last, level="epoch")
    gaps = accuracies["train"] - accuracies["val"]
    vals = rows.groupby("seed")[val_column].mean()
    seeds = [int(seed) for seed in val.index]
    return Fit(
        config=config,
        epochs=last,
        lowest=lowest,
        val_loss=(float(val[lowest].mean()), float(val[last].mean())),
        train_loss=(float(train[lowest].mean()), float(train[last].mean())),
        rising=int((val[last] > val[lowest]).sum()),
        gaps={seed: float(gaps[seed]) for seed in seeds},
        vals={seed: float(vals[seed]) for seed in seeds},
        chosen=tuple(sorted(int(epoch) for epoch in rows["best_epoch"].dropna())),
    )


def _mean(values: Iterable[float]) -> float:
    figures = np.array(list(values), dtype=float)
    return float(figures.mean()) if len(figures) else math.nan
