"""What is said of copies: of equal or nearly equal samples, on both sides of a split or under
different labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bench.data.dataset import (
    MAX_KEPT,
    SPLIT_NAMES,
    TRAIN,
    UNLABELLED,
    DataIssue,
    Labelled,
    TestSets,
    label_text,
    target_task_of,
)
from bench.data.splits import Samples, Splits
from bench.errors import counted
from bench.system.cache import atomic_file

MAX_COPIES = 50
"""Near copies of a sample are paired with so many of its exact copies at most."""
NAMED_PAIRS = 5

Pairs = npt.NDArray[np.int64]
"""[m, 2]: indices of two samples, the smaller one first."""


class Compared(Labelled, Protocol):
    """Samples among which copies were looked for."""

    @property
    def sample_ids(self) -> tuple[str, ...]: ...

    @property
    def test_sets(self) -> TestSets | None: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Copies:
    """For each sample the first one that equals it (`original`); `near` pairs of such first ones.

    `all_found` says that no near pairs are left out for their number; `noun` is what a message
    calls a sample.
    """

    original: Samples
    near: Pairs
    noun: str
    all_found: bool = True


def copies_told(data: Compared, copies: Copies, splits: Sequence[Splits]) -> list[DataIssue]:
    """Pairs of copies that some of the `splits` put on different sides.

    Where there are several test sets, it says of each how many of its pairs there are. Also tells
    of equal samples with different labels (kind "label-conflict"), and of nearly equal ones
    ("label-conflict-near"), wherever they lie; not of those that are without labels in all splits.
    """
    pairs = _with_copies(copies.original, copies.near)
    assigned = np.stack([_assignment(each, len(data)) for each in splits])
    labelled = np.ones(len(data), bool)
    labelled[reduce(np.intersect1d, [each.unlabelled for each in splits])] = False
    return [
        *_by_set(data, copies, pairs, assigned),
        *_conflict_issue(data, copies, labelled),
        *_near_conflict_issue(data, copies, pairs[labelled[pairs].all(axis=1)]),
    ]


def kept_copies(path: Path, count: int) -> tuple[Samples, Pairs] | None:
    """What `keep_copies` wrote of so many samples; None where it is absent or damaged."""
    try:
        with path.open("rb") as file, np.load(file) as stored:
            original, near = stored["original"], stored["near"]
    except Exception:  # absent or damaged: of such files NumPy raises almost anything
        return None
    fits = original.shape == (count,) and near.ndim == 2 and near.shape[1] == 2
    return (original, near) if fits else None


def keep_copies(path: Path, original: Samples, near: Pairs) -> None:
    """Keep what was found beside the prepared samples; where it cannot be, the next run looks."""
    with suppress(OSError), atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, original=original, near=near)


def _by_set(
    data: Compared,
    copies: Copies,
    pairs: Pairs,
    assigned: npt.NDArray[np.int8],
) -> Iterator[DataIssue]:
    """What crosses a split; of several test sets with how much of it each has beside training."""

    def crossing(assigned: npt.NDArray[np.int8]) -> Iterator[DataIssue]:
        yield from _exact_issue(data, copies, assigned)
        yield from _near_issue(data, copies, pairs, assigned)

    issues = list(crossing(assigned))
    counts: dict[str, dict[str, int]] = {}
    if issues and data.test_sets is not None:
        sets = np.array(data.test_sets, dtype=object)
        for name in sorted({each for each in data.test_sets if each}):
            train, own = (assigned >= 0) & (assigned != 2), (assigned == 2) & (sets == name)
            for issue in crossing(np.where(own, 2, np.where(train, 0, -1)).astype(np.int8)):
                counts.setdefault(issue.kind, {})[name] = issue.count
    for issue in issues:
        own_counts = counts.get(issue.kind, {})
        told = ", ".join(f"{name} {count:,}" for name, count in own_counts.items())
        more = (
            f" Of these between test sets and what is trained or chosen by: {told}." if told else ""
        )
        yield replace(issue, message=f"{issue.message}{more}")


def _assignment(splits: Splits, count: int) -> npt.NDArray[np.int8]:
    """Which split each sample is in (0, 1, 2 for train, val, test), -1 for none.

    UNLABELLED for what some trainings look at without its labels.
    """
    assigned = np.full(count, -1, np.int8)
    for code, indices in enumerate(splits.named().values()):
        assigned[indices] = code
    assigned[splits.unlabelled] = UNLABELLED
    return assigned


def _crosses(a: npt.NDArray[np.int8], b: npt.NDArray[np.int8]) -> npt.NDArray[np.bool_]:
    """Whether any trial (first axis) has both in use and on different sides.

    What trains is on one side with what is without labels.
    """
    a, b = (np.where(own == UNLABELLED, TRAIN, own) for own in (a, b))
    crosses: npt.NDArray[np.bool_] = ((a != b) & (a >= 0) & (b >= 0)).any(axis=0)
    return crosses


def _groups(original: Samples) -> list[Samples]:
    """The indices of each set of equal samples, of two at least."""
    order = np.argsort(original, kind="stable")
    bounds = np.flatnonzero(np.diff(original[order])) + 1
    return [group for group in np.split(order, bounds) if len(group) > 1]


def _exact_issue(
    data: Compared, copies: Copies, assigned: npt.NDArray[np.int8]
) -> Iterator[DataIssue]:
    count, examples = 0, []
    for group in _groups(copies.original):
        kinds, kind_of, sizes = np.unique(
            assigned[:, group], axis=1, return_inverse=True, return_counts=True
        )
        crosses = _crosses(kinds[:, :, None], kinds[:, None, :])
        count += int(sizes @ crosses @ sizes) // 2
        some = np.concatenate(
            [group[kind_of.reshape(-1) == k][:NAMED_PAIRS] for k in range(len(sizes))]
        )
        among = assigned[:, np.sort(some)]
        pairs = np.argwhere(np.triu(_crosses(among[:, :, None], among[:, None, :])))
        examples += list(np.sort(some)[pairs])
    if count:
        what = f"{counted(count, 'pair')} of identical {copies.noun}s"
        yield _pair_issue(data, "leakage-exact", what, count, examples, assigned)


def _with_copies(original: Samples, near: Pairs) -> Pairs:
    """The near pairs of all samples, where `near` has those of the first of equal ones."""
    copies = {int(group[0]): group[:MAX_COPIES] for group in _groups(original)}
    return np.array(
        [
            (i, j)
            for left, right in near.tolist()
            for i in copies.get(left, (left,))
            for j in copies.get(right, (right,))
        ],
        np.int64,
    ).reshape(-1, 2)


def _near_issue(
    data: Compared, copies: Copies, pairs: Pairs, assigned: npt.NDArray[np.int8]
) -> Iterator[DataIssue]:
    pairs = pairs[_crosses(assigned[:, pairs[:, 0]], assigned[:, pairs[:, 1]])]
    if len(pairs):
        at_least = "" if copies.all_found else "At least "
        what = f"{at_least}{counted(len(pairs), 'pair')} of nearly identical {copies.noun}s"
        yield _pair_issue(data, "leakage-near", what, len(pairs), list(pairs), assigned)


def _pair_issue(
    data: Compared,
    kind: str,
    what: str,
    count: int,
    examples: Sequence[Samples],
    assigned: npt.NDArray[np.int8],
) -> DataIssue:
    named = examples[:NAMED_PAIRS]
    shown = ", ".join(_shown_pair(data, pair, assigned) for pair in named)
    return DataIssue(
        kind=kind,
        message=f"{what} on different sides of a split, for example {shown}.",
        count=count,
        samples=tuple(data.sample_ids[index] for pair in named for index in pair),
    )


def _shown_pair(data: Compared, pair: Samples, assigned: npt.NDArray[np.int8]) -> str:
    trial = int(np.argmax([_crosses(*row[pair][:, None, None]) for row in assigned]))
    names = {**SPLIT_NAMES, UNLABELLED: "without labels"}
    left, right = (
        f"{data.sample_ids[index]} ({names[int(assigned[trial, index])]})" for index in pair
    )
    return f"{left} and {right}"


def _conflict_issue(
    data: Compared, copies: Copies, labelled: npt.NDArray[np.bool_]
) -> Iterator[DataIssue]:
    labels = _labels(data)
    groups = (group[labelled[group]] for group in _groups(copies.original))
    conflicts = [group for group in groups if len(np.unique(labels[group])) > 1]
    if not conflicts:
        return
    pairs = []
    for group in conflicts[:MAX_KEPT]:
        _, first = np.unique(labels[group], return_index=True)
        pairs.append(group[first[:2]])
    what = f"{counted(len(conflicts), copies.noun)} under different labels"
    yield _labelled_pairs(data, "label-conflict", what, len(conflicts), pairs)


def _labels(data: Compared) -> npt.NDArray[np.int64]:
    """Equal numbers where the same is said of samples."""
    if data.targets is None:
        return data.labels
    _, found = np.unique(data.targets.values, axis=0, return_inverse=True)
    return found.reshape(-1).astype(np.int64)


def _near_conflict_issue(data: Compared, copies: Copies, pairs: Pairs) -> Iterator[DataIssue]:
    labels = _labels(data)
    conflicts = pairs[labels[pairs[:, 0]] != labels[pairs[:, 1]]]
    if len(conflicts) and target_task_of(data) != "regression":  # where near may differ a little
        pairs_of = f"{counted(len(conflicts), 'pair')} of nearly identical {copies.noun}s"
        kept = list(conflicts[:MAX_KEPT])
        what = f"{pairs_of} under different labels"
        yield _labelled_pairs(data, "label-conflict-near", what, len(conflicts), kept)


def _labelled_pairs(
    data: Compared, kind: str, what: str, count: int, pairs: Sequence[Samples]
) -> DataIssue:
    shown = ", ".join(
        " and ".join(f"{data.sample_ids[i]} ({label_text(data, int(i))})" for i in pair)
        for pair in pairs[:NAMED_PAIRS]
    )
    return DataIssue(
        kind=kind,
        message=f"{what}, for example {shown}.",
        count=count,
        samples=tuple(data.sample_ids[index] for pair in pairs for index in pair),
    )
