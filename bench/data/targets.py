"""What is predicted of samples that have no class: numbers, or which of several labels they have.

The `labels` of such a data set are strata, by which splits are drawn evenly; `classes` are the
names of its targets, or labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.errors import DataError, counted
from bench.suite import TargetTaskName
from bench.system.visible_text import visible

Values = npt.NDArray[np.float32]
Strata = npt.NDArray[np.int64]

MAX_BINS, LEAST = 5, 10
"""Strata of numbers, at most, and the fewest samples of any: some of them go into each split."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Targets:
    """`values` float32 `[n, outputs]`: finite numbers, or 1 where a sample has the label, else 0.

    `strata` are the names of what the `labels` of the data set count.
    """

    task: TargetTaskName
    values: Values
    strata: tuple[str, ...]

    def of(self, samples: Sequence[int] | npt.NDArray[np.int64]) -> Targets:
        """Those of some samples."""
        return replace(self, values=self.values[np.asarray(samples, np.int64)])

    def text(self, sample: int, names: Sequence[str]) -> str:
        """What is predicted of a sample, in words: `age 31.5`, `cat, dog`, `no label`."""
        own = self.values[sample]
        if self.task == "regression":
            return ", ".join(f"{name} {value:.5g}" for name, value in zip(names, own, strict=True))
        return ", ".join(name for name, has in zip(names, own, strict=True) if has) or "no label"

    def plain(self) -> dict[str, Any]:
        """As the metadata of prepared data keep them."""
        return {"task": self.task, "values": self.values.tolist(), "strata": self.strata}

    @classmethod
    def from_plain(cls, plain: dict[str, Any], outputs: int) -> Targets:
        """What `plain` gave."""
        values = np.array(plain["values"], np.float32).reshape(-1, outputs)
        return cls(task=plain["task"], values=values, strata=tuple(plain["strata"]))


def regression_targets(values: Values, names: Sequence[str]) -> tuple[Strata, Targets]:
    """The strata of numbers `[n, targets]`, and the targets.

    Strata are up to `MAX_BINS` bins of equally many samples by rank; of several targets by the mean
    of their ranks. Raises `DataError` for a target that is the same for all samples.
    """
    check_targets("regression", values, names, "the data set")
    ranks = np.mean([_ranks(column) for column in values.T], axis=0)
    bins = int(np.clip(len(values) // LEAST, 1, MAX_BINS))
    found = np.minimum((_ranks(ranks) - 0.5) * bins // len(values), bins - 1).astype(np.int64)
    used, strata = np.unique(found, return_inverse=True)
    named = tuple(
        f"{names[0]} from {own.min():.5g} to {own.max():.5g}"
        if len(names) == 1
        else f"rank {number + 1} of {len(used)}"
        for number in range(len(used))
        for own in [values[strata == number]]
    )
    return strata.astype(np.int64), Targets(task="regression", values=values, strata=named)


def multi_label_targets(values: Values, names: Sequence[str]) -> tuple[Strata, Targets]:
    """The strata of labels (1 and 0) `[n, labels]`, and the targets.

    A stratum is a combination of labels that at least `LEAST` samples have. The others go by the
    rarest label of a sample, and what is then still rare is one stratum, or joins the largest.
    Raises `DataError` for a label that no sample has, or all of them.
    """
    check_targets("multi_label", values, names, "the data set")
    rarity = values.sum(axis=0)
    combinations = [tuple(np.flatnonzero(row).tolist()) for row in values]
    texts = [" and ".join(names[i] for i in own) or "no label" for own in combinations]
    texts = _where_rare(
        texts,
        [
            f"{names[min(own, key=lambda i: rarity[i])]} and others" if own else "no label"
            for own in combinations
        ],
    )
    texts = _where_rare(texts, ["others"] * len(texts))
    counts = Counter(texts)
    if counts.get("others", LEAST) < LEAST:
        largest = max(counts, key=lambda text: (text != "others", counts[text]))
        texts = [largest if text == "others" else text for text in texts]
    named = sorted(set(texts))
    strata = np.array([named.index(text) for text in texts], np.int64)
    return strata, Targets(task="multi_label", values=values, strata=tuple(named))


def _where_rare(texts: Sequence[str], others: Sequence[str]) -> list[str]:
    counts = Counter(texts)
    pairs = zip(texts, others, strict=True)
    return [text if counts[text] >= LEAST else other for text, other in pairs]


def _ranks(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The ranks from 1; equal values share the mean of theirs."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    ranks: npt.NDArray[np.float64] = (np.cumsum(sizes) - (sizes - 1) / 2)[group]
    return ranks


def check_targets(task: TargetTaskName, values: Values, names: Sequence[str], where: str) -> None:
    """Raise `DataError` where nothing can be learned of an output from the samples of `where`."""
    count = len(values)
    for name, own in zip(names, values.T, strict=True):
        if count and own.min() < own.max():
            continue
        shown = repr(visible(name))
        samples = f"{counted(count, 'sample')} of {where}"
        if task == "regression":
            value = f"is {own[0]:g} for all" if count else "has no value among the"
            raise DataError(
                f"the target {shown} {value} {samples}, so there is nothing to predict; is it the "
                "right column, and are there enough samples?"
            )
        had = "all" if count and own[0] else "none"
        raise DataError(
            f"{had} of the {samples} {'have' if had == 'all' else 'has'} the label {shown}, so "
            "nothing can be learned of it; leave the label out, or give more samples"
        )
