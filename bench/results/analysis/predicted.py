"""What trials predicted, as arrays: by trial, in the order of the table's classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bench.methods.metrics import Labels, Probabilities
from bench.results.folder.columns import PROBABILITY_PREFIX, class_names

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True, eq=False)
class Predicted:
    """Samples with their classes and the probability of each class `[samples, classes]`."""

    samples: tuple[str, ...]
    labels: Labels
    probabilities: Probabilities

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
        found[str(trial)] = Predicted(samples=samples, labels=labels, probabilities=probabilities)
    return found


def class_arrays(predictions: pd.DataFrame) -> tuple[Labels, Probabilities]:
    """Labels as indices of classes, and probabilities by class."""
    names = class_names(predictions)
    index = {name: place for place, name in enumerate(names)}
    labels = np.asarray(predictions["label"].map(index).to_numpy(), dtype=np.int64)
    columns = [PROBABILITY_PREFIX + name for name in names]
    return labels, np.asarray(predictions[columns].to_numpy(), dtype=np.float64)
