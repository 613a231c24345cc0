"""Numbers and labels of samples: their strata, what is refused, and how they are kept."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from bench.data import Splits, make_fold_splits, make_splits
from bench.data.targets import LEAST, Targets, multi_label_targets, regression_targets
from bench.errors import DataError


def _numbers(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).exponential(10, (count, 1)).astype(np.float32)


def _labels(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    draw = np.random.default_rng(seed).random((count, 3))
    return (draw < [0.5, 0.2, 0.04]).astype(np.float32)


@pytest.mark.parametrize(("count", "bins"), [(200, 5), (49, 4), (19, 1), (2, 1)])
def test_numbers_are_in_bins_of_equally_many_by_rank(count: int, bins: int) -> None:
    values = _numbers(count)
    strata, targets = regression_targets(values, ["age"])
    sizes = np.bincount(strata)
    assert len(sizes) == len(targets.strata) == bins
    assert sizes.max() - sizes.min() <= 1
    ordered = strata[np.argsort(values[:, 0])]
    assert (np.diff(ordered) >= 0).all()
    assert targets.strata[0].startswith("age from ")


def test_equal_numbers_are_in_one_bin() -> None:
    values = np.repeat(np.array([[1], [2]], np.float32), [70, 30], axis=0)
    strata, targets = regression_targets(values, ["n"])
    assert len(targets.strata) == len(np.unique(strata)) == 2
    assert len(np.unique(strata[:70])) == 1


def test_several_targets_are_ranked_together() -> None:
    values = np.concatenate([_numbers(100, 0), -_numbers(100, 1)], axis=1)
    strata, targets = regression_targets(values, ["x", "y"])
    assert np.bincount(strata).min() >= LEAST
    assert targets.strata[0] == "rank 1 of 5"


@pytest.mark.parametrize("seed", range(5))
def test_every_stratum_of_labels_has_enough_samples(seed: int) -> None:
    values = _labels(300, seed)
    strata, targets = multi_label_targets(values, ["a", "b", "c"])
    sizes = np.bincount(strata, minlength=len(targets.strata))
    assert sizes.min() >= LEAST
    assert len(targets.strata) > 2
    # What is frequent is a stratum of its own.
    alone = (values == [1, 0, 0]).all(axis=1)
    assert len(np.unique(strata[alone])) == 1


def test_few_samples_with_labels_have_a_stratum_too() -> None:
    values = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    strata, targets = multi_label_targets(values, ["a", "b"])
    assert strata.max() < len(targets.strata)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([[3.5]], "there is nothing to predict"),
        ([[2], [2], [2]], "is 2 for all 3 samples"),
    ],
)
def test_a_target_that_is_constant_is_refused(values: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        regression_targets(np.array(values, np.float32), ["age"])


@pytest.mark.parametrize(("column", "said"), [(0.0, "none of the"), (1.0, "all of the")])
def test_a_label_without_contrast_is_refused(column: float, said: str) -> None:
    values = np.stack([np.arange(6) % 2, np.full(6, column)], axis=1).astype(np.float32)
    with pytest.raises(DataError, match=f"{said}.*'b'"):
        multi_label_targets(values, ["a", "b"])


@pytest.mark.parametrize("task", ["regression", "multi_label"])
def test_targets_come_back_from_metadata_bit_by_bit(task: str) -> None:
    values = _numbers(30) if task == "regression" else _labels(300)
    names = ["age"] if task == "regression" else ["a", "b", "c"]
    make = regression_targets if task == "regression" else multi_label_targets
    _, targets = make(values, names)
    again = Targets.from_plain(json.loads(json.dumps(targets.plain())), len(names))
    assert again.task == task
    assert again.strata == targets.strata
    assert np.array_equal(again.values, targets.values)
    assert again.values.dtype == np.float32


def test_what_a_sample_has_reads_in_words() -> None:
    values = np.array([[1, 0, 1], [0, 0, 0]], np.float32)
    labels = Targets(task="multi_label", values=values, strata=())
    assert [labels.text(i, ["a", "b", "c"]) for i in range(2)] == ["a, c", "no label"]
    numbers = Targets(task="regression", values=values[:, :1] / 3, strata=())
    assert numbers.text(0, ["age"]) == "age 0.33333"


# Splits ---------------------------------------------------------------------------------------

DRAW: dict[str, Any] = {"val_fraction": 0.2, "test_fraction": 0.2, "split_seed": 0, "shots": None}


def _splits(labels: Any, strata: tuple[str, ...], **changes: Any) -> Splits:
    unassigned = np.full(len(labels), -1, np.int8)
    given = {**DRAW, **changes}
    return make_splits(labels, unassigned, strata, seed=0, all_classes=False, **given)


def test_splits_have_equal_shares_of_the_strata() -> None:
    labels, targets = regression_targets(_numbers(200), ["age"])
    splits = _splits(labels, targets.strata)
    for part in (splits.val, splits.test):
        counts = np.bincount(labels[part], minlength=5)
        assert counts.max() - counts.min() <= 1


def test_a_stratum_may_be_missing_where_a_class_may_not() -> None:
    labels = np.array([0] * 12 + [1], np.int64)
    splits = _splits(labels, ("a", "b"))
    assert len(splits.val)
    assert len(splits.test)
    assert 12 in splits.train
    with pytest.raises(DataError, match="'b'"):
        make_splits(labels, np.full(13, -1, np.int8), ("a", "b"), seed=0, **DRAW)


def test_one_sample_cannot_be_split() -> None:
    with pytest.raises(DataError, match="too few to draw"):
        _splits(np.zeros(1, np.int64), ("a",))


def test_strata_that_groups_do_not_allow_have_no_say() -> None:
    labels = np.array([0, 0, 1, 1, 0, 0, 0, 0], np.int64)
    groups = tuple("aabbccdd")
    splits = _splits(labels, ("low", "high"), groups=groups)
    sides = [{groups[i] for i in part} for part in splits.named().values()]
    assert all(sides)
    assert sum(map(len, sides)) == 4


@pytest.mark.parametrize("groups", [None, tuple("aabbccddee" * 2)])
def test_folds_test_every_sample_once(groups: Any) -> None:
    labels = np.array([0] * 17 + [1] * 3, np.int64)
    tested = [
        make_fold_splits(
            labels, ("a", "b"), seed=0, folds=4, fold=fold, val_fraction=0.2, shots=None,
            groups=groups, all_classes=False,
        ).test
        for fold in range(4)
    ]  # fmt: skip
    assert sorted(np.concatenate(tested).tolist()) == list(range(20))
