"""Splits: disjoint, complete, stratified, and drawn from their key alone."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bench.data import (
    TEST,
    TRAIN,
    UNASSIGNED,
    VAL,
    Splits,
    class_counts,
    groups_on_both_sides,
    make_fold_splits,
    make_splits,
    make_time_splits,
)
from bench.errors import DataError

CLASSES = ("ants", "bees", "wasps")


def split(labels: list[int], dataset: list[int] | None = None, **changed: Any) -> Splits:
    options = {
        "seed": 0, "val_fraction": 0.2, "test_fraction": 0.2, "split_seed": 0, "shots": None,
    }  # fmt: skip
    return make_splits(
        np.array(labels, np.int64),
        np.array(dataset if dataset is not None else [UNASSIGNED] * len(labels), np.int8),
        CLASSES[: max(labels) + 1],
        **{**options, **changed},
    )


def same(left: Splits, right: Splits) -> bool:
    return all(
        np.array_equal(left.named()[name], right.named()[name]) for name in ("train", "val", "test")
    )


labellings = st.lists(st.integers(3, 40), min_size=2, max_size=3).flatmap(
    lambda counts: st.permutations([c for c, count in enumerate(counts) for _ in range(count)])
)
fractions = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**40)


@given(labellings, fractions, fractions, seeds, seeds)
def test_drawn_splits(
    labels: list[int], val_fraction: float, test_fraction: float, seed: int, split_seed: int
) -> None:
    options = {"val_fraction": val_fraction, "test_fraction": test_fraction}
    sizes = np.bincount(labels)
    assume((sizes - np.maximum(np.rint(sizes * test_fraction), 1) >= 2).all())
    splits = split(labels, seed=seed, split_seed=split_seed, **options)
    together = np.concatenate(list(splits.named().values()))
    assert sorted(together.tolist()) == list(range(len(labels))), "disjoint and complete"
    for indices in splits.named().values():
        assert indices.dtype == np.int64
        assert (np.diff(indices) > 0).all(), "ascending"
    counts = class_counts(np.array(labels), splits, CLASSES[: max(labels) + 1])
    for label, name in enumerate(CLASSES[: max(labels) + 1]):
        test, val, train = (counts[part][name] for part in ("test", "val", "train"))
        assert min(test, val, train) >= 1
        assert abs(test - test_fraction * labels.count(label)) < 1
        assert abs(val - val_fraction * (labels.count(label) - test)) < 1
    assert same(splits, split(labels, seed=seed, split_seed=split_seed, **options)), "repeatable"


@given(labellings, seeds, seeds)
def test_the_test_split_is_the_same_for_every_trial_seed(
    labels: list[int], one: int, other: int
) -> None:
    assert np.array_equal(split(labels, seed=one).test, split(labels, seed=other).test)


def test_seeds_draw_different_splits() -> None:
    labels = [0, 1] * 50
    val = {split(labels, seed=seed).val.tobytes() for seed in range(20)}
    test = {split(labels, split_seed=seed).test.tobytes() for seed in range(20)}
    assert len(val) == len(test) == 20


def test_every_image_is_drawn_about_equally_often() -> None:
    labels = [0, 1] * 10
    drawn = np.concatenate([split(labels, seed=seed, dataset=[TRAIN] * 18 + [TEST] * 2).val
                            for seed in range(500)])  # fmt: skip
    counts = np.bincount(drawn, minlength=20)[:18]
    assert counts.sum() == 500 * 4
    assert (np.abs(counts - 500 * 4 / 18) < 5 * np.sqrt(500 * 0.2)).all()


@given(labellings, st.integers(1, 2), st.integers(0, 3), seeds)
def test_shots_are_stratified_and_nested(
    labels: list[int], shots: int, more: int, seed: int
) -> None:
    everything = split(labels, seed=seed)
    assume(np.bincount(np.array(labels)[everything.train]).min() >= shots + more)
    few = split(labels, seed=seed, shots=shots)
    many = split(labels, seed=seed, shots=shots + more)
    assert set(np.bincount(np.array(labels)[few.train]).tolist()) == {shots}
    assert set(few.train) <= set(many.train) <= set(everything.train)
    assert np.array_equal(few.val, everything.val)
    assert np.array_equal(few.test, everything.test)


def test_own_splits_stay() -> None:
    own = [TRAIN, TRAIN, VAL, VAL, TEST, TEST]
    for seed in range(3):
        splits = split([0, 1] * 3, own, seed=seed, split_seed=seed)
        assert splits.train.tolist() == [0, 1]
        assert splits.val.tolist() == [2, 3]
        assert splits.test.tolist() == [4, 5]


def test_own_test_stays_and_val_is_drawn_from_the_rest() -> None:
    splits = split([0, 1] * 10, [TRAIN] * 10 + [TEST] * 10)
    assert splits.test.tolist() == list(range(10, 20))
    assert sorted([*splits.train, *splits.val]) == list(range(10))
    assert len(splits.val) == 2


def test_val_without_test_is_the_test_split() -> None:
    splits = split([0, 1] * 10, [TRAIN] * 10 + [VAL] * 10)
    assert splits.test.tolist() == list(range(10, 20))
    assert len(splits.val) == 2


def test_adding_a_class_leaves_the_draws_of_the_others() -> None:
    labels = [0] * 20 + [1] * 20
    two, three = split(labels), split([*labels, *[2] * 20])
    for name in ("train", "val", "test"):
        added = three.named()[name]
        assert np.array_equal(two.named()[name], added[added < 40])


def test_global_randomness_is_untouched() -> None:
    np.random.seed(7)
    random.seed(7)
    before = np.random.get_state()[1].tobytes(), random.getstate()
    split([0, 1] * 20, shots=3)
    assert (np.random.get_state()[1].tobytes(), random.getstate()) == before


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        *(("test_fraction", value, r"\(0, 1\)") for value in (0, 1, 1.5, -0.1)),
        *(("val_fraction", value, r"\[0, 1\)") for value in (1, 1.5, -0.1)),
    ],
)
def test_fractions_must_lie_between_0_and_1(name: str, value: float, rule: str) -> None:
    with pytest.raises(DataError, match=rf"{name} must lie in {rule}, got {value}"):
        split([0, 1] * 10, **{name: value})


def test_without_a_val_fraction_all_that_is_left_trains() -> None:
    splits = split([0, 1] * 20, val_fraction=0)
    assert len(splits.val) == 0
    assert sorted([*splits.train, *splits.test]) == list(range(40))
    assert np.array_equal(splits.test, split([0, 1] * 20).test)


# Folds -----------------------------------------------------------------------------------------


def fold_split(labels: list[int], **changes: Any) -> Splits:
    arguments: dict[str, Any] = {
        "seed": 0, "folds": 3, "fold": 0, "val_fraction": 0.2, "shots": None, **changes
    }  # fmt: skip
    classes = ["ants", "bees", "cats"][: max(labels) + 1]
    return make_fold_splits(np.array(labels), classes, **arguments)


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_folds_test_every_image_once(folds: int) -> None:
    labels = [0] * 11 + [1] * 23 + [2] * 17
    for seed in range(3):
        parts = [
            fold_split(labels, folds=folds, fold=fold, seed=seed).test for fold in range(folds)
        ]
        assert sorted(np.concatenate(parts).tolist()) == list(range(51))
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        counts = np.array([np.bincount(np.array(labels)[part], minlength=3) for part in parts])
        assert (counts.max(axis=0) - counts.min(axis=0) <= 1).all()


def test_a_fold_leaves_the_rest_to_train_and_val() -> None:
    splits = fold_split([0, 1] * 15, folds=3, fold=1)
    together = np.concatenate([splits.train, splits.val, splits.test])
    assert sorted(together.tolist()) == list(range(30))
    assert [len(part) for part in splits.named().values()] == [16, 4, 10]
    assert len(fold_split([0, 1] * 15, val_fraction=0).val) == 0


def test_the_seed_draws_the_folds() -> None:
    labels = [0, 1] * 15
    again, other = fold_split(labels, seed=0), fold_split(labels, seed=1)
    assert np.array_equal(fold_split(labels).test, again.test)
    assert not np.array_equal(again.test, other.test)
    # So heads and images of one fold are as many for every seed.
    assert len(again.test) == len(other.test)


def test_folds_need_an_image_of_each_class() -> None:
    with pytest.raises(DataError, match=r"the smallest class, got 5; class 'bees' has 4"):
        fold_split([0] * 20 + [1] * 4, folds=5)
    assert len(fold_split([0] * 20 + [1] * 5, folds=5).test) == 5


def test_shots_of_a_fold() -> None:
    few, more = (fold_split([0, 1] * 15, shots=shots) for shots in (2, 5))
    assert len(few.train) == 4
    assert set(few.train) < set(more.train)
    with pytest.raises(DataError, match=r"shots must not exceed .*, got 9; class 'ants' has 8"):
        fold_split([0, 1] * 15, shots=9)


def test_a_class_with_too_few_images_is_named() -> None:
    with pytest.raises(DataError, match=r"class 'bees' has 1 image left.*test split"):
        split([0] * 10 + [1])
    with pytest.raises(DataError, match=r"class 'bees' has 1 image left.*val split"):
        split([0] * 10 + [1] * 2)


def test_too_many_shots_name_the_class() -> None:
    with pytest.raises(DataError, match=r"got 7; class 'bees' has 6"):
        split([0] * 20 + [1] * 10, shots=7)
    with pytest.raises(DataError, match="shots must be at least 1, got 0"):
        split([0] * 20 + [1] * 10, shots=0)


def test_a_class_that_an_own_split_lacks_is_named() -> None:
    with pytest.raises(DataError, match="class 'bees' has no usable image in the test split"):
        split([0, 0, 0, 1, 1, 1], [TRAIN, TRAIN, TEST, TRAIN, TRAIN, TRAIN])


# Groups ---------------------------------------------------------------------------------------


def grouped(seed: int, groups: int = 40, classes: int = 3) -> tuple[list[int], tuple[str, ...]]:
    """Labels and groups of samples: most groups have one class above all, as patients do."""
    rng = np.random.default_rng(seed)
    labels, names = [], []
    for group in range(groups):
        for _ in range(int(rng.integers(1, 9))):
            labels.append(int(rng.integers(classes)) if rng.random() < 0.3 else group % classes)
            names.append(f"p{group}")
    return labels, tuple(names)


def sides_of(groups: tuple[str, ...], splits: Splits) -> list[set[str]]:
    return [{groups[index] for index in part} for part in splits.named().values()]


@pytest.mark.parametrize("seed", range(4))
def test_no_group_is_on_two_sides_and_classes_have_their_shares(seed: int) -> None:
    labels, groups = grouped(seed)
    splits = split(labels, seed=seed, groups=groups)
    together = np.concatenate(list(splits.named().values()))
    assert sorted(together.tolist()) == list(range(len(labels)))
    assert groups_on_both_sides(groups, splits) == ()
    assert all((np.diff(part) > 0).all() for part in splits.named().values())
    for label in range(3):
        share = np.mean(np.array(labels)[splits.test] == label) * len(splits.test)
        assert share == pytest.approx(0.2 * labels.count(label), abs=3)
    assert same(splits, split(labels, seed=seed, groups=groups)), "repeatable"


def test_seeds_draw_other_validation_groups_and_the_same_test_groups() -> None:
    labels, groups = grouped(0)
    drawn = [split(labels, seed=seed, groups=groups) for seed in range(4)]
    assert len({each.test.tobytes() for each in drawn}) == 1
    assert len({each.val.tobytes() for each in drawn}) == 4
    other = split(labels, split_seed=1, groups=groups)
    assert not np.array_equal(other.test, drawn[0].test)


def test_names_of_groups_do_not_matter_where_they_keep_their_order() -> None:
    labels, groups = grouped(0)
    longer = tuple(f"{int(name[1:]):09}" for name in groups)
    shorter = tuple(f"{int(name[1:]):02}" for name in groups)
    assert same(split(labels, groups=longer), split(labels, groups=shorter))


def test_given_splits_stay_and_what_they_part_is_found() -> None:
    labels, groups = grouped(0)
    given_splits = [TEST if index % 5 == 0 else TRAIN for index in range(len(labels))]
    splits = split(labels, given_splits, groups=groups)
    assert np.array_equal(splits.test, np.flatnonzero(np.array(given_splits) == TEST))
    train, val, test = sides_of(groups, splits)
    assert not train & val
    assert set(groups_on_both_sides(groups, splits)) == (train | val) & test
    assert groups_on_both_sides(None, splits) == ()


@pytest.mark.parametrize("folds", [2, 5])
def test_folds_keep_groups_whole(folds: int) -> None:
    labels, groups = grouped(1)
    options: Any = {"seed": 3, "folds": folds, "val_fraction": 0.2, "shots": None}
    every = [
        make_fold_splits(np.array(labels), CLASSES, fold=fold, groups=groups, **options)
        for fold in range(folds)
    ]
    tested = np.concatenate([each.test for each in every])
    assert sorted(tested.tolist()) == list(range(len(labels)))
    assert all(groups_on_both_sides(groups, each) == () for each in every)
    sizes = [len(each.test) for each in every]
    assert max(sizes) - min(sizes) <= 8, "at most as many as the largest group has"


def test_a_class_in_too_few_groups_is_refused() -> None:
    labels, groups = [0, 0, 1, 1, 0, 1], ("a", "b", "c", "c", "d", "c")
    with pytest.raises(DataError, match=r"class 'bees' is in 1 group left, too few .* \(test\)"):
        split(labels, groups=groups)
    with pytest.raises(DataError, match="no way was found"):
        split([0, 1, 0, 2, 1, 2], groups=("a", "a", "b", "b", "c", "c"))


# Times ----------------------------------------------------------------------------------------


def by_time(times: list[int], labels: list[int] | None = None, **changed: Any) -> Splits:
    labels = labels or [index % 2 for index in range(len(times))]
    options = {"at": 80, "seed": 0, "val_fraction": 0.25, "shots": None, **changed}
    given = np.array(options.pop("given", [UNASSIGNED] * len(times)), np.int8)
    return make_time_splits(
        np.array(labels, np.int64), given, CLASSES[:2], np.array(times, np.int64), **options
    )


def test_the_latest_test_and_the_last_before_them_validate() -> None:
    splits = by_time(list(range(100)))
    assert splits.test.tolist() == list(range(80, 100))
    assert splits.val.tolist() == list(range(60, 80))
    assert splits.train.tolist() == list(range(60))
    assert same(splits, by_time(list(range(100)), seed=7)), "the same for every seed"
    backwards = by_time(list(range(100))[::-1])
    assert backwards.test.tolist() == list(range(20))
    assert len(by_time(list(range(100)), shots=3).train) == 6
    assert not by_time(list(range(100)), val_fraction=0).val.size


def test_images_of_one_time_stay_together() -> None:
    splits = by_time([10] * 30 + [20] * 26 + [30] * 14 + [80] * 10)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (56, 14, 10)


@pytest.mark.parametrize(
    ("times", "changed", "message"),
    [
        (list(range(70)), {}, "needs images before 1970-01-01 00:00:00.000080 and"),
        (list(range(80, 100)), {}, "are from 1970-01-01 00:00:00.000080 to"),
        ([5] * 10 + [90] * 10, {}, "all images before the test split are of the same time"),
        (list(range(100)), {"given": [TRAIN, TEST] * 50}, "has its own test split"),
        (list(range(100)), {"given": [TRAIN, VAL] * 50}, "has its own val split"),
        (list(range(100)), {"labels": [0] * 85 + [1] * 15}, "'bees' has no usable image in the t"),
    ],
)
def test_times_that_give_no_splits(times: list[int], changed: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        by_time(times, **changed)


# Without labels -------------------------------------------------------------------------------


def test_a_share_of_what_would_train_gives_up_its_labels() -> None:
    labels, plain = [0, 1, 1] * 20, split([0, 1, 1] * 20)
    drawn = {share: split(labels, unlabelled_fraction=share) for share in (0.25, 0.5, 0.75)}
    for share, own in drawn.items():
        assert np.array_equal(own.test, plain.test)
        assert np.array_equal(own.val, plain.val)
        assert sorted([*own.train, *own.unlabelled]) == plain.train.tolist()
        counts = [np.bincount(np.array(labels)[part]) for part in (own.unlabelled, plain.train)]
        assert np.abs(counts[0] - share * counts[1]).max() < 1
    assert set(drawn[0.25].unlabelled) < set(drawn[0.5].unlabelled) < set(drawn[0.75].unlabelled)
    other = split(labels, unlabelled_fraction=0.5, seed=1)
    assert not np.array_equal(other.unlabelled, drawn[0.5].unlabelled)
    few = split(labels, unlabelled_fraction=0.5, shots=2)
    assert np.array_equal(few.unlabelled, drawn[0.5].unlabelled)
    assert set(few.train) < set(drawn[0.5].train)


def test_a_share_without_labels_parts_no_group_and_leaves_every_class_some() -> None:
    labels, groups = grouped(0)
    own = split(labels, unlabelled_fraction=0.5, groups=groups)
    assert not {groups[i] for i in own.unlabelled} & {groups[i] for i in own.train}
    folds = make_fold_splits(
        np.array(labels), CLASSES, seed=0, folds=2, fold=0, val_fraction=0.2, shots=None,
        unlabelled_fraction=0.5, groups=groups,
    )  # fmt: skip
    assert folds.unlabelled.size
    everything = np.concatenate([*folds.named().values(), folds.unlabelled])
    assert sorted(everything) == list(range(len(labels)))
    with pytest.raises(DataError, match="too few to draw an unlabelled share from them"):
        split([0] * 9 + [1] * 3, unlabelled_fraction=0.9)
