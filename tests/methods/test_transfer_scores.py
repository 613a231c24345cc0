"""Transfer scores against gold values, and against what they are defined as."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import minimize
from scipy.special import softmax
from scipy.stats import multivariate_normal

from bench.errors import MissingExtraError
from bench.methods.transfer_scores import (
    RIDGE_STRENGTHS,
    TRANSFER_SCORES,
    UndefinedScoreError,
    gbc,
    h_score,
    leep,
    logme,
    nce,
    nleep,
    ridge_probe,
    transrate,
)

Array = npt.NDArray[Any]

LABELS = np.arange(12) % 3
FEATURES = np.sin(0.37 * np.arange(1, 49) ** 2).reshape(12, 4) + np.eye(3, 4)[LABELS]
PROBABILITIES = softmax(np.cos(0.7 * np.outer(np.arange(1, 13), np.arange(1, 6))), axis=1)

OF_FEATURES = [name for name, score in TRANSFER_SCORES.items() if score.of == "features"]


def samples(count: int, dimensions: int, classes: int, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = rng.normal(size=(classes, dimensions))
    return rng.normal(size=(count, dimensions)) + 0.7 * centres[labels], labels


def test_gold_values() -> None:
    found = {
        "logme": logme(FEATURES, LABELS),
        "h_score": h_score(FEATURES, LABELS),
        "transrate": transrate(FEATURES, LABELS),
        "gbc": gbc(FEATURES, LABELS),
        "gbc_diagonal": gbc(FEATURES, LABELS, covariance="diagonal"),
        "leep": leep(PROBABILITIES, LABELS),
        "nce": nce(PROBABILITIES, LABELS),
    }
    gold = {
        "logme": -0.7511940,
        "h_score": 1.3794852,
        "transrate": 0.9888628,
        "gbc": -1.7361989,
        "gbc_diagonal": -0.7400829,
        "leep": -0.9605356,
        "nce": -0.4620982,
    }
    assert found == pytest.approx(gold, abs=1e-7)


# What they are defined as -----------------------------------------------------------------------


def best_evidence(features: Array, target: Array) -> float:
    """By the density of the targets, maximised over both precisions from several starts."""
    count = len(features)

    def minus_evidence(logs: Array) -> float:
        alpha, beta = np.exp(logs)
        covariance = np.eye(count) / beta + features @ features.T / alpha
        density = multivariate_normal(np.zeros(count), covariance, allow_singular=True)
        return -float(density.logpdf(target))

    options = {"xatol": 1e-6, "fatol": 1e-10}
    starts = ([0.0, 0.0], [3.0, 2.0])
    found = (
        minimize(minus_evidence, start, method="Nelder-Mead", options=options) for start in starts
    )
    return -min(float(each.fun) for each in found)


@pytest.mark.parametrize(("count", "dimensions"), [(20, 4), (9, 12)])
def test_logme_is_the_maximum_of_the_evidence(count: int, dimensions: int) -> None:
    features, labels = samples(count, dimensions, 3)
    evidences = [best_evidence(features, (labels == each).astype(float)) for each in range(3)]
    assert logme(features, labels) == pytest.approx(np.mean(evidences) / count, abs=1e-8)


def test_logme_of_numbers_is_that_of_each_of_them() -> None:
    features, _ = samples(15, 3, 2)
    numbers = np.random.default_rng(1).normal(size=(15, 2)) + features[:, :2]
    evidences = [best_evidence(features, column) for column in numbers.T]
    assert logme(features, numbers) == pytest.approx(np.mean(evidences) / 15, abs=1e-8)


def test_h_score_is_the_trace_of_its_definition() -> None:
    features, labels = samples(40, 6, 4)
    means = np.stack([features[labels == each].mean(axis=0) for each in labels])
    inverse = np.linalg.pinv(np.cov(features.T))
    assert h_score(features, labels) == pytest.approx(np.trace(inverse @ np.cov(means.T)))
    doubled = np.hstack([features, features])  # of no further rank
    assert h_score(doubled, labels) == pytest.approx(h_score(features, labels))


@pytest.mark.parametrize(("count", "dimensions"), [(40, 6), (8, 15)])
def test_transrate_is_the_difference_of_coding_rates(count: int, dimensions: int) -> None:
    features, labels = samples(count, dimensions, 2)
    centred = features - features.mean(axis=0)

    def rate(rows: Array) -> float:
        scaled = np.linalg.eigvalsh(rows.T @ rows) / (len(rows) * 1e-4)
        return float(np.log(1 + np.maximum(scaled, 0)).sum()) / 2

    expected = rate(centred) - np.mean([rate(centred[labels == each]) for each in range(2)])
    assert transrate(features, labels) == pytest.approx(expected)


@pytest.mark.parametrize("covariance", ["spherical", "diagonal"])
def test_gbc_is_the_overlap_of_every_ordered_pair(
    covariance: Literal["spherical", "diagonal"],
) -> None:
    features, labels = samples(90, 70, 3)
    features[:, 0] *= 5
    centred = features - features.mean(axis=0)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :64]
    reduced = centred @ axes
    total = 0.0
    for first in range(3):
        for second in range(3):
            if first == second:
                continue
            means, variances = [], []
            for each in (first, second):
                own = reduced[labels == each]
                means.append(own.mean(axis=0))
                spread = own.var(axis=0)
                spread = np.array([spread.mean()]) if covariance == "spherical" else spread
                variances.append(np.maximum(spread, 1e-4))
            middle = (variances[0] + variances[1]) / 2
            distance = np.sum((means[0] - means[1]) ** 2 / middle) / 8
            distance += np.sum(np.log(middle / np.sqrt(variances[0] * variances[1]))) / 2
            total += np.exp(-distance)
    assert gbc(features, labels, covariance=covariance) == pytest.approx(-total)


def test_leep_and_nce_count_what_goes_together() -> None:
    rng = np.random.default_rng(3)
    probabilities, labels = rng.dirichlet(np.full(5, 0.3), size=30), np.arange(30) % 3
    probabilities[:, 4] = 0  # a source class that nothing looks like
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    mean_log, entropy = 0.0, 0.0
    said = probabilities.argmax(axis=1)
    for own, label in zip(probabilities, labels, strict=True):
        shares = [
            probabilities[labels == label, z].sum() / probabilities[:, z].sum() for z in range(4)
        ]
        mean_log += np.log(np.dot(own[:4], shares)) / 30
        alike = said == own.argmax()
        entropy -= np.log((alike & (labels == label)).sum() / alike.sum()) / 30
    assert leep(probabilities, labels) == pytest.approx(mean_log)
    assert nce(probabilities, labels) == pytest.approx(-entropy)


def test_nleep_is_leep_of_a_mixture_on_most_of_the_variance() -> None:
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    features, labels = samples(60, 8, 2)
    reduced = PCA(0.8).fit_transform(features)
    assert 1 < reduced.shape[1] < 8
    mixture = GaussianMixture(10, covariance_type="diag", random_state=0).fit(reduced)
    assert nleep(features, labels) == pytest.approx(leep(mixture.predict_proba(reduced), labels))
    assert nleep(features, labels) == nleep(features, labels)


# Bounds and invariances -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "count", "dimensions"),
    [
        *((name, 60, 12) for name in OF_FEATURES),
        *((name, 24, 80) for name in OF_FEATURES if name != "h_score"),
    ],
)
def test_features_may_be_rotated_and_samples_reordered(
    name: str, count: int, dimensions: int
) -> None:
    score = TRANSFER_SCORES[name].function
    features, labels = samples(count, dimensions, 3)
    value = score(features, labels)
    if name != "gbc_diagonal" or dimensions > 64:  # of few dimensions their axes count
        rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(dimensions, dimensions)))[0]
        assert score(features @ rotation, labels) == pytest.approx(value, abs=1e-6)
    if name != "nleep":  # whose mixture starts at samples by their numbers
        order = np.random.default_rng(2).permutation(count)
        assert score(features[order], labels[order]) == pytest.approx(value, abs=1e-6)
    assert score(features, 7 - 2 * labels) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("name", TRANSFER_SCORES)
def test_bounds(name: str) -> None:
    rng = np.random.default_rng(0)
    score = TRANSFER_SCORES[name]
    for count, dimensions, classes in ((30, 2, 4), (40, 6, 3), (60, 3, 2)):
        labels = np.arange(count) % classes
        given = rng.normal(size=(count, dimensions)) + rng.normal() * labels[:, None]
        if score.of == "source_probabilities":
            given = softmax(3 * given, axis=1)
        low, high = {
            "h_score": (0.0, min(dimensions, classes - 1)),
            "gbc": (-classes * (classes - 1), 0.0),
            "gbc_diagonal": (-classes * (classes - 1), 0.0),
            **dict.fromkeys(("leep", "nleep", "nce"), (-np.log(classes), 0.0)),
            "transrate": (0.0, np.inf),
        }.get(name, (-np.inf, np.inf))
        assert low - 1e-9 <= score.function(given, labels) <= high + 1e-9


def test_what_tells_all_and_what_tells_nothing() -> None:
    labels = np.arange(30) % 3
    assert leep(np.eye(3)[labels], labels) == nce(np.eye(3)[labels], labels) == 0
    alike = np.tile([[0.2, 0.8]], (30, 1))
    assert leep(alike, labels) == pytest.approx(-np.log(3))
    assert nce(alike, labels) == pytest.approx(-np.log(3))


def test_nearest_neighbour_is_the_classifier_with_one_left_out() -> None:
    from sklearn.model_selection import LeaveOneOut, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    features, labels = samples(40, 5, 3)
    judge = KNeighborsClassifier(1, metric="cosine")
    expected = cross_val_score(judge, features, labels, cv=LeaveOneOut()).mean()
    assert TRANSFER_SCORES["nearest_neighbour"].function(features, labels) == expected


# Odd samples ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRANSFER_SCORES)
def test_a_class_of_one_sample_counts(name: str) -> None:
    score = TRANSFER_SCORES[name]
    features, labels = samples(31, 5, 2)
    labels[30] = 2
    given = features if score.of == "features" else softmax(features, axis=1)
    assert np.isfinite(score.function(given, labels))


@pytest.mark.parametrize("level", [0.0, 2.5])
def test_features_that_are_all_the_same(level: float) -> None:
    features, labels = np.full((20, 4), level), np.arange(20) % 2
    assert h_score(features, labels) == 0
    assert transrate(features, labels) == pytest.approx(0)
    assert gbc(features, labels) == pytest.approx(-2)
    assert np.isfinite(logme(features, labels))
    with pytest.raises(UndefinedScoreError, match="of all samples are the same"):
        nleep(features, labels)


Score = Callable[[Array, Array], float]


@pytest.mark.parametrize(
    ("score", "features", "labels", "told"),
    [
        (h_score, *samples(10, 9, 3), r"10 samples are too few .* it is 2 \(classes − 1\) for any"),
        (logme, *(np.eye(2)[np.arange(20) % 2], np.arange(20) % 2), "without any error"),
        (logme, *(samples(9, 2, 2)[0], np.zeros((9, 1))), "0 for all samples"),
        (nleep, *samples(9, 2, 2), r"has 10 components \(5 a class\).* got 9 samples"),
        *((score.function, samples(9, 3, 2)[0], np.zeros(9, int), "two classes or more")
          for score in TRANSFER_SCORES.values()),
        *((score.function, np.full((9, 3), np.nan), np.arange(9) % 2, "not all .* finite")
          for score in TRANSFER_SCORES.values()),
    ],
)  # fmt: skip
def test_what_has_no_score_says_why(
    score: Score, features: Array, labels: Array, told: str
) -> None:
    with pytest.raises(UndefinedScoreError, match=told):
        score(features, labels)


def test_nleep_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtraError, match=r'scikit-learn; install .*"bench\[probes\]"'):
        nleep(FEATURES, LABELS)


@pytest.mark.parametrize("dimensions", [3, 20])
def test_the_ridge_probe_is_a_model_of_all_others(dimensions: int) -> None:
    """Fitted once for each sample that is left out, at the strength with the smallest error."""
    features, labels = samples(15, dimensions, 3)
    wanted = np.eye(3)[labels]
    squares = np.linalg.svd(features - features.mean(axis=0), compute_uv=False)[0] ** 2
    found = []
    for strength in squares * RIDGE_STRENGTHS:
        said = []
        for left_out in range(len(labels)):
            kept = np.arange(len(labels)) != left_out
            centre, middle = features[kept].mean(axis=0), wanted[kept].mean(axis=0)
            known = features[kept] - centre
            weights = np.linalg.solve(
                known.T @ known + strength * np.eye(dimensions), known.T @ (wanted[kept] - middle)
            )
            said.append(middle + (features[left_out] - centre) @ weights)
        right = (np.argmax(said, axis=1) == labels).mean()
        found.append((float(((np.array(said) - wanted) ** 2).mean()), right))
    assert ridge_probe(features, labels) == pytest.approx(min(found)[1])
