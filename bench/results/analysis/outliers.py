"""Samples whose features are unlike those of all others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.float64]

NEIGHBOURS = 20
"""As many odd samples that are alike may hide each other, and fewer cannot."""

LEAST_FACTOR = 1.3
"""From here on a sample is named: see `benchmarks/outliers.py`."""

LEAST_SPREAD = 0.1
"""Of the median. Beside many copies of one image any other would seem infinitely far away."""

BLOCK = 1024
"""Samples whose distances to all are in memory at once."""


def local_outlier_factors(features: Features, *, neighbours: int = NEIGHBOURS) -> Features:
    """How much sparser the surroundings of each sample are than those of its neighbours.

    `features` is `[samples, dimensions]`, made of length 1, so that distances are those of
    directions; the result, `[samples]`, is about 1 within any cluster (Breunig, Kriegel, Ng and
    Sander, LOF: identifying density-based local outliers, 2000). Of fewer samples than neighbours
    all others are neighbours.
    """
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    directions = features / np.maximum(lengths, np.finfo(float).tiny)
    count = len(directions)
    k = min(neighbours, count - 1)
    if k < 1:
        return np.ones(count)
    nearest = np.empty((count, k), dtype=np.int64)
    distances = np.empty((count, k))
    for rows, own in _distances(directions):
        places = np.argpartition(own, k - 1, axis=1)[:, :k]
        nearest[rows] = places
        distances[rows] = np.take_along_axis(own, places, axis=1)
    reach = distances.max(axis=1)
    spreads = np.maximum(distances, reach[nearest]).mean(axis=1)
    densities = 1 / np.maximum(spreads, max(LEAST_SPREAD * np.median(spreads), 1e-10))
    return np.asarray(densities[nearest].mean(axis=1) / densities)


def _distances(directions: Features) -> Iterator[tuple[slice, Features]]:
    """Distances of some samples to all, to itself infinite."""
    for start in range(0, len(directions), BLOCK):
        rows = slice(start, min(start + BLOCK, len(directions)))
        own = np.sqrt(np.maximum(2 - 2 * directions[rows] @ directions.T, 0))
        own[np.arange(len(own)), np.arange(rows.start, rows.stop)] = np.inf
        yield rows, own
