"""Cells: a kind of runs, how many of each size are simulated, and what is counted of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bench.results.analysis.crossed import CrossedTables
from benchmarks.validity.judges import (
    as_good,
    excludes,
    hillis_p,
    p_values,
    sign_flip_p,
    some,
)
from benchmarks.validity.models import Model
from benchmarks.validity.squares import Numbers, Size, joined_runs, nested_tables, pairs_of

ALPHA = 0.05
FIRST_LOOK = ALPHA * 6 / np.pi**2
"""What the first of many looks may spend."""

MARGIN = 0.01
NUMBERS_AT_ONCE = 8_000_000
INTERVALS = 60_000
"""Intervals of a size that are looked at for coverage."""

JUDGED_AT_ONCE = 400
"""Runs whose tables are kept before they are judged."""

FLIPS = 30_000_000
"""Sign flips of a size: with 16 seeds there are 32,768 of every pair of every run."""


@dataclass(kw_only=True)
class Count:
    """How often something was seen in how many runs (or pairs, or intervals)."""

    seen: int = 0
    of: int = 0

    def add(self, seen: npt.ArrayLike) -> None:
        """Count the true ones."""
        self.seen += int(np.count_nonzero(seen))
        self.of += int(np.size(seen))

    @property
    def rate(self) -> float:
        """The share that was seen."""
        return self.seen / self.of if self.of else float("nan")

    @property
    def upper(self) -> float:
        """The upper end of the 95 % interval of the rate (Clopper and Pearson, 1934)."""
        from scipy.stats import beta

        if self.seen >= self.of:
            return 1.0
        return float(beta.ppf(0.975, self.seen + 1, self.of - self.seen))


@dataclass
class Cell:
    """What was counted of runs of one kind and size; the first strategy is ahead by `lead`."""

    name: str
    strategies: int
    seeds: int
    samples: int
    lead: float = 0.0
    counts: dict[str, Count] = field(default_factory=lambda: defaultdict(Count))
    figures: dict[str, float] = field(default_factory=dict)


def nested_cells(
    name: str,
    model: Model,
    rng: np.random.Generator,
    *,
    runs: int,
    strategies: Sequence[int],
    seeds: Sequence[int],
    samples: Sequence[int],
    lead: float = 0.0,
) -> list[Cell]:
    """Runs of every size, nested: those with fewer strategies, seeds, samples are parts of others.

    The first strategy is ahead of all others, which are equal, by `lead`.
    """
    cells: dict[Size, Cell] = {}
    most = max(strategies), max(seeds), max(samples)
    for together in portions(runs, JUDGED_AT_ONCE):
        gathered: dict[Size, list[tuple[CrossedTables, Numbers]]] = defaultdict(list)
        for part in portions(together, max(1, NUMBERS_AT_ONCE // int(np.prod(most)))):
            right = model.draw(rng, (part, *most), lead=lead)
            for size, tables, by_seed in nested_tables(right, strategies, seeds, samples):
                gathered[size].append((tables, by_seed))
        for size, found in gathered.items():
            cell = cells.setdefault(size, Cell(name, *size, lead=lead))
            tables = joined_runs([tables for tables, _ in found])
            judge(cell, tables, np.concatenate([by_seed for _, by_seed in found]))
    return list(cells.values())


def judge(cell: Cell, tables: CrossedTables, by_seed: Numbers | None = None) -> None:
    """Count what is claimed of runs `[runs, pairs]` of a cell.

    Signs are flipped where the differences by seed are given.
    """
    one, _ = pairs_of(cell.strategies)
    pairs = len(one)
    differs = (one == 0) & (cell.lead > 0)
    truth = np.where(differs, cell.lead, 0.0)
    right = differs & (tables.effect > 0)
    p = pairs * p_values(tables, cell.strategies)
    counts = cell.counts
    counts["false"].add(((p < ALPHA) & ~right).any(axis=-1))
    counts["false_first_look"].add(((p < FIRST_LOOK) & ~right).any(axis=-1))
    counts["false_hillis"].add(((pairs * hillis_p(tables) < ALPHA) & ~right).any(axis=-1))
    if cell.lead:
        counts["power"].add((p < ALPHA)[:, 0] & right[:, 0])
        counts["power_first_look"].add((p < FIRST_LOOK)[:, 0] & right[:, 0])
        counts["power_hillis"].add((pairs * hillis_p(tables) < ALPHA)[:, 0] & right[:, 0])
        good = as_good(tables, cell.strategies, MARGIN, ALPHA / pairs)
        if cell.lead >= MARGIN:
            counts["wrong_as_good"].add((good & differs).any(axis=-1))
        if pairs > 1:
            counts["as_good"].add(good[:, -1])
    if by_seed is not None:
        few = max(1, FLIPS // pairs // 2 ** by_seed.shape[-1] // 10)
        flipped = pairs * sign_flip_p(by_seed[:few]) < ALPHA
        counts["false_flip"].add((flipped & ~right[:few]).any(axis=-1))
        if cell.lead:
            counts["power_flip"].add(flipped[:, 0] & right[:few, 0])
    few = max(1, INTERVALS // pairs // 10)
    inside = excludes(some(tables, slice(few)), cell.strategies, truth) >= ALPHA
    counts["coverage"].add(inside)


def portions(whole: int, most: int) -> list[int]:
    """A number in parts of at most `most`."""
    return [min(most, whole - start) for start in range(0, whole, most)]
