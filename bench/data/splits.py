"""Splits: which image trains, which chooses, which is read once at the end."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from bench.data.dataset import SPLIT_NAMES, TEST, UNLABELLED, VAL, Groups, Times
from bench.data.group_parts import part_groups
from bench.data.times import as_text
from bench.errors import DataError, counted

Samples = npt.NDArray[np.int64]

ANY = "any"
"""Stands for all strata where they have no say."""
PURPOSES = {**SPLIT_NAMES, UNLABELLED: "unlabelled"}
"""What draws are keyed by, by what is drawn."""
DRAWS = 8
"""How many orders of groups are tried until every part has every class."""


@dataclass(frozen=True, eq=False)
class Splits:
    """The images of each split by their index, ascending; no image is in two of them.

    `val` is empty where no validation split was asked for. `unlabelled` are those without labels
    that some plans look at while they train: of target data, whose labels nobody knows, or drawn
    from what would train, whose labels nobody looks at. They are of no split.
    """

    train: Samples
    val: Samples
    test: Samples
    unlabelled: Samples = field(default_factory=lambda: np.zeros(0, np.int64))

    def named(self) -> dict[str, Samples]:
        """The three splits by name, in the order train, val, test."""
        return {"train": self.train, "val": self.val, "test": self.test}


def make_splits(
    labels: npt.NDArray[np.int64],
    given_splits: npt.NDArray[np.int8],
    classes: Sequence[str],
    *,
    seed: int,
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
    shots: int | None,
    unlabelled_fraction: float | None = None,
    groups: Groups | None = None,
    all_classes: bool = True,
) -> Splits:
    """The splits of a trial with the given `seed`.

    The data set's own test and val splits stay as they are, except that a val split without a test
    split is the test split. What the data set lacks is drawn from the rest: first the test split
    (`test_fraction` of it, by `split_seed`, so that all trials share it), then the val split
    (`val_fraction` of what remains, by `seed`). Of what is left to train, `unlabelled_fraction` is
    without labels, by `seed`; without groups the images of a smaller share are among those of a
    larger one. `shots` keeps that many training images per class, by `seed`; the images of fewer
    shots are among those of more.

    Draws are stratified: each class gives its fraction to within less than one image, but at least
    one image and not all. With `groups`, no draw parts a group: classes give their fraction as far
    as groups allow. A `val_fraction` of 0 draws no validation split: `val` is empty. Raises
    `DataError` where a class has too few images, or groups, for that; unless `all_classes` need to
    be in each split, as strata need not.
    """
    _check_fraction(val_fraction)
    if not 0 < test_fraction < 1:
        raise DataError(f"test_fraction must lie in (0, 1), got {test_fraction}")
    own = _with_test(given_splits)
    unlabelled = np.flatnonzero(own == UNLABELLED)
    test, rest = np.flatnonzero(own == TEST), np.flatnonzero((own != TEST) & (own != UNLABELLED))
    if not test.size:
        test, rest = _draw(
            rest,
            labels,
            classes,
            groups,
            fraction=test_fraction,
            split=TEST,
            seed=split_seed,
            all_classes=all_classes,
        )
    val, train = rest[own[rest] == VAL], rest[own[rest] != VAL]
    if not val.size:
        val, train = _draw(
            train,
            labels,
            classes,
            groups,
            fraction=val_fraction,
            split=VAL,
            seed=seed,
            all_classes=all_classes,
        )
    drawn, train = _draw(
        train, labels, classes, groups, fraction=unlabelled_fraction, split=UNLABELLED, seed=seed,
        all_classes=all_classes,
    )  # fmt: skip
    splits = Splits(train, val, test, np.union1d(unlabelled, drawn))
    return _checked(splits, labels, classes, shots=shots, seed=seed, all_classes=all_classes)


def make_time_splits(
    labels: npt.NDArray[np.int64],
    given_splits: npt.NDArray[np.int8],
    classes: Sequence[str],
    times: Times,
    *,
    at: int,
    seed: int,
    val_fraction: float,
    shots: int | None,
    unlabelled_fraction: float | None = None,
    all_classes: bool = True,
) -> Splits:
    """The splits of a trial that is tested on what is `at` this time or later.

    The validation split is what comes last before it: about `val_fraction` of it, as images of the
    same time stay together; it is the same for every seed. Raises `DataError` where the data set
    has a val or test split of its own, where there is nothing on one of the sides, and where a
    class is missing in a split, if `all_classes` must be in each.
    """
    _check_fraction(val_fraction)
    own = [name for split, name in SPLIT_NAMES.items()
           if split in (VAL, TEST) and np.any(given_splits == split)]  # fmt: skip
    if own:
        raise DataError(
            f"split: {{by: time}} draws the splits, but the data set has its own "
            f"{' and '.join(own)} split; leave one of the two out"
        )
    test, rest = np.flatnonzero(times >= at), np.flatnonzero(times < at)
    if not test.size or not rest.size:
        first, last = as_text(int(times.min())), as_text(int(times.max()))
        raise DataError(
            f"split: {{by: time}} needs images before {as_text(at)} and images from then on; those "
            f"of the data set are from {first} to {last}"
        )
    start = _start_of_val(times[rest], val_fraction)
    val, train = rest[times[rest] >= start], rest[times[rest] < start]
    unlabelled, train = _draw(
        train, labels, classes, None, fraction=unlabelled_fraction, split=UNLABELLED, seed=seed,
        all_classes=all_classes,
    )  # fmt: skip
    splits = Splits(train, val, test, unlabelled)
    return _checked(splits, labels, classes, shots=shots, seed=seed, all_classes=all_classes)


def _checked(
    splits: Splits,
    labels: npt.NDArray[np.int64],
    classes: Sequence[str],
    *,
    shots: int | None,
    seed: int,
    all_classes: bool,
) -> Splits:
    """These splits, with so many `shots` to train on, if every class is in each of them."""
    if shots is not None:
        few = _few(splits.train, labels, classes, shots=shots, seed=seed)
        splits = replace(splits, train=few)
    if all_classes:
        _check_classes(splits, labels, classes)
    return splits


def _start_of_val(times: Times, fraction: float) -> int:
    """From when on images validate: of all moments the one that comes closest to the fraction."""
    moments, counts = np.unique(times, return_counts=True)
    if fraction == 0:
        return int(moments[-1]) + 1
    if len(moments) < 2:
        raise DataError(
            f"all images before the test split are of the same time, {as_text(int(moments[0]))}, "
            "so that none of them come last and can validate; `val_fraction: 0` draws none"
        )
    later = np.cumsum(counts[::-1])[::-1][1:]
    return int(moments[1:][np.argmin(np.abs(later - fraction * len(times)))])


def make_fold_splits(
    labels: npt.NDArray[np.int64],
    classes: Sequence[str],
    *,
    seed: int,
    folds: int,
    fold: int,
    val_fraction: float,
    shots: int | None,
    unlabelled_fraction: float | None = None,
    groups: Groups | None = None,
    all_classes: bool = True,
) -> Splits:
    """The splits of a trial that is tested on `fold` (from 0) of `folds`.

    `seed` parts all images into folds, whatever splits the data set has: over the folds of a seed
    every image is tested once. Validation split, what has no labels and `shots` are drawn from the
    other folds as `make_splits` draws them. The parts are stratified: the folds differ by at most
    one image in each class, and in all; with `groups`, which no fold parts, as little as groups
    allow. Raises `DataError` where a class has too few images, or groups, if `all_classes` must be
    in each fold.
    """
    _check_fraction(val_fraction)
    assert 0 <= fold < folds
    found = _fold_of_each(labels, classes, groups, folds=folds, seed=seed, all_classes=all_classes)
    test = np.flatnonzero(found == fold)
    rest = np.setdiff1d(np.arange(len(labels)), test)
    val, train = _draw(
        rest,
        labels,
        classes,
        groups,
        fraction=val_fraction,
        split=VAL,
        seed=seed,
        all_classes=all_classes,
    )
    unlabelled, train = _draw(
        train, labels, classes, groups, fraction=unlabelled_fraction, split=UNLABELLED, seed=seed,
        all_classes=all_classes,
    )  # fmt: skip
    splits = Splits(train, val, test, unlabelled)
    return _checked(splits, labels, classes, shots=shots, seed=seed, all_classes=all_classes)


def _fold_of_each(
    labels: npt.NDArray[np.int64],
    classes: Sequence[str],
    groups: Groups | None,
    *,
    folds: int,
    seed: int,
    all_classes: bool,
) -> npt.NDArray[np.int64]:
    """The fold of every image, drawn by `seed`.

    The images of a class are dealt out in turn. The next class goes on with the fold after the
    last one, so that the larger parts of all classes do not come together in the first folds.
    """
    counts = np.bincount(labels, minlength=len(classes))
    if not all_classes and folds > len(labels):
        images = counted(len(labels), "image")
        raise DataError(f"folds must not exceed the {images} of the data set, got {folds}")
    if all_classes and folds > counts.min():
        least = int(counts.argmin())
        raise DataError(
            f"folds must not exceed the images of the smallest class, got {folds}; class "
            f"{classes[least]!r} has {counts[least]}"
        )
    if groups is not None:
        everything, shares = np.arange(len(labels)), [1 / folds] * folds
        return _parts(everything, labels, classes, groups, shares, "folds", seed, all_classes)
    found = np.empty(len(labels), np.int64)
    dealt = 0
    for label, name in enumerate(classes):
        members = _shuffled(np.flatnonzero(labels == label), "folds", seed, name)
        found[members] = (dealt + np.arange(len(members))) % folds
        dealt += len(members)
    return found


def _check_fraction(val_fraction: float) -> None:
    if not 0 <= val_fraction < 1:
        raise DataError(f"val_fraction must lie in [0, 1), got {val_fraction}")


def class_counts(
    labels: npt.NDArray[np.int64], splits: Splits, classes: Sequence[str]
) -> dict[str, dict[str, int]]:
    """How many images each class has in each split: {split: {class: count}}."""
    return {
        split: dict(
            zip(classes, np.bincount(labels[index], minlength=len(classes)).tolist(), strict=True)
        )
        for split, index in splits.named().items()
    }


def _with_test(given_splits: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    if np.any(given_splits == TEST):
        return given_splits
    return np.where(given_splits == VAL, np.int8(TEST), given_splits)


def _draw(
    pool: Samples,
    labels: npt.NDArray[np.int64],
    classes: Sequence[str],
    groups: Groups | None,
    *,
    fraction: float | None,
    split: int,
    seed: int,
    all_classes: bool,
) -> tuple[Samples, Samples]:
    """`fraction` of each class of `pool`, and what remains; of None or 0 there is nothing."""
    if not fraction:
        return pool[:0], pool
    if groups is not None:
        shares, purpose = [fraction, 1 - fraction], PURPOSES[split]
        part = _parts(pool, labels, classes, groups, shares, purpose, seed, all_classes)
        return pool[part == 0], pool[part == 1]
    drawn = np.zeros(len(labels), bool)
    for label, name in enumerate(classes):
        members = pool[labels[pool] == label]
        if len(members) < 2 and not all_classes:
            continue
        if len(members) < 2:
            what = "an unlabelled share" if split == UNLABELLED else f"a {PURPOSES[split]} split"
            raise DataError(
                f"class {name!r} has {counted(len(members), 'image')} left, too few to draw "
                f"{what} from them and keep some to train on"
            )
        count = int(np.clip(round(fraction * len(members)), 1, len(members) - 1))
        drawn[_shuffled(members, PURPOSES[split], seed, name)[:count]] = True
    if not drawn.any():
        whole, any_class = np.zeros_like(labels), (ANY,)
        return _draw(
            pool, whole, any_class, None, fraction=fraction, split=split, seed=seed,
            all_classes=True,
        )  # fmt: skip
    return pool[drawn[pool]], pool[~drawn[pool]]


def _parts(
    pool: Samples,
    labels: npt.NDArray[np.int64],
    classes: Sequence[str],
    groups: Groups,
    shares: Sequence[float],
    purpose: str,
    seed: int,
    all_classes: bool,
) -> npt.NDArray[np.int64]:
    """The part of each sample of `pool`, where no group is in two of them.

    Where classes need not be in all parts, and cannot, they have no say.
    """
    if not all_classes:
        try:
            return _parts(pool, labels, classes, groups, shares, purpose, seed, True)
        except DataError:
            labels, classes = np.zeros_like(labels), (ANY,)
    names, group = np.unique([groups[index] for index in pool], return_inverse=True)
    counts = np.zeros((len(names), len(classes)), np.int64)
    np.add.at(counts, (group, labels[pool]), 1)
    least = int((counts > 0).sum(0).argmin())
    number = int((counts[:, least] > 0).sum())
    why = (
        f"to put groups whole into {counted(len(shares), 'part')} ({purpose}) that have each of it"
    )
    if number < len(shares):
        raise DataError(
            f"class {classes[least]!r} is in {counted(number, 'group')} left, too few {why}"
        )
    orders = (
        _shuffled(np.arange(len(names)), f"groups of {purpose}", seed, str(draw))
        for draw in range(DRAWS)
    )
    found = part_groups(counts, shares, orders)
    if found is None:
        raise DataError(
            f"no way was found {why}: class {classes[least]!r} is in {counted(number, 'group')} "
            "only, which other classes are in too; use fewer folds, or merge or split groups"
        )
    part: npt.NDArray[np.int64] = found[group]
    return part


def _few(
    train: Samples,
    labels: npt.NDArray[np.int64],
    classes: Sequence[str],
    *,
    shots: int,
    seed: int,
) -> Samples:
    if shots < 1:
        raise DataError(f"shots must be at least 1, got {shots}")
    kept = []
    for label, name in enumerate(classes):
        members = train[labels[train] == label]
        if len(members) < shots:
            raise DataError(
                f"shots must not exceed the training images of any class, got {shots}; "
                f"class {name!r} has {len(members)}"
            )
        kept.append(_shuffled(members, "shots", seed, name)[:shots])
    return np.sort(np.concatenate(kept))


def _shuffled(members: Samples, purpose: str, seed: int, class_name: str) -> Samples:
    """`members` in an order fixed by the key alone, whatever else is drawn."""
    key = hashlib.sha256(f"{purpose}\0{seed}\0{class_name}".encode()).digest()[:16]
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
    return generator.permutation(members)


def _check_classes(splits: Splits, labels: npt.NDArray[np.int64], classes: Sequence[str]) -> None:
    for split, counts in class_counts(labels, splits, classes).items():
        if split == "val" and not splits.val.size:
            continue  # none was asked for
        for name, count in counts.items():
            if count == 0:
                raise DataError(f"class {name!r} has no usable image in the {split} split")


def groups_on_both_sides(groups: Groups | None, splits: Splits) -> tuple[str, ...]:
    """The groups that have samples in several of the splits, sorted."""
    if groups is None:
        return ()
    sides = [{groups[index] for index in part} for part in splits.named().values()]
    train, val, test = sides
    return tuple(sorted((train & val) | (train & test) | (val & test)))


def samples_digest(samples: npt.NDArray[np.int64]) -> str:
    """A hash of which samples these are, in their order."""
    return hashlib.sha256(samples.astype(np.int64).tobytes()).hexdigest()
