"""Confident learning against tables by hand, and against the authors' own implementation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from bench.results.analysis.label_errors import NONE, confident_joint, margins

# Eight samples of two classes. By hand: the thresholds are (0.9 + 0.8 + 0.7 + 0.2) / 4 = 0.65 and
# (0.9 + 0.6 + 0.7 + 0.2) / 4 = 0.6.
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
FIRST = np.array([0.9, 0.8, 0.7, 0.2, 0.1, 0.4, 0.3, 0.8])
TWO = np.stack([FIRST, 1 - FIRST], axis=1)


def test_two_classes_by_hand() -> None:
    found = confident_joint(LABELS, TWO)
    assert found.thresholds == pytest.approx([0.65, 0.6])
    assert found.confident.tolist() == [0, 0, 0, 1, 1, 1, 1, 0]
    assert found.counts.tolist() == [[3, 1], [1, 3]]
    assert np.flatnonzero(found.off_diagonal).tolist() == [3, 7]
    assert found.estimated == pytest.approx(np.array([[3, 1], [1, 3]]))
    assert found.errors == pytest.approx(2)
    assert margins(LABELS, TWO)[[0, 3, 7]] == pytest.approx([-0.8, 0.6, 0.6])


def test_who_counts_for_no_class_is_no_error_and_is_estimated_along() -> None:
    """Three of class 0: thresholds 0.6 and 0.7. The second reaches neither."""
    labels = np.array([0, 0, 0, 1])
    first = np.array([0.95, 0.55, 0.3, 0.3])
    found = confident_joint(labels, np.stack([first, 1 - first], axis=1))
    assert found.confident.tolist() == [0, NONE, 1, 1]
    assert found.counts.tolist() == [[1, 1], [0, 1]]
    assert found.estimated == pytest.approx(np.array([[1.5, 1.5], [0, 1]]))
    assert found.errors == pytest.approx(1.5)


def test_of_several_classes_that_are_reached_the_most_probable_counts() -> None:
    """Thresholds 0.5, 0.2, 0.6 by hand. The first sample reaches 0 and 1, and 0 is more probable;
    the second reaches 1 alone, although 2 is more probable."""
    labels = np.array([0, 0, 1, 1, 2])
    table = np.array(
        [
            [0.6, 0.3, 0.1],
            [0.4, 0.2, 0.4],
            [0.55, 0.1, 0.35],
            [0.1, 0.3, 0.6],
            [0.3, 0.1, 0.6],
        ]
    )
    found = confident_joint(labels, table)
    assert found.thresholds == pytest.approx([0.5, 0.2, 0.6])
    assert found.confident.tolist() == [0, 1, 0, 2, 2]
    assert found.counts.tolist() == [[1, 1, 0], [1, 0, 1], [0, 0, 1]]


def test_a_class_without_samples_is_suggested_to_nobody() -> None:
    found = confident_joint(np.array([0, 0]), np.array([[0.1, 0.9], [0.2, 0.8]]))
    assert found.thresholds[1] == np.inf
    assert not found.off_diagonal.any()
    assert found.errors == 0


@pytest.mark.parametrize("probability", [0.1, 0.3, 0.7, 1 / 3])
@pytest.mark.parametrize("count", [3, 7, 10, 49])
def test_equal_samples_reach_their_own_mean(probability: float, count: int) -> None:
    """The mean of equal numbers may be rounded above them."""
    table = np.full((count, 2), [probability, 1 - probability])
    found = confident_joint(np.zeros(count, int), table)
    assert found.counts.tolist() == [[count, 0], [0, 0]]


def test_the_order_of_samples_and_classes_changes_nothing() -> None:
    labels, table = _drawn(np.random.default_rng(0), 200, 4)
    found = confident_joint(labels, table)
    order = np.random.default_rng(1).permutation(len(labels))
    assert np.array_equal(confident_joint(labels[order], table[order]).counts, found.counts)
    turned = confident_joint(3 - labels, table[:, ::-1])
    assert np.array_equal(turned.counts, found.counts[::-1, ::-1])


def _drawn(
    rng: np.random.Generator, samples: int, classes: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    truth = rng.integers(classes, size=samples)
    table = rng.dirichlet(np.ones(classes), size=samples) + 2 * np.eye(classes)[truth]
    wrong = rng.random(samples) < 0.1
    labels = np.where(wrong, rng.integers(classes, size=samples), truth)
    return labels, table / table.sum(axis=1, keepdims=True)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("classes", [2, 3, 6])
def test_equal_to_the_authors_implementation(seed: int, classes: int) -> None:
    """cleanlab differs from the definition in two places, which are left out here: it lifts an
    empty diagonal to 1, and of several classes that are reached it takes the most probable of all,
    reached or not."""
    count = pytest.importorskip("cleanlab.count", reason="compares with cleanlab where it is there")
    labels, table = _drawn(np.random.default_rng(seed), 300, classes)
    found = confident_joint(labels, table)
    assert found.thresholds == pytest.approx(count.get_confident_thresholds(labels, table))
    reached = table >= found.thresholds
    best = table.argmax(axis=1)
    alike = reached[np.arange(300), best] | (reached.sum(axis=1) < 2)
    _, theirs = count.compute_confident_joint(
        labels, table, calibrate=False, return_indices_of_off_diagonals=True
    )
    ours = np.flatnonzero(found.off_diagonal)
    assert set(ours[alike[ours]]) == {index for index in theirs if alike[index]}
    if alike.all() and found.counts.diagonal().all():
        joint = count.compute_confident_joint(labels, table, calibrate=False)
        assert np.array_equal(joint, found.counts)
        scaled = count.compute_confident_joint(labels, table, calibrate=True)
        assert np.abs(scaled - found.estimated).max() <= 1  # which rounds to whole samples
