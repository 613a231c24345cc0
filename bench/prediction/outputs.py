"""What the outputs of a trained trial are, and how they read in tables and answers.

Of classification they are probabilities of classes, one of which a sample is. Of several labels a
sample each has a probability of its own, and is given from its threshold on. Of regression they are
values, in the targets' own units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from bench.errors import BenchError, counted
from bench.methods.target_tasks import (
    CLASSIFICATION,
    MULTI_LABEL,
    REGRESSION,
    Standardisation,
    TargetTask,
    answers,
    decisions,
)
from bench.results.folder.columns import PREDICTED_PREFIX, PROBABILITY_PREFIX

if TYPE_CHECKING:
    from torch import Tensor

    from bench.models.checkpoints import ModelSpec

UNSURE = "unsure"
"""What stands for the class where the confidence is too low."""

JOINED = "|"
"""Between the labels of a sample, as tables of labels have it."""

Values = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Names of the outputs in their order, and how they are read."""

    names: tuple[str, ...]
    task: TargetTask = CLASSIFICATION
    thresholds: tuple[float, ...] | None = None
    standardised: Standardisation | None = None

    @classmethod
    def of(cls, spec: ModelSpec, names: Sequence[str]) -> Outputs:
        """Those of the network that a checkpoint describes."""
        from bench.methods.target_tasks import TARGET_TASKS

        return cls(
            names=tuple(names),
            task=TARGET_TASKS[spec.task],
            thresholds=spec.thresholds,
            standardised=spec.standardised,
        )

    def __str__(self) -> str:
        """`3 classes`, `1 target`, `5 labels`."""
        plural = "classes" if self.task.has_classes else None
        return counted(len(self.names), self.task.output, plural)

    @property
    def numbers(self) -> tuple[str, ...]:
        """The columns of numbers: those of the outputs are named as in a run's predictions."""
        prefix = PREDICTED_PREFIX if self.task is REGRESSION else PROBABILITY_PREFIX
        own = tuple(prefix + name for name in self.names)
        return ("confidence", *own) if self.task.has_classes else own

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a table of what was predicted."""
        said = () if self.task is REGRESSION else ("predicted",)
        return ("path", *said, *self.numbers, "failure")

    def of_logits(self, logits: Tensor) -> Values:
        """What logits `[n, outputs]` say, as a trial's own evaluation does."""
        return answers(self.task, logits, self.standardised)

    def labels(self, values: Values) -> tuple[str, ...]:
        """The labels that a sample gets, of several that it may have."""
        given = decisions(values, self.thresholds)
        return tuple(name for name, own in zip(self.names, given, strict=True) if own)

    def cells(self, values: Values | None, *, min_confidence: float = 0.0) -> list[Any]:
        """A sample's cells between `path` and `failure`; None where nothing is known of it."""
        if values is None:
            return [None] * (len(self.columns) - 2)
        numbers = list(map(float, values))
        if self.task is REGRESSION:
            return numbers
        if self.task is MULTI_LABEL:
            return [JOINED.join(self.labels(values)), *numbers]
        best = int(values.argmax())
        confidence = float(values[best])
        name = self.names[best] if confidence >= min_confidence else UNSURE
        return [name, confidence, *numbers]

    def check_confidence(self, name: str, value: float) -> None:
        """Raise `BenchError` where a least confidence has no meaning, and is asked for."""
        if not value or self.task.has_classes:
            return
        if self.task is REGRESSION:
            reason = "and regression predicts values, which have none"
        else:
            reason = (
                "and of several labels each is given from its own threshold on, which validation "
                "chose"
            )
        raise BenchError(
            f"{name} is the least probability of the one class of a sample, {reason}; leave it out"
        )

    def check_top(self, name: str, value: int) -> None:
        """Raise `BenchError` where there is no order of outputs, and the first are asked for."""
        if value != 1 and self.task is REGRESSION:
            raise BenchError(
                f"{name} asks for the most probable classes, and regression predicts a value of "
                "each target; leave it out"
            )
