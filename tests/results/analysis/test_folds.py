"""Repeated k-fold: the corrected test against hand and simulation, and what varies apart."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm, ttest_1samp

from bench.results.analysis.folds import (
    fold_variances,
    folded_half_widths,
    folded_p,
    folded_table,
)

discriminant = pytest.importorskip("sklearn.discriminant_analysis")

SEEDS, FOLDS = 3, 5


def test_the_closed_form_by_hand() -> None:
    """Four differences 0.1, 0.2, 0.3, 0.2: mean 0.2, sample variance 0.02 / 3."""
    differences = np.array([[0.1, 0.2], [0.3, 0.2]])
    table = folded_table(differences, test=20, train=40)
    error = math.sqrt((1 / 4 + 1 / 2) * 0.02 / 3)
    assert error == pytest.approx(0.0707107, rel=1e-5)
    # With three degrees of freedom the distribution of t is elementary.
    x = 0.2 / error / math.sqrt(3)
    expected = 1 - 2 / math.pi * (x / (1 + x * x) + math.atan(x))
    assert expected == pytest.approx(0.066276, abs=1e-6)
    assert float(table.effect) == pytest.approx(0.2)
    assert float(folded_p(table)) == pytest.approx(expected)
    assert float(folded_half_widths(table, alpha=0.05)) == pytest.approx(3.182446 * error)


def test_without_what_is_shared_it_is_students_test() -> None:
    values = np.random.default_rng(0).normal(0.05, 0.1, (SEEDS, FOLDS))
    table = folded_table(values, test=1e6, train=1e15)
    assert float(folded_p(table)) == pytest.approx(ttest_1samp(values.ravel(), 0).pvalue)


def test_many_tables_at_once_and_numbers_of_images_by_fold() -> None:
    values = np.random.default_rng(1).normal(0.05, 0.1, (2, 4, SEEDS, FOLDS))
    test = np.broadcast_to([10, 10, 10, 9, 9], (SEEDS, FOLDS))
    tables = folded_table(values, test=test, train=48 - test)
    assert folded_p(tables).shape == (2, 4)
    one = folded_table(values[1, 2], test=9.6, train=38.4)
    assert float(folded_p(tables)[1, 2]) == pytest.approx(float(folded_p(one)))
    assert float(one.images) == pytest.approx(48)


def test_p_and_interval_agree() -> None:
    values = np.random.default_rng(2).normal(0.15, 0.1, (400, SEEDS, FOLDS))
    tables = folded_table(values, test=12, train=40)
    for alpha in (0.05, 0.01):
        leaves_out_0 = np.abs(tables.effect) > folded_half_widths(tables, alpha=alpha)
        assert np.array_equal(leaves_out_0, folded_p(tables) < alpha)
        assert 0 < leaves_out_0.mean() < 1


def test_nothing_that_varies_is_no_certainty() -> None:
    """The mean is known to about one image of those that were tested, not exactly."""
    equal, apart = (
        folded_table(np.full((SEEDS, FOLDS), value), test=10, train=40) for value in (0, 0.02)
    )
    assert float(folded_p(equal)) == 1
    assert float(folded_half_widths(equal, alpha=0.05)) == pytest.approx(2.144787 / 52)
    assert float(folded_p(apart)) > 0.05
    far = folded_table(np.ones((200, FOLDS)), test=100_000, train=400_000)
    assert 0 < float(folded_p(far)) < 1e-100


# Real models whose accuracy on all images that there could be is known -------------------------

WIDTH, MEAN = 8, 0.35
POOL = 60
TRAIN, TEST = POOL - POOL // FOLDS, POOL // FOLDS


def draw(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Two classes around ±`MEAN` in each of twice `WIDTH` features with unit variance."""
    labels = np.arange(count) % 2
    features = rng.normal(size=(count, 2 * WIDTH)) + MEAN * (2 * labels[:, None] - 1)
    return features, labels


def fitted(features: np.ndarray, labels: np.ndarray) -> Any:
    return discriminant.LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3).fit(
        features, labels
    )


def population_accuracy(model: Any) -> float:
    """Of a linear rule on endlessly many images: both classes are normal along its direction."""
    (weights,), (bias,) = model.coef_, model.intercept_
    centre, spread = MEAN * weights.sum(), float(np.linalg.norm(weights))
    return float(norm.cdf([(centre + bias) / spread, (centre - bias) / spread]).mean())


def study(rng: np.random.Generator, parts: tuple[slice, slice]) -> np.ndarray:
    """Differences `[seeds, folds]` of two models, each of which sees a part of the features."""
    features, labels = draw(rng, POOL)
    found = np.empty((SEEDS, FOLDS))
    for seed in range(SEEDS):
        fold_of = np.empty(POOL, int)
        for label in (0, 1):
            members = rng.permutation(np.flatnonzero(labels == label))
            fold_of[members] = np.arange(len(members)) % FOLDS
        for fold in range(FOLDS):
            train, test = fold_of != fold, fold_of == fold
            first, second = (
                fitted(features[train, part], labels[train]).score(
                    features[test, part], labels[test]
                )
                for part in parts
            )
            found[seed, fold] = first - second
    return found


def studies(parts: tuple[slice, slice], *, count: int) -> np.ndarray:
    return np.stack([study(np.random.default_rng([7, number]), parts) for number in range(count)])


@pytest.mark.campaign
def test_equal_models_are_seldom_told_apart() -> None:
    """Features of the same kind: both models have the same expected accuracy, by symmetry.

    Measured here with 300 studies: 2 % false claims; Student's test over the folds makes 33 %.
    """
    equal = studies((slice(0, WIDTH), slice(WIDTH, 2 * WIDTH)), count=120)
    corrected = folded_p(folded_table(equal, test=TEST, train=TRAIN)) < 0.05
    plain = ttest_1samp(equal.reshape(len(equal), -1), 0, axis=1).pvalue < 0.05
    assert corrected.mean() <= 0.08
    assert plain.mean() >= 0.15


@pytest.mark.campaign
def test_the_interval_holds_the_difference_of_models_that_differ() -> None:
    """Three features against eight; truth is the mean over many trainings from other pools."""
    parts = (slice(0, WIDTH), slice(0, 3))
    rng = np.random.default_rng(8)
    truths = []
    for _ in range(1500):
        features, labels = draw(rng, TRAIN)
        first, second = (fitted(features[:, part], labels) for part in parts)
        truths.append(population_accuracy(first) - population_accuracy(second))
    truth = float(np.mean(truths))
    assert truth > 0.05
    tables = folded_table(studies(parts, count=120), test=TEST, train=TRAIN)
    missed = np.abs(tables.effect - truth) > folded_half_widths(tables, alpha=0.05)
    assert missed.mean() <= 0.08
    # The mean itself is right: within three standard errors of what it is to estimate.
    error = tables.effect.std(ddof=1) / math.sqrt(len(tables.effect))
    assert abs(tables.effect.mean() - truth) < 3 * error


# What varies -----------------------------------------------------------------------------------


def test_variances_of_seeds_and_of_folds_apart() -> None:
    values = np.array([[0.5, 0.7, 0.9], [0.6, 0.6, 0.6]])
    found = fold_variances(values)
    assert float(found.seeds) == pytest.approx(np.var([0.7, 0.6], ddof=1))
    assert float(found.folds) == pytest.approx((0.04 + 0) / 2)
    assert math.isnan(float(fold_variances(values[:1]).seeds))
    many = fold_variances(np.stack([values, values]))
    assert many.seeds.shape == many.folds.shape == (2,)


def test_seeds_vary_less_than_independent_folds_would() -> None:
    """Every seed tests the same images, so their luck is not in what the seeds vary."""
    rng = np.random.default_rng(3)
    right = (rng.random(POOL) < 0.8).astype(float)  # the same images are right for every seed
    values = np.empty((40, FOLDS))
    for seed in range(40):
        values[seed] = right[rng.permutation(POOL)].reshape(FOLDS, -1).mean(axis=1)
    found = fold_variances(values)
    assert float(found.seeds) == pytest.approx(0, abs=1e-12)
    assert float(found.folds) == pytest.approx(0.8 * 0.2 / (POOL / FOLDS), rel=0.4)
