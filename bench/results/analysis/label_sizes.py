"""Numbers of training images where a run varies them: a size is compared with itself alone.

Validation prefers the config with the most training images, so with the sizes as configs of a
strategy the verdict would compare whichever sizes the luck of validation chose.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bench.results.grid import SHOTS, Grid, complete_trials, is_missing

if TYPE_CHECKING:
    import pandas as pd

    from bench.results.folder import Run


def sizes_of(grid: Grid) -> tuple[str, ...]:
    """The sizes of a run that varies them, ascending; nothing of any other run."""
    return tuple(sorted(grid.axes[SHOTS], key=_order)) if SHOTS in grid.keys else ()


def size_compared(trials: pd.DataFrame, grid: Grid) -> str | None:
    """The size at which a verdict compares; None of a run that does not vary them.

    It is the largest of those at which the most values of the leading axis have a complete trial
    with a test figure: while a run is going, that is one at which there is something to compare.
    """
    sizes = sizes_of(grid)
    if not sizes:
        return None
    complete = complete_trials(trials)
    known = complete.loc[complete[grid.metric.test].notna(), "config"].unique()
    cells = [grid.cells[str(config)] for config in known]
    counts = {
        size: len({cell[grid.lead] for cell in cells if cell[SHOTS] == size}) for size in sizes
    }
    return max(sizes, key=lambda size: (counts[size], _order(size)))


def families(size: str | None, compared: str | None, grid: Grid) -> int:
    """As which share of all claims the pairs of a size count: one of so many such families.

    Half of the error is that of the size at which the verdict compares, and the other half that of
    all other sizes together. So no size is left out of the correction, and the verdict pays the
    same for few as for many.
    """
    if size is None:
        return 1
    return 2 if size == compared else 2 * (len(sizes_of(grid)) - 1)


def at_size(trials: pd.DataFrame, grid: Grid, size: str | None) -> pd.DataFrame:
    """The trials of one size; of none in particular, all."""
    if size is None:
        return trials
    return trials[trials["config"].map(lambda config: grid.cells[str(config)][SHOTS] == size)]


def images_a_class(run: Run, size: str) -> float:
    """How many images of a class train at this size, the mean over classes; 0 if it is unknown."""
    if size.isdecimal():
        return float(size)
    counts = run.data.get("counts", {}).get("train", {})
    return sum(counts.values()) / len(counts) if counts else 0.0


def trained_images(run: Run, settings: str | None) -> int:
    """How many images a trial with these settings trains on, of folds in the first one; or 0."""
    shots = None if is_missing(settings) else json.loads(str(settings)).get(SHOTS)
    classes = len(run.data.get("classes", ()))
    return run.images("train") if shots is None else int(shots) * classes


def _order(size: str) -> float:
    return float(size) if size.isdecimal() else float("inf")
