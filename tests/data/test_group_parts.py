"""Groups stay whole, and parts have their shares as well as by scikit-learn's rule."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from bench.data.group_parts import part_groups

selection = pytest.importorskip("sklearn.model_selection")


def cost(counts: np.ndarray, parts: np.ndarray, shares: list[float]) -> float:
    """How far the shares of classes and of all samples are from `shares`: 0 if they are exact."""
    own = np.column_stack([counts, counts.sum(1)])
    held = np.stack([own[parts == part].sum(0) for part in range(len(shares))]) / own.sum(0)
    wanted = np.array(shares)[:, None]
    return float(((held - wanted) ** 2 / wanted).sum())


def drawn_counts(rng: np.random.Generator) -> np.ndarray:
    """Groups of very different sizes, most of them with some of the classes only."""
    shape = int(rng.integers(20, 90)), int(rng.integers(2, 5))
    sizes = rng.gamma(1, 5, (shape[0], 1))
    counts = rng.poisson(sizes * rng.dirichlet(np.full(shape[1], 0.7), shape[0]))
    return counts[counts.sum(1) > 0].astype(np.int64)


def by_scikit_learn(counts: np.ndarray, folds: int, seed: int) -> np.ndarray:
    labels = np.concatenate([np.repeat(np.arange(len(row)), row) for row in counts])
    groups = np.repeat(np.arange(len(counts)), counts.sum(1))
    parts = np.empty(len(counts), np.int64)
    splitter = selection.StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes smaller than the folds are many
        for fold, (_, test) in enumerate(splitter.split(labels, labels, groups)):
            parts[groups[test]] = fold
    return parts


def test_shares_are_truer_than_by_greed_alone() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = [], []
    for seed in range(20):
        counts, folds = drawn_counts(rng), int(rng.choice([2, 3, 5]))
        shares = [1 / folds] * folds
        parts = part_groups(counts, shares, [rng.permutation(len(counts)) for _ in range(8)])
        assert parts is not None
        ours.append(cost(counts, parts, shares))
        theirs.append(cost(counts, by_scikit_learn(counts, folds, seed), shares))
    assert np.mean(ours) < np.mean(theirs)


def test_no_move_would_make_shares_truer() -> None:
    rng = np.random.default_rng(1)
    counts, shares = drawn_counts(rng), [0.2, 0.3, 0.5]
    parts = part_groups(counts, shares, [np.arange(len(counts))])
    assert parts is not None
    least = cost(counts, parts, shares)
    for group in range(len(counts)):
        for part in range(3):
            moved = parts.copy()
            moved[group] = part
            if all(counts[moved == each].sum(0).min() > 0 for each in range(3)):
                assert cost(counts, moved, shares) > least - 1e-8


def test_equal_groups_are_parted_exactly() -> None:
    counts = np.tile(np.array([[2, 1]]), (20, 1))
    parts = part_groups(counts, [0.25, 0.75], [np.arange(20)])
    assert parts is not None
    assert np.bincount(parts).tolist() == [5, 15]
    assert cost(counts, parts, [0.25, 0.75]) == pytest.approx(0)


def test_every_part_has_every_class_if_that_can_be() -> None:
    # The rare class is in the two largest groups: by shares alone both would train.
    counts = np.array([[30, 1], [28, 1], *[[1, 0]] * 10])
    parts = part_groups(counts, [0.2, 0.8], [np.arange(12)])
    assert parts is not None
    assert parts[0] != parts[1]


def test_there_may_be_no_way() -> None:
    # Each class is in two groups, but these are three pairs of three groups.
    counts = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]])
    assert part_groups(counts, [0.5, 0.5], [np.arange(3), np.arange(3)[::-1]]) is None
