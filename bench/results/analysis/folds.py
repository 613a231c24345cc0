"""Repeated k-fold: how sure a difference is that was measured on folds, and what varies it.

Each seed parts all images into folds and tests every image once. The differences of single folds
are no independent samples: two trainings of one seed share most of their images, and all seeds
share all of them. A t test that takes them for independent claims far too much, the more so the
more seeds there are. The corrected resampled t test (Nadeau and Bengio, Inference for the
Generalization Error, 2003; for repeated k-fold Bouckaert and Frank, 2004) adds what they share to
the variance of the mean: of J differences with the sample variance s²,

    t = mean / sqrt((1/J + test/train) · s²),   J − 1 degrees of freedom

with the numbers of images that a fold tests and that train for it. More seeds make the first part
small, and never the second: that one falls with more images alone.

It speaks of models that are trained from so many images like these, on images like these: of other
pools too, which the crossed test of seeds × samples on one test split does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.results.analysis.distributions import student_above, student_upper_quantile

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class FoldedTables:
    """Tables of differences by seed and fold in what a test takes of them; arrays `[..., tables]`.

    `effect` is the mean difference, `variance` the sample variance of all `count` differences of a
    table. `shared` is the number of test images by that of training images of a fold, `images` how
    many are tested in a seed; no mean is known better than to `grain`.
    """

    effect: Numbers
    variance: Numbers
    count: Numbers
    shared: Numbers
    images: Numbers
    grain: Numbers


@dataclass(frozen=True, kw_only=True, eq=False)
class FoldVariances:
    """Variances of what is measured by seed and fold; arrays like the tables, NaN if not known.

    `seeds` is the variance of the seeds' means over their folds: how far the figure of all images
    moves when folds, head and order are drawn anew. Every seed tests the same images, so it says
    nothing of what other images would give. `folds` is the variance of the folds of one seed, a
    mean over seeds: which few images are tested, and what trains without them. Were the folds
    independent, `seeds` would be `folds` by their number; it is less, as the images of one fold
    are missing in the others.
    """

    seeds: Numbers
    folds: Numbers


def folded_table(
    differences: npt.NDArray[Any],
    *,
    test: npt.ArrayLike,
    train: npt.ArrayLike,
    grain: float | None = None,
) -> FoldedTables:
    """What a test takes of `differences` `[..., seeds, folds]`, of two folds or more.

    `test` and `train` are the numbers of images of each fold, one for all or arrays
    `[seeds, folds]`. Images that choose the epoch are no training images: to leave them out of
    `train` makes the test more careful. By default the grain is about what one image makes.
    """
    seeds, folds = differences.shape[-2:]
    assert folds >= 2, "one fold is a test split, not a partition"
    values = differences.astype(np.float64).reshape(*differences.shape[:-2], seeds * folds)
    effect = values.mean(axis=-1)
    tested, trained = (float(np.mean(np.asarray(each, np.float64))) for each in (test, train))
    return FoldedTables(
        effect=effect,
        variance=values.var(axis=-1, ddof=1),
        count=np.full_like(effect, seeds * folds),
        shared=np.full_like(effect, tested / trained),
        images=np.full_like(effect, tested * folds),
        grain=np.full_like(effect, 1 / (tested * folds + 2) if grain is None else grain),
    )


def folded_p(tables: FoldedTables) -> Numbers:
    """Two-sided p of "no difference" of each table, before any correction for their number."""
    p = 2 * student_above(np.abs(tables.effect) / _standard_error(tables), tables.count - 1)
    # Far out in the tail it is rounded to 0, which no p is.
    return np.asarray(np.maximum(p, np.finfo(np.float64).tiny))


def folded_half_widths(tables: FoldedTables, *, alpha: float) -> Numbers:
    """Half the width of the interval of each effect that leaves out `alpha`.

    It leaves out 0 exactly where `folded_p` is below `alpha`.
    """
    return np.asarray(student_upper_quantile(alpha / 2, tables.count - 1) * _standard_error(tables))


def fold_variances(values: npt.NDArray[Any]) -> FoldVariances:
    """What of `values` `[..., seeds, folds]` the seeds vary, and what the folds of one seed."""
    numbers = values.astype(np.float64)
    seeds, folds = numbers.shape[-2:]
    unknown = np.full(numbers.shape[:-2], np.nan)
    by_seed = numbers.mean(axis=-1)
    return FoldVariances(
        seeds=np.asarray(by_seed.var(axis=-1, ddof=1)) if seeds > 1 else unknown,
        folds=np.asarray(numbers.var(axis=-1, ddof=1).mean(axis=-1)) if folds > 1 else unknown,
    )


def _standard_error(tables: FoldedTables) -> Numbers:
    """Of the effects; a mean is never known better than to its grain, whatever varies."""
    found = np.sqrt((1 / tables.count + tables.shared) * tables.variance)
    return np.maximum(found, tables.grain)
