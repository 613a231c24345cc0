"""Models of how accuracy grows with training images, of forms that the code knows nothing of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from bench.results.analysis.scores import Scores

Curve = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]

SEED_SPREAD = 0.12
"""Of the luck of training, in standard deviations of a sample's difficulty."""


def exponential(low: float, high: float, pace: float) -> Curve:
    """Rises fast, then stays."""
    return lambda n: high - (high - low) * np.exp(-n / pace)


def sigmoid(low: float, high: float, middle: float, steep: float) -> Curve:
    """Stays low, rises late over the logarithm, then stays."""
    return lambda n: low + (high - low) / (1 + (middle / n) ** steep)


def power(low: float, scale: float, exponent: float) -> Curve:
    """What `fit_law` fits: the error falls to `low` as a power."""
    return lambda n: 1 - low - scale * n**-exponent


def drawn(
    curves: Mapping[str, Curve],
    sizes: Sequence[float],
    *,
    seeds: int,
    samples: int,
    rng: np.random.Generator,
) -> dict[str, dict[str, dict[str, Scores]]]:
    """Size → name → block → who is right where: samples are hard for all, at all sizes.

    The luck of a seed is in part its own at every size, and in part the same: a small set of images
    is part of a larger one.
    """
    hard = rng.normal(size=samples)
    names = tuple(f"test/{index}" for index in range(samples))
    lucky = {name: rng.normal(size=seeds) for name in curves}
    taste = {name: 0.5 * rng.normal(size=samples) for name in curves}
    total = np.sqrt(1 + 0.25 + SEED_SPREAD**2 + 0.5)
    found: dict[str, dict[str, dict[str, Scores]]] = {}
    for size in sizes:
        for name, curve in curves.items():
            luck = SEED_SPREAD * (0.6 * lucky[name] + 0.8 * rng.normal(size=seeds))
            noise = np.sqrt(0.5) * rng.normal(size=(seeds, samples))
            level = norm.ppf(float(curve(np.array(size)))) * total
            right = level + luck[:, None] + hard + taste[name] + noise > 0
            scores = Scores(
                seeds=tuple(range(seeds)), samples=names, values=right.astype(np.float64)
            )
            found.setdefault(str(size), {})[name] = {"": scores}
    return found
