"""Images in groups (patients, sites) that are right or wrong together more often than others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from bench.results.analysis.crossed import CrossedTables
from bench.results.analysis.scores import by_group
from benchmarks.validity.cells import Cell, judge, portions
from benchmarks.validity.models import Mixture, Probit
from benchmarks.validity.squares import Numbers, Right, tables_of

GROUPS = (8, 12, 31, 60, 150)
SEEDS = (3, 8)
STRATEGIES = (2, 4)
MEAN_SIZE, MOST_IMAGES = 10, 60

Sizes = npt.NDArray[np.int64]
Draw = Callable[[np.random.Generator, tuple[int, int, int], Sizes], Right]
"""Runs, strategies and seeds, and the number of images of each group → right or wrong."""

_BETA = Mixture(accuracy=0.85, concentration=1.0)
_LATENT = Probit(accuracy=0.85, image=1.0, strategy_image=0.5)
APART = 0.1
"""The share of a group's images that go their own way, where the others all go one way."""


def group_cells(rng: np.random.Generator, runs: int) -> Iterator[Cell]:
    """The group as the sample; for contrast every image as a sample of its own.

    Groups are of all sizes from 1 to 60 images, other ones in every portion of the runs.
    """
    for name, draw in MODELS.items():
        for strategies in STRATEGIES:
            for seeds in SEEDS:
                for groups in GROUPS:
                    right_way = Cell(f"groups/{name}", strategies, seeds, groups)
                    wrong_way = Cell(f"groups/{name}-ignored", strategies, seeds, groups)
                    at_once = max(1, 300_000 // (strategies * seeds * groups * MEAN_SIZE))
                    for part in portions(runs, at_once):
                        sizes = np.minimum(rng.geometric(1 / MEAN_SIZE, groups), MOST_IMAGES)
                        images = draw(rng, (part, strategies, seeds), sizes)
                        judge(right_way, *grouped_tables(images, sizes))
                        judge(wrong_way, *tables_of(images))
                    yield from (right_way, wrong_way)


def grouped_tables(images: Right, sizes: Sizes) -> tuple[CrossedTables, Numbers]:
    """The tables of all pairs as the package makes them of groups, and differences by seed."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    tables, by_seed = tables_of(by_group(images, group).astype(np.float32))
    grain = np.full_like(tables.effect, 1 / (len(group) + 2))
    return replace(tables, grouped=np.ones_like(grain), grain=grain), by_seed


def _beta_binomial(
    rng: np.random.Generator, shape: tuple[int, int, int], sizes: Sizes, *, concentration: float
) -> Right:
    """Every group has a chance of its own, with probability 0.3 another one for a strategy."""
    runs, strategies, seeds = shape
    whole = _BETA.accuracy / (1 - _BETA.spoilt)
    sides = concentration * whole, concentration * (1 - whole)
    shared = rng.beta(*sides, size=(runs, 1, 1, len(sizes)))
    own = rng.random((runs, strategies, 1, len(sizes))) < _BETA.own
    chances = np.where(own, rng.beta(*sides, size=own.shape), shared)
    kept = 1 - np.minimum(rng.exponential(_BETA.spoilt, (runs, strategies, seeds, 1)), 1)
    every = np.repeat((chances * kept).astype(np.float32), sizes, axis=-1)
    return (rng.random(every.shape, dtype=np.float32) < every).astype(np.float32)


def _latent(rng: np.random.Generator, shape: tuple[int, int, int], sizes: Sizes) -> Right:
    """A threshold on sums in which groups, and what a strategy makes of them, have parts."""
    runs, strategies, seeds = shape
    of_groups = 1.5 * rng.standard_normal((runs, 1, 1, len(sizes)))
    of_groups = of_groups + 0.8 * rng.standard_normal((runs, strategies, 1, len(sizes)))
    sums = np.repeat(of_groups, sizes, axis=-1)
    images = sums.shape[-1]
    sums = sums + _LATENT.image * rng.standard_normal((runs, 1, 1, images))
    sums = sums + _LATENT.strategy_image * rng.standard_normal((runs, strategies, 1, images))
    luck = _LATENT.luck * rng.standard_normal((runs, strategies, seeds, 1))
    sums = sums + luck + rng.standard_normal((runs, strategies, seeds, images)) + 1.5
    return (sums > 0).astype(np.float32)


def _together(rng: np.random.Generator, shape: tuple[int, int, int], sizes: Sizes) -> Right:
    """Groups are right or wrong as a whole, but for a tenth of their images."""
    together = _BETA.draw(rng, (*shape, len(sizes)))
    images = np.repeat(together, sizes, axis=-1)
    alone = rng.random(images.shape, dtype=np.float32) < APART
    own = (rng.random(images.shape, dtype=np.float32) < _BETA.accuracy).astype(np.float32)
    return np.where(alone, own, images)


MODELS: dict[str, Draw] = {
    "beta-binomial": partial(_beta_binomial, concentration=1.0),
    "beta-binomial-weak": partial(_beta_binomial, concentration=9.0),
    "latent": _latent,
    "together": _together,
}
