"""Repeated stratified k-fold: the corrected resampled t test, and for contrast the plain one.

Training sets of folds overlap and every sample is tested in each repeat, so k × r differences are
not independent. Nadeau and Bengio (2003) correct their variance by the sizes of the splits;
Bouckaert and Frank (2004) apply it to repeated cross-validation. It speaks of pools like this one,
of the size that a fold trains on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.validity.cells import ALPHA, Cell
from benchmarks.validity.squares import Numbers

DESIGNS = ((1, 10), (3, 5), (5, 2), (10, 5))
"""Repeats and folds."""

FEATURES, MIDDLE = 10, 0.45
TRUTHS = 60
"""Pools whose models are tested on all other digits, for the population accuracies."""


def resampled_p(differences: Numbers, folds: int) -> float:
    """Two-sided p of differences by fold and repeat, all in one row, of k-fold cross-validation."""
    from scipy.stats import t as student

    number = len(differences)
    variance = float(np.var(differences, ddof=1)) * (1 / number + 1 / (folds - 1))
    if not variance:
        return 1.0 if not differences.any() else 0.0
    return float(2 * student.sf(abs(differences.mean()) / variance**0.5, number - 1))


def plain_p(differences: Numbers) -> float:
    """Student's t over folds as if they were independent."""
    from scipy.stats import ttest_1samp

    if not differences.std():
        return 1.0 if not differences.any() else 0.0
    return float(ttest_1samp(differences, 0).pvalue)


def fold_cells(rng: np.random.Generator, runs: int) -> Iterator[Cell]:
    """Two equally good halves of features, and pairs of models of digits with a known winner."""
    for samples in (60, 150):
        for repeats, folds in DESIGNS:
            cell = Cell(f"folds/equal-{repeats}x{folds}", 2, repeats * folds, samples)
            for _ in range(runs // repeats):
                y = rng.permutation(np.arange(samples) % 2)
                x = MIDDLE * (2 * y - 1)[:, None] + rng.standard_normal((samples, 2 * FEATURES))
                sides = [(_ridge(), x[:, :FEATURES]), (_ridge(), x[:, FEATURES:])]
                differences = _differences(rng, sides, y, repeats, folds)
                cell.counts["false"].add(np.array([resampled_p(differences, folds) < ALPHA]))
                cell.counts["false_plain"].add(np.array([plain_p(differences) < ALPHA]))
            yield cell
    yield from _digits(rng, runs)


def _digits(rng: np.random.Generator, runs: int) -> Iterator[Cell]:
    from sklearn.datasets import load_digits
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier

    images, labels = load_digits(return_X_y=True)
    repeats, folds = 3, 5
    pairs: dict[str, tuple[Any, Any]] = {
        "ridge-bayes": (_ridge(), GaussianNB(var_smoothing=0.1)),
        "knn1-ridge": (KNeighborsClassifier(1), _ridge()),
    }
    for samples in (150, 300):
        for name, models in pairs.items():
            size = samples * (folds - 1) // folds
            truth = np.mean([_beyond(rng, models, images, labels, size) for _ in range(TRUTHS)])
            cell = Cell(f"folds/digits-{name}", 2, repeats * folds, samples, lead=float(truth))
            for _ in range(runs // repeats // 2):
                pool = rng.permutation(len(labels))[:samples]
                sides = [(model, images[pool]) for model in models]
                found = _differences(rng, sides, labels[pool], repeats, folds)
                for kind, p in (("", resampled_p(found, folds)), ("_plain", plain_p(found))):
                    won = p < ALPHA and found.mean() * truth > 0
                    lost = p < ALPHA and found.mean() * truth < 0
                    cell.counts["false" + kind].add(np.array([lost]))
                    cell.counts["power" + kind].add(np.array([won]))
                missed = resampled_p(found - truth, folds) < ALPHA
                cell.counts["missed_truth"].add(np.array([missed]))
            yield cell


def _beyond(
    rng: np.random.Generator, models: tuple[Any, Any], images: Numbers, labels: Numbers, size: int
) -> float:
    """The difference on all images that a pool of this size leaves."""
    order = rng.permutation(len(labels))
    pool, rest = order[:size], order[size:]
    one, other = (
        (model.fit(images[pool], labels[pool]).predict(images[rest]) == labels[rest]).mean()
        for model in models
    )
    return float(one - other)


def _differences(
    rng: np.random.Generator, sides: list[tuple[Any, Numbers]], y: Numbers, repeats: int, folds: int
) -> Numbers:
    from sklearn.model_selection import RepeatedStratifiedKFold

    splits = RepeatedStratifiedKFold(
        n_splits=folds, n_repeats=repeats, random_state=int(rng.integers(2**31))
    )
    found = []
    for train, test in splits.split(y, y):
        one, other = (
            (model.fit(x[train], y[train]).predict(x[test]) == y[test]).mean() for model, x in sides
        )
        found.append(one - other)
    return np.array(found).round(12)


def _ridge() -> Any:
    from sklearn.linear_model import RidgeClassifier

    return RidgeClassifier()
