"""Real models on scikit-learn's digits: whose lead in the population is known, and is it claimed?

A few hundred of the 1,797 images are the training pool, all others the population. Every model is
trained with many seeds, each on another four fifths of the pool. A study takes some of these seeds
and draws test images from the population.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from benchmarks.validity.analysis import analyse
from benchmarks.validity.cells import ALPHA, Cell, portions
from benchmarks.validity.judges import excludes, hillis_p, p_values, sign_flip_p
from benchmarks.validity.squares import Right, pairs_of

POOLS = 4
SEEDS = 60
SIZES = ((3, 150), (3, 400), (5, 150), (5, 400), (8, 150), (10, 150))


def digits_cells(rng: np.random.Generator, runs: int) -> Iterator[Cell]:
    """Wrong winners of any pair (false), truths outside corrected intervals, pairs claimed."""
    trained = [_trained(rng, pool) for pool in (150, 300) for _ in range(POOLS // 2)]
    for chosen in ((0, 1), (2, 3), (0, 1, 2, 3), tuple(range(trained[0].shape[0]))):
        for seeds, samples in SIZES:
            cell = Cell(
                "digits/" + "-".join(list(_models(0))[index] for index in chosen)
                if len(chosen) < 5
                else "digits/all",
                len(chosen),
                seeds,
                samples,
            )
            for right in trained:
                _studied(rng, cell, right[list(chosen)], runs // len(trained))
            yield cell


def _studied(rng: np.random.Generator, cell: Cell, right: Right, runs: int) -> None:
    """`right` is `[models, seeds, population]`."""
    one, other = pairs_of(cell.strategies)
    accuracies = right.mean(axis=(1, 2), dtype=np.float64)
    truth = accuracies[one] - accuracies[other]
    for part in portions(runs, 100):
        drawn = np.stack([_study(rng, right, cell.seeds, cell.samples) for _ in range(part)])
        tables, by_seed = analyse(drawn)
        wrong = np.sign(tables.effect) != np.sign(truth)
        claimed = len(one) * p_values(tables, cell.strategies) < ALPHA
        missed = len(one) * excludes(tables, cell.strategies, truth) < ALPHA
        counts = cell.counts
        counts["false"].add((claimed & wrong).any(axis=-1))
        counts["false_hillis"].add(((len(one) * hillis_p(tables) < ALPHA) & wrong).any(axis=-1))
        counts["false_flip"].add(((len(one) * sign_flip_p(by_seed) < ALPHA) & wrong).any(axis=-1))
        counts["missed_truth"].add(missed.any(axis=-1))
        counts["claimed"].add(claimed)


def _study(rng: np.random.Generator, right: Right, seeds: int, samples: int) -> Right:
    """One seed's number means the same part of the pool for all models."""
    taken = rng.choice(right.shape[1], seeds, replace=False)
    return right[:, taken][:, :, rng.integers(0, right.shape[2], samples)]


def _trained(rng: np.random.Generator, pool: int) -> Right:
    """`[models, seeds, population]` of a new pool."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = rng.permutation(len(labels))
    inside, outside = order[:pool], order[pool:]
    found = np.zeros((len(_models(0)), SEEDS, len(outside)), dtype=np.float32)
    for seed in range(SEEDS):
        kept = rng.permutation(inside)[: pool * 4 // 5]
        for index, model in enumerate(_models(seed).values()):
            model.fit(images[kept] / 16, labels[kept])
            found[index, seed] = model.predict(images[outside] / 16) == labels[outside]
    return found


def _models(seed: int) -> Mapping[str, Any]:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
    from sklearn.linear_model import RidgeClassifier
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier

    return {
        "forest": RandomForestClassifier(20, random_state=seed),
        "extra": ExtraTreesClassifier(20, random_state=seed),
        "ridge1": RidgeClassifier(alpha=1.0),
        "ridge10": RidgeClassifier(alpha=10.0),
        "lda": LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3),
        "knn3": KNeighborsClassifier(3),
        "knn5": KNeighborsClassifier(5),
        "bayes": GaussianNB(var_smoothing=0.1),
    }
