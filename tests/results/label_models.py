"""Models of how accuracy grows with training images, of forms that the code knows nothing of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from bench.results.analysis.scores import Scores
from bench.results.folder import Run, RunStore, read_run
from tests.results.scored_run import Scored, scored_run

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


Right = npt.NDArray[np.bool_]


def sized_run(
    folder: Path,
    right: Mapping[tuple[str, int | None], Right],
    *,
    images: Mapping[str, int] | None = None,
    curves: bool = False,
) -> Run:
    """A run of strategies that were trained with so many images of a class, None: all `images`.

    `right` says which test samples each has right, `[seeds, samples]`. With `curves` each reached
    its validation figure in its first epoch.
    """
    configs = [
        Scored(right=own, axes={"strategy": strategy}, settings={"shots": shots})
        for (strategy, shots), own in right.items()
    ]
    train = images or {"ants": 96, "bees": 96}
    samples = len(next(iter(right.values()))[0])
    counts = {
        "train": dict(train),
        "val": dict.fromkeys(train, 20),
        "test": dict.fromkeys(train, samples // 2),
    }
    run = scored_run(folder, configs, data={"counts": counts})
    if not curves:
        return run
    store = RunStore(folder)
    for trial in run.trials["trial"]:
        part = store.read_part(trial)
        accuracy = part.trial_row["val_accuracy"]
        rows = {
            "epoch": [1, 1],
            "split": ["train", "val"],
            "loss": [0.5, 0.5],
            "accuracy": [accuracy] * 2,
            "lr": [0.01] * 2,
            "seconds": [1.0] * 2,
        }
        store.write_part(part.trial_row, rows, ())
    store.consolidate(list(run.trials["trial"]))
    return read_run(folder)
