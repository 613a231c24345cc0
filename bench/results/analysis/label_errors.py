"""Which labels are likely wrong: confident learning, from predictions of samples never trained on.

Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels (Journal
of Artificial Intelligence Research 70, 2021). A network is more sure of some classes than of
others, so each class j has a threshold of its own: the mean probability that samples labelled j get
for j. A sample counts for a class whose threshold its probability reaches; of several for the most
probable one of these, of none for no class. These counts, by given and by confident class, are the
confident joint. What lies off its diagonal is likely labelled wrongly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.methods.metrics import Labels, Probabilities

Numbers = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

NONE = -1
"""What stands for a sample that no class is confident of."""

SLACK = 1e-9
"""A mean of equal probabilities may be rounded above them; those of networks lie further apart."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ConfidentJoint:
    """What confident learning finds in samples with given labels.

    `counts` `[given class, confident class]` is the confident joint. `thresholds` are by class,
    infinite for a class that no sample is labelled as. `confident` is the class that each sample
    counts for, or `NONE`.
    """

    labels: Labels
    counts: Counts
    thresholds: Numbers
    confident: Labels

    @property
    def off_diagonal(self) -> npt.NDArray[np.bool_]:
        """The samples that count for another class than that of their label."""
        return np.asarray((self.confident != NONE) & (self.confident != self.labels))

    @property
    def estimated(self) -> Numbers:
        """The estimated number of samples `[given class, true class]`: equation 3 of the paper.

        Each row of the counts is scaled to the samples of its class, those that count for no class
        included. A row without counts stands on the diagonal.
        """
        given = np.bincount(self.labels, minlength=len(self.counts))
        rows = self.counts.sum(axis=1)
        shares = self.counts / np.maximum(rows, 1)[:, None]
        shares[rows == 0] = np.eye(len(self.counts))[rows == 0]
        return np.asarray(shares * given[:, None])

    @property
    def errors(self) -> float:
        """How many labels are estimated to be wrong."""
        estimated = self.estimated
        return float(estimated.sum() - np.trace(estimated))


def confident_joint(labels: Labels, probabilities: Probabilities) -> ConfidentJoint:
    """The confident joint of samples with class indices `[n]` and probabilities `[n, classes]`."""
    classes = probabilities.shape[1]
    thresholds = np.array(
        [
            probabilities[labels == index, index].mean() if np.any(labels == index) else np.inf
            for index in range(classes)
        ]
    )
    reached = np.where(probabilities >= thresholds - SLACK, probabilities, -np.inf)
    confident = np.where(np.isfinite(reached).any(axis=1), reached.argmax(axis=1), NONE)
    counts = np.zeros((classes, classes), np.int64)
    sure = confident != NONE
    np.add.at(counts, (labels[sure], confident[sure]), 1)
    return ConfidentJoint(
        labels=labels, counts=counts, thresholds=thresholds, confident=confident.astype(np.int64)
    )


def margins(labels: Labels, probabilities: Probabilities) -> Numbers:
    """How much more probable the best other class is than the given one, in [-1, 1], by sample.

    That is the normalised margin of the paper with its sign turned: the larger, the worse.
    """
    rows = np.arange(len(labels))
    others = probabilities.copy()
    others[rows, labels] = -np.inf
    return np.asarray(others.max(axis=1) - probabilities[rows, labels])
