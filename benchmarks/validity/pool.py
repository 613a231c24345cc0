"""Ridge models of one small pool of training samples, whose population accuracies have a formula.

Two classes lie around ±m in `FEATURES` dimensions. One model sees the first half of them, the other
the second half: over all pools they are equally good, on one pool they are not. A seed leaves out
another fifth of the pool.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.validity.analysis import analyse
from benchmarks.validity.cells import ALPHA, Cell
from benchmarks.validity.judges import excludes
from benchmarks.validity.squares import Numbers, Right

FEATURES = 20
MIDDLE = 0.45
PENALTY = 1.0
KEPT = 0.8
MANY_SEEDS = 200
"""From so many seeds the truth of a pool is taken: its error is a seventh of that of 4 seeds."""


@dataclass(frozen=True, kw_only=True)
class Models:
    """Weights `[seeds, 2, features and 1]` of the two models, the other half's features 0."""

    weights: Numbers

    def accuracies(self) -> Numbers:
        """In the population, `[seeds, 2]`."""
        from scipy.special import ndtr

        slope, offset = self.weights[..., :-1], self.weights[..., -1]
        length = np.sqrt(np.square(slope).sum(axis=-1))
        towards = MIDDLE * slope.sum(axis=-1)
        return np.asarray(ndtr((towards + offset) / length) + ndtr((towards - offset) / length)) / 2

    def right(self, x: Numbers, y: Numbers) -> Right:
        """On test samples: `[2, seeds, samples]`."""
        sums = np.einsum("smf,if->msi", self.weights[..., :-1], x) + self.weights.T[-1][..., None]
        return (sums * y > 0).astype(np.float32)


def pool_cells(rng: np.random.Generator, runs: int) -> Iterator[Cell]:
    """How often the truth of this pool is missed (false), and the mean over all pools."""
    for pool in (80, 300):
        for seeds, samples in ((3, 400), (5, 400), (8, 400), (5, 2000)):
            cell = Cell(f"pool/ridge-{pool}", 2, seeds, samples)
            for _ in range(runs):
                x, y = _drawn(rng, pool)
                every = _fitted(rng, x, y, MANY_SEEDS)
                accuracies = every.accuracies()
                truth = accuracies[:, :1].mean() - accuracies[:, 1:].mean()
                used = Models(weights=every.weights[:seeds])
                tables, _ = analyse(used.right(*_drawn(rng, samples))[None])
                cell.counts["false"].add(excludes(tables, 2, truth) < ALPHA)
                cell.counts["misses_mean_over_pools"].add(excludes(tables, 2, np.zeros(1)) < ALPHA)
            yield cell


def _drawn(rng: np.random.Generator, number: int) -> tuple[Numbers, Numbers]:
    y = rng.permutation(np.where(np.arange(number) % 2, 1.0, -1.0))
    return MIDDLE * y[:, None] + rng.standard_normal((number, FEATURES)), y


def _fitted(rng: np.random.Generator, x: Numbers, y: Numbers, seeds: int) -> Models:
    kept = rng.random((seeds, len(y))).argsort(axis=1) < KEPT * len(y)
    weights = np.zeros((seeds, 2, FEATURES + 1))
    half = FEATURES // 2
    for model in range(2):
        own = [*range(model * half, (model + 1) * half), FEATURES]
        inputs = np.hstack([x, np.ones((len(x), 1))])[:, own]
        masked = kept[:, :, None] * inputs
        gram = masked.swapaxes(1, 2) @ inputs + PENALTY * np.eye(len(own))
        targets = (kept * y) @ inputs
        weights[:, model, own] = np.linalg.solve(gram, targets[..., None])[..., 0]
    return Models(weights=weights)
