"""How what a file answers is compared with what its trial says, whatever it predicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.methods.metrics import measure
from bench.methods.target_tasks import MULTI_LABEL, REGRESSION, decisions
from bench.prediction.outputs import Outputs

Logits = npt.NDArray[np.floating[Any]]

UNLIKE = 1e-3
"""By so many standard deviations values may differ and still count as the same."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Answers of a file are logits, but of regression values in the targets' own units."""

    outputs: Outputs

    @property
    def function(self) -> str:
        """What the code of a card calls the function that answers, and ONNX its output."""
        return "values" if self.outputs.task is REGRESSION else "logits"

    def logits(self, answers: npt.NDArray[Any]) -> Logits:
        """The logits `[n, outputs]` behind a file's answers; of values standardised ones."""
        known = self.outputs.standardised
        return answers if known is None else (answers - known.mean) / known.sd

    def probabilities(self, logits: Logits) -> npt.NDArray[np.float64]:
        """What logits say in [0, 1]; standardised values stay as they are."""
        wide = logits.astype(np.float64)
        if self.outputs.task is REGRESSION:
            return wide
        if self.outputs.task is MULTI_LABEL:
            return np.asarray(1 / (1 + np.exp(-np.clip(wide, -700, 700))))
        shares = np.exp(wide - wide.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def said(self, logits: Logits) -> npt.NDArray[Any]:
        """What is compared of each sample `[n, …]`: its class, its labels, or its values."""
        if self.outputs.task is REGRESSION:
            return logits
        if self.outputs.task is MULTI_LABEL:
            return decisions(self.probabilities(logits), self.outputs.thresholds)
        return np.asarray(logits.argmax(axis=1))

    def differing(self, one: npt.NDArray[Any], other: npt.NDArray[Any]) -> int:
        """Of how many samples something else is said."""
        apart = np.abs(one - other) > UNLIKE if self.outputs.task is REGRESSION else one != other
        return int(apart.any(axis=1).sum() if apart.ndim > 1 else apart.sum())

    def figure(self, metric: str, truth: npt.NDArray[Any], logits: Logits) -> float:
        """A metric of what logits say, where samples are of no single class."""
        known = self.outputs.standardised
        found = self.probabilities(logits) if known is None else known.restored(logits)
        return measure(metric, truth, found, self.outputs.thresholds)[metric]

    @property
    def compared(self) -> str:
        """What of both is compared in fp16."""
        return "values" if self.outputs.task is REGRESSION else "probabilities"

    def stored(self, predicted: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What `said` gives, of what a run has stored: classes, probabilities, or values."""
        if self.outputs.task is MULTI_LABEL:
            return decisions(predicted, self.outputs.thresholds)
        return self.logits(predicted)
