"""Parting groups whole, such as patients, so that every part has its share of every class.

Which groups go together is a packing problem: groups are dealt out one by one to the part that
lacks their classes most, as scikit-learn's `StratifiedGroupKFold` does, and then moved and swapped
as long as the shares become truer. Nothing is drawn here: an order of the groups decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
"""Samples of each class in each group: [groups, classes]."""
Parts = npt.NDArray[np.int64]
"""The part of each group: [groups]."""
Floats = npt.NDArray[np.float64]

LACKING = 1000.0
"""What a class that a part lacks costs; unequal shares cost far less."""
DIGITS = 9
"""Costs that agree so far are equal: machines add in different orders."""
MAX_MOVES = 1000
SWAPPED = 200
"""Of so many groups at most, pairs are tried too."""


def part_groups(
    counts: Counts, shares: Sequence[float], orders: Iterable[npt.NDArray[np.int64]]
) -> Parts | None:
    """The part of each group; `shares` of the parts add up to 1.

    The first of `orders` (permutations of the groups) counts that leaves no part without a class;
    None if there is none.
    """
    for order in orders:
        parts = np.empty(len(order), np.int64)
        parts[order] = _Parting(counts[order], np.array(shares)).parts
        if not _lacking(counts, parts, len(shares)):
            return parts
    return None


def _relative(counts: Counts) -> Floats:
    """The share of each class, and of all samples, that each group has: [groups, classes + 1]."""
    extended = np.column_stack([counts, counts.sum(1)])
    shares: Floats = extended / extended.sum(0)
    return shares


def _lacking(counts: Counts, parts: Parts, number: int) -> int:
    """How many times a part lacks a class."""
    return sum(int((counts[parts == part].sum(0) == 0).sum()) for part in range(number))


class _Parting:
    """Groups in the order in which they are dealt out, and their parts once all are."""

    def __init__(self, counts: Counts, shares: Floats) -> None:
        self._counts, self._shares = counts, shares
        self._own = _relative(counts)
        self.parts = np.full(len(counts), -1)
        self._held = np.zeros((len(shares), self._own.shape[1]))
        self._samples = np.zeros((len(shares), counts.shape[1]), np.int64)
        for group in range(len(counts)):
            added = self._added(self._own[group][None])[0]
            self._put(group, int(np.argmin(np.round(added, DIGITS))))
        for _ in range(MAX_MOVES):
            if not self._move() and not self._swap():
                break

    def _added(self, own: Floats) -> Floats:
        """What each part costs more with each of these groups: [groups, parts]."""
        excess = self._held - self._shares[:, None]
        more = own[:, None] * (own[:, None] + 2 * excess[None])
        added: Floats = more.sum(2) / self._shares
        return added

    def _put(self, group: int, part: int) -> None:
        before = self.parts[group]
        if before >= 0:
            self._held[before] -= self._own[group]
            self._samples[before] -= self._counts[group]
        self._held[part] += self._own[group]
        self._samples[part] += self._counts[group]
        self.parts[group] = part

    def _move(self) -> bool:
        """Put the group into another part that betters the shares most, if one does."""
        here, groups = self.parts, np.arange(len(self.parts))
        has = self._counts > 0
        left = self._held[here] - self._shares[here][:, None]
        taken = (self._own * (self._own - 2 * left)).sum(1) / self._shares[here]
        emptied = (has & (self._samples[here] == self._counts)).sum(1)
        filled = has @ (self._samples == 0).T.astype(np.int64)
        change = self._added(self._own) + taken[:, None]
        change += LACKING * (emptied[:, None] - filled)
        change[groups, here] = 0
        change = np.round(change, DIGITS)
        best = int(np.argmin(change))
        group, part = divmod(best, len(self._shares))
        if change[group, part] >= 0:
            return False
        self._put(group, part)
        return True

    def _swap(self) -> bool:
        """Swap the two groups of different parts that better the shares most, if any do."""
        if len(self.parts) > SWAPPED:
            return False
        here = self.parts
        excess = (self._held - self._shares[:, None])[here]
        gained = self._own[None] - self._own[:, None]
        shares = self._shares[here][:, None]
        first = (gained * (gained + 2 * excess[:, None])).sum(2) / shares
        change = np.round(first + first.T, DIGITS)
        change[here[:, None] == here[None]] = 0
        for best in np.argsort(change, axis=None, kind="stable")[: len(here)].tolist():
            one, other = divmod(best, len(here))
            if change[one, other] >= 0:
                return False
            lacking = int((self._samples == 0).sum())
            to, back = int(here[other]), int(here[one])
            self._put(one, to)
            self._put(other, back)
            if int((self._samples == 0).sum()) <= lacking:
                return True
            self._put(one, back)
            self._put(other, to)
        return False
