"""Whether probabilities mean what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 15


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Samples by the probability of the predicted class, in bins of equal width.

    For each non-empty bin: its samples, their mean confidence and their accuracy.
    """

    counts: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]

    @property
    def expected_calibration_error(self) -> float:
        """Mean |accuracy − confidence| over samples (Guo et al., On Calibration, 2017)."""
        gaps = np.abs(self.accuracy - self.confidence)
        return float((self.counts * gaps).sum() / self.counts.sum())


def reliability(
    probabilities: npt.NDArray[Any], labels: npt.NDArray[np.integer[Any]]
) -> Reliability:
    """The reliability of `probabilities` `[samples, classes]` against class indices `[samples]`."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    full = counts > 0
    sums = (np.bincount(bins, weights=w, minlength=BINS) for w in (confidence, right))
    mean_confidence, accuracy = (total[full] / counts[full] for total in sums)
    return Reliability(counts=counts[full], confidence=mean_confidence, accuracy=accuracy)
