"""Target tasks: what a suite predicts of a sample, as its key `task` says. No torch at import.

A class of several (`classification`), one number or more (`regression`), or which of several labels
it has (`multi_label`). Metrics and objectives say in their traits which of them they are for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.suite import TargetTaskName

if TYPE_CHECKING:
    from torch import Tensor

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TargetTask:
    """What a suite predicts, what chooses its epochs and what it minimises unless it says so.

    `output` is what one output of a network stands for; `has_classes` whether they are classes of
    which each sample has one.
    """

    name: TargetTaskName
    output: str
    metric: str
    objective: str
    has_classes: bool = False


CLASSIFICATION = TargetTask(
    name="classification",
    output="class",
    metric="accuracy",
    objective="cross_entropy",
    has_classes=True,
)
REGRESSION = TargetTask(name="regression", output="target", metric="r2", objective="mse")
MULTI_LABEL = TargetTask(
    name="multi_label",
    output="label",
    metric="mean_average_precision",
    objective="binary_cross_entropy",
)
TARGET_TASKS: Mapping[str, TargetTask] = {
    task.name: task for task in (CLASSIFICATION, REGRESSION, MULTI_LABEL)
}


@dataclass(frozen=True, kw_only=True)
class Standardisation:
    """Mean and standard deviation (of the population) of each target of a training split.

    Networks learn and give `(value - mean) / sd`; everything that people read is in the targets'
    own units.
    """

    mean: tuple[float, ...]
    sd: tuple[float, ...]

    @classmethod
    def of(cls, values: npt.NDArray[np.float32]) -> Standardisation:
        """That of `values` `[n, targets]`, none of which may be constant."""
        wide = values.astype(np.float64)
        return cls(mean=tuple(wide.mean(axis=0).tolist()), sd=tuple(wide.std(axis=0).tolist()))

    def standardised(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What a network learns of `values` `[n, targets]`."""
        return ((values.astype(np.float64) - self.mean) / self.sd).astype(np.float32)

    def restored(self, outputs: npt.NDArray[Any]) -> Floats:
        """What `outputs` `[n, targets]` of a network mean."""
        restored: Floats = outputs.astype(np.float64) * self.sd + self.mean
        return restored


def answers(
    task: TargetTask, logits: Tensor, standardised: Standardisation | None = None
) -> npt.NDArray[Any]:
    """What logits `[n, outputs]` say, in their precision.

    Probabilities of the classes or of each label, or, in double precision, values in the targets'
    own units, for which `standardised` is needed.
    """
    if task.has_classes:
        probabilities: npt.NDArray[Any] = logits.softmax(dim=1).numpy()
        return probabilities
    if standardised is None:
        chances: npt.NDArray[Any] = logits.sigmoid().numpy()
        return chances
    return standardised.restored(logits.numpy())


def chosen_thresholds(
    labels: npt.NDArray[Any], probabilities: npt.NDArray[Any]
) -> tuple[float, ...]:
    """For each label the probability from which on it is given: that of the highest F1.

    `labels` (1 and 0) and `probabilities` are `[n, labels]`, of a validation split. Of equally good
    thresholds it is the one that is nearest to 0.5; of a range of them the middle, unless 0.5 is
    in it. 0.5 also stands where no sample has the label.
    """
    columns = zip(labels.T, probabilities.T, strict=True)
    return tuple(_chosen_threshold(own > 0, scores.astype(np.float64)) for own, scores in columns)


def _chosen_threshold(positive: npt.NDArray[np.bool_], scores: Floats) -> float:
    if not positive.any():
        return HALF
    # Between two neighbouring values, every threshold decides alike.
    values, group = np.unique(scores, return_inverse=True)
    given = np.bincount(group)[::-1].cumsum()[::-1]
    right = np.bincount(group, weights=positive)[::-1].cumsum()[::-1]
    f1 = 2 * right / (given + positive.sum())
    below = np.concatenate([[0.0], values[:-1]])
    middle = np.where((below < HALF) & (values >= HALF), HALF, (below + values) / 2)
    best = np.flatnonzero(np.isclose(f1, f1.max(), rtol=1e-12, atol=0))
    return float(middle[best[np.abs(middle[best] - HALF).argmin()]])


HALF = 0.5
"""The threshold of a label for which none was chosen."""


def decisions(
    probabilities: npt.NDArray[Any], thresholds: Sequence[float] | None = None
) -> npt.NDArray[np.bool_]:
    """Which labels are given `[n, labels]`: those whose probability reaches its threshold."""
    limits = HALF if thresholds is None else np.asarray(thresholds)
    given: npt.NDArray[np.bool_] = probabilities >= limits
    return given
