"""All cells by name, and how many runs of each fit an hour on one core."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.validity.cells import Cell, nested_cells
from benchmarks.validity.digits import digits_cells
from benchmarks.validity.folds import fold_cells
from benchmarks.validity.groups import group_cells
from benchmarks.validity.looks import look_cells
from benchmarks.validity.models import MODELS, Blocks, Model, Probit
from benchmarks.validity.pool import pool_cells
from benchmarks.validity.selection import selection_cells

RUNS = 4_000
"""Of equal strategies; the rest has fewer, in proportion."""

LEADS = (0.01, 0.02, 0.05)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Numbers of strategies, seeds and samples, of which every combination is a cell."""

    strategies: tuple[int, ...]
    seeds: tuple[int, ...]
    samples: tuple[int, ...]


ALL = Sizes(strategies=(2, 4, 8), seeds=(3, 4, 5, 8, 16), samples=(60, 150, 400, 2000))
MANY = Sizes(strategies=(30,), seeds=ALL.seeds, samples=ALL.samples)
OF_LEADS = Sizes(strategies=(2, 4, 8), seeds=(3, 4, 5, 8), samples=(150, 400, 2000))
OF_BLOCKS = Sizes(strategies=(2, 4, 8), seeds=(3, 5, 8), samples=(60, 400))
QUICK = Sizes(strategies=(2, 4), seeds=(3, 5), samples=(60, 400))

Simulate = Callable[[np.random.Generator, int], Iterator[Cell]]


def kinds(quick: bool) -> dict[str, tuple[Simulate, float]]:
    """Name → what simulates it, and its share of the runs."""
    found: dict[str, tuple[Simulate, float]] = {}
    for name, model in MODELS.items():
        sizes = QUICK if quick else ALL
        found[f"equal/{name}"] = partial(_nested, f"equal/{name}", model, sizes, 0.0), 1.0
        if not quick:
            kind = f"equal-many/{name}"
            found[kind] = partial(_nested, kind, model, MANY, 0.0), 0.25
    blocks = {
        "blocks": Blocks(inner=Probit()),
        "blocks-collapse": Blocks(inner=Probit(collapse=0.1)),
    }
    for name, model in blocks.items():
        sizes = QUICK if quick else OF_BLOCKS
        found[f"equal/{name}"] = partial(_nested, f"equal/{name}", model, sizes, 0.0), 0.5
    for lead in LEADS:
        for name, model in (MODELS | blocks).items():
            if model.accuracy + lead / 2 < 0.995:
                kind = f"lead-{100 * lead:.0f}/{name}"
                sizes = QUICK if quick else OF_BLOCKS if name in blocks else OF_LEADS
                found[kind] = partial(_nested, kind, model, sizes, lead), 0.25
    return found | {
        "groups": (group_cells, 0.5),
        "selection": (selection_cells, 0.25),
        "looks": (look_cells, 0.5),
        "pool": (pool_cells, 0.5),
        "digits": (digits_cells, 0.6),
        "folds": (fold_cells, 0.15),
    }


def simulated(wanted: str | None, runs: int, quick: bool) -> Iterator[Cell]:
    """The cells of all kinds whose name begins with `wanted`, each kind with draws of its own."""
    for name, (simulate, share) in kinds(quick).items():
        if wanted is None or name.startswith(wanted):
            rng = np.random.default_rng(list(name.encode()))
            yield from simulate(rng, max(1, round(share * runs)))


def _nested(
    name: str, model: Model, sizes: Sizes, lead: float, rng: np.random.Generator, runs: int
) -> Iterator[Cell]:
    yield from nested_cells(
        name,
        model,
        rng,
        runs=runs,
        strategies=sizes.strategies,
        seeds=sizes.seeds,
        samples=sizes.samples,
        lead=lead,
    )
