"""LR range tests from their file: the learning rates that they suggest beside the suite's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bench.results.grid import is_missing, read_grid

if TYPE_CHECKING:
    import pandas as pd

FAR = 10.0
"""A learning rate that many times above or below the suggested one is worth a word."""

Curve = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class LrCell:
    """The test of one cell: `losses` and `smoothed` (nats) at `lrs`, [steps].

    `suite_lrs` are the least and the largest learning rate that the suite gives the cell; `lead` is
    its value on the axis that colours stand for. Suggestions are None where the loss does not fall.
    """

    label: str
    lead: str
    lrs: Curve
    losses: Curve
    smoothed: Curve
    suite_lrs: tuple[float, float]
    steepest: float | None
    valley: float | None

    @property
    def distance(self) -> float:
        """How many times the suite's learning rates lie above the valley; below 1: below it.

        1 where the valley lies among them, or there is none.
        """
        low, high = self.suite_lrs
        if self.valley is None:
            return 1.0
        return max(1.0, low / self.valley) * min(1.0, high / self.valley)

    @property
    def distance_text(self) -> str:
        """The distance in words, such as `20 × above`, of learning rates beside the valley."""
        side = "below" if self.distance < 1 else "above"
        times = max(self.distance, 1 / self.distance)
        return f"{float(f'{times:.2g}'):,.10g} × {side}"

    @property
    def is_far(self) -> bool:
        """Whether the suite's learning rates lie more than `FAR` times from the valley."""
        return not 1 / FAR <= self.distance <= FAR


def lr_cells(steps: pd.DataFrame) -> list[LrCell]:
    """The cells of `lr_find.parquet`, in the order of the grid."""
    grid = read_grid(steps)
    cells = []
    for config, rows in steps.groupby("config", sort=False):
        first = rows.iloc[0]
        lrs, losses, smoothed = (rows[name].to_numpy(float) for name in ("lr", "loss", "smoothed"))
        cells.append(
            LrCell(
                label=grid.labels[str(config)],
                lead=grid.cells[str(config)][grid.lead],
                lrs=lrs,
                losses=losses,
                smoothed=smoothed,
                suite_lrs=(float(first["suite_lr_low"]), float(first["suite_lr_high"])),
                steepest=None if is_missing(first["steepest"]) else float(first["steepest"]),
                valley=None if is_missing(first["valley"]) else float(first["valley"]),
            )
        )
    return cells
