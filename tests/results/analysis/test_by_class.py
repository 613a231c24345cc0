"""Recall and precision of classes against scikit-learn, their intervals against Wilson's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from bench.results.analysis import wilson_interval
from bench.results.analysis.by_class import class_figures, share_of

CLASSES = ("ants", "bees", "wasps")


def table(labels: np.ndarray, predicted: np.ndarray, classes: tuple[str, ...] = CLASSES) -> Any:
    """Test predictions of a trial a row of `predicted` `[seeds, images]`, shuffled."""
    names = np.array(classes)
    frames = [
        pd.DataFrame(
            {
                "trial": f"t{seed}",
                "sample": [f"{index:04}.jpg" for index in range(len(labels))],
                "label": names[labels],
                "predicted": names[own],
                **{f"probability_{name}": 1.0 * (names[own] == name) for name in classes},
            }
        ).sample(frac=1, random_state=seed)
        for seed, own in enumerate(predicted)
    ]
    return pd.concat(frames, ignore_index=True)


def trials(count: int) -> dict[int, tuple[str, ...]]:
    return {seed: (f"t{seed}",) for seed in range(count)}


def drawn(seeds: int, images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, p=[0.7, 0.2, 0.1], size=images)
    hard = rng.normal(size=(images, 3))
    logits = 1.5 * np.eye(3)[labels] + hard + 0.7 * rng.normal(size=(seeds, images, 3))
    return labels, logits.argmax(axis=2)


@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_equals_scikit_learn(seeds: int) -> None:
    """Over several seeds all their predictions count together."""
    metrics = pytest.importorskip("sklearn.metrics")
    labels, predicted = drawn(seeds, 150)
    precision, recall, _, support = metrics.precision_recall_fscore_support(
        np.tile(labels, seeds), predicted.ravel(), labels=range(3)
    )
    found = class_figures(table(labels, predicted), trials(seeds))
    assert [each.name for each in found] == list(CLASSES)
    assert [each.recall.value for each in found] == pytest.approx(recall)
    assert [each.precision.value for each in found] == pytest.approx(precision)
    assert [each.images * seeds for each in found] == list(support)
    counts = np.bincount(predicted.ravel(), minlength=3) / seeds
    assert [each.predicted for each in found] == pytest.approx(counts)
    confusion = metrics.confusion_matrix(np.tile(labels, seeds), predicted.ravel())
    np.fill_diagonal(confusion, 0)
    assert [each.mistaken_for for each in found] == [CLASSES[i] for i in confusion.argmax(axis=1)]
    shares = confusion.max(axis=1) / support
    assert [each.mistaken for each in found] == pytest.approx(shares)


def test_of_one_seed_intervals_are_wilsons() -> None:
    labels, predicted = drawn(1, 90)
    for index, each in enumerate(class_figures(table(labels, predicted), trials(1))):
        hits = int(((labels == index) & (predicted[0] == index)).sum())
        named = int((predicted[0] == index).sum())
        assert each.recall.interval == pytest.approx(wilson_interval(hits, each.images))
        assert each.precision.interval == pytest.approx(wilson_interval(hits, named))


def test_copies_of_a_model_know_no_more_than_it() -> None:
    labels, predicted = drawn(1, 90)
    (alone, *_), (copied, *_) = (
        class_figures(table(labels, np.tile(predicted, (n, 1))), trials(n), of_models=True)
        for n in (1, 8)
    )
    assert copied.recall.value == pytest.approx(alone.recall.value)
    assert copied.recall.interval == pytest.approx(alone.recall.interval)
    assert copied.precision.interval == pytest.approx(alone.precision.interval)
    (crossed, *_) = class_figures(table(labels, np.tile(predicted, (8, 1))), trials(8))
    assert crossed.recall.interval[0] <= alone.recall.interval[0]
    assert crossed.recall.interval[1] >= alone.recall.interval[1]


def test_folds_of_a_seed_are_its_images_together() -> None:
    labels, predicted = drawn(2, 90)
    whole = table(labels, predicted)
    fold = (whole["sample"] < "0045.jpg").map({True: "a", False: "b"})
    parts = whole.assign(trial=whole["trial"] + fold)
    of_seed = {seed: (f"t{seed}a", f"t{seed}b") for seed in range(2)}
    assert class_figures(parts, of_seed) == class_figures(whole, trials(2))


def test_what_never_occurs_has_no_share() -> None:
    labels = np.array([0, 0, 0, 1])
    ants, bees, wasps = class_figures(table(labels, np.array([[0, 0, 0, 0]])), trials(1))
    assert ants.recall.interval == pytest.approx(wilson_interval(3, 3))
    assert (ants.mistaken_for, bees.mistaken_for, wasps.mistaken_for) == (None, "ants", None)
    assert bees.recall.value == 0
    assert all(math.isnan(each.precision.value) for each in (bees, wasps))
    assert math.isnan(wasps.recall.value)
    assert math.isnan(wasps.recall.interval[0])
    assert (wasps.images, wasps.predicted) == (0, 0)


def test_only_images_that_all_seeds_have_count() -> None:
    labels, predicted = drawn(2, 40)
    whole = table(labels, predicted)
    less = whole[(whole["trial"] == "t0") | (whole["sample"] != "0007.jpg")]
    kept = np.arange(40) != 7
    without = table(labels[kept], predicted[:, kept])
    assert class_figures(less, trials(2)) == class_figures(without, trials(2))
    # As texts, since what is not a number is not equal to itself.
    assert repr(class_figures(whole[:0], {})) == repr(class_figures(whole[:0], trials(2)))


# Models that are not the one behind the interval ------------------------------------------------

Draw = Callable[[np.random.Generator, int, int], np.ndarray]
"""Hits `[seeds, images]`, of a share that is 0.85 in the mean over seeds and images."""

TRUTH = 0.85


def probit(luck: float) -> Draw:
    """Images differ in difficulty, trainings in skill."""

    def draw(rng: np.random.Generator, seeds: int, images: int) -> np.ndarray:
        spread = math.sqrt(1 + luck**2 + 0.5)
        values = norm.ppf(TRUTH) * spread + rng.normal(size=images)
        values = values + luck * rng.normal(size=(seeds, 1))
        return values + math.sqrt(0.5) * rng.normal(size=(seeds, images)) > 0

    return draw


def mixed(rng: np.random.Generator, seeds: int, images: int) -> np.ndarray:
    """Most images are right in every training, the others are like coins."""
    coins = rng.random(images) < 2 * (1 - TRUTH)
    return ~coins | (rng.random((seeds, images)) < 0.5)


def shared(rng: np.random.Generator, seeds: int, images: int) -> np.ndarray:
    """All trainings agree about every image."""
    return np.tile(rng.random(images) < TRUTH, (seeds, 1))


@pytest.mark.campaign
@pytest.mark.parametrize("images", [10, 40, 200])
@pytest.mark.parametrize("seeds", [1, 3, 5, 8])
@pytest.mark.parametrize("draw", [probit(0.0), probit(0.2), mixed, shared])
def test_the_interval_of_a_recall_covers(draw: Draw, seeds: int, images: int) -> None:
    rng = np.random.default_rng(0)
    if seeds == 1:
        draw = probit(0.0) if draw is not shared else draw  # it says nothing of other seeds
    covered = 0
    for _ in range(400):
        hits = draw(rng, seeds, images)
        low, high = share_of(hits, np.ones_like(hits), crossed=seeds > 2).interval
        covered += low <= TRUTH <= high
    assert covered / 400 > 0.95 - 3 * math.sqrt(0.05 * 0.95 / 400)


@pytest.mark.campaign
@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_the_interval_of_a_precision_covers(seeds: int) -> None:
    """Of a rare class, whose images are drawn anew as well."""
    rng = np.random.default_rng(0)

    def drawn_anew(seeds: int, images: int) -> tuple[np.ndarray, np.ndarray]:
        own = rng.random(images) < 0.15
        value = 1.5 * own + 0.6 * rng.normal(size=images)
        value = value + 0.6 * rng.normal(size=(seeds, images)) + 0.1 * rng.normal(size=(seeds, 1))
        return np.broadcast_to(own, value.shape), value > 1.0

    own, named = drawn_anew(400, 20_000)
    truth = float((own & named).sum() / named.sum())
    covered = 0
    for _ in range(400):
        own, named = drawn_anew(seeds, 150)
        low, high = share_of(own & named, named, crossed=seeds > 2).interval
        covered += low <= truth <= high
    assert covered / 400 > 0.95 - 3 * math.sqrt(0.05 * 0.95 / 400)
