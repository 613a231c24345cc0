"""What trials predicted, as arrays: by trial, in the order of the table's classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bench.methods.metrics import Labels, Probabilities
from bench.results.folder.columns import PROBABILITY_PREFIX, class_names

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True, eq=False)
class Predicted:
    """Samples with their classes and the probability of each class `[samples, classes]`.

    `groups` are there if some samples share one, and groups count.
    """

    samples: tuple[str, ...]
    labels: Labels
    probabilities: Probabilities
    groups: tuple[str, ...] | None = None

    def at(self, samples: Sequence[str]) -> Predicted:
        """Some of the samples, in their order."""
        if tuple(samples) == self.samples:
            return self
        places = {sample: row for row, sample in enumerate(self.samples)}
        rows = [places[sample] for sample in samples]
        return Predicted(
            samples=tuple(samples),
            labels=self.labels[rows],
            probabilities=self.probabilities[rows],
            groups=None if self.groups is None else tuple(self.groups[row] for row in rows),
        )

    def having(self, probabilities: Probabilities) -> Predicted:
        """The same samples with other probabilities."""
        return replace(self, probabilities=probabilities)


def predicted_by_trial(predictions: pd.DataFrame) -> dict[str, Predicted]:
    """What each trial of the table predicted."""
    found = {}
    for trial, own in predictions.groupby("trial", sort=False):
        labels, probabilities = class_arrays(own)
        samples = tuple(map(str, own["sample"]))
        found[str(trial)] = Predicted(
            samples=samples,
            labels=labels,
            probabilities=probabilities,
            groups=groups_of(own, samples),
        )
    return found


def groups_of(predictions: pd.DataFrame, samples: Iterable[str]) -> tuple[str, ...] | None:
    """The groups of these samples; None where no two of them have the same one."""
    if "group" not in predictions:
        return None
    told = predictions[["sample", "group"]].dropna().drop_duplicates("sample")
    known = dict(zip(told["sample"], told["group"], strict=True))
    # One whose group is not told is alike to none.
    found = tuple(
        f"group {known[sample]}" if sample in known else f"sample {sample}" for sample in samples
    )
    return None if len(set(found)) == len(found) else found


def class_arrays(predictions: pd.DataFrame) -> tuple[Labels, Probabilities]:
    """Labels as indices of classes, and probabilities by class."""
    names = class_names(predictions)
    index = {name: place for place, name in enumerate(names)}
    labels = np.asarray(predictions["label"].map(index).to_numpy(), dtype=np.int64)
    columns = [PROBABILITY_PREFIX + name for name in names]
    return labels, np.asarray(predictions[columns].to_numpy(), dtype=np.float64)
