"""What is measured in a run, and how its figures read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bench.system.visible_text import visible

CLASSIFICATION = "classification"
"""What is measured where a run folder does not say what the suite predicts."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric as a run folder describes it: fractions are shown in percent where `percent`.

    `task` is what it measures: `classification`, `regression` or `multi_label`.
    """

    name: str
    label: str
    higher_is_better: bool
    percent: bool
    task: str = CLASSIFICATION

    @property
    def val(self) -> str:
        """The column of `trials` with validation figures at the chosen epoch."""
        return f"val_{self.name}"

    @property
    def test(self) -> str:
        """The column of `trials` with test figures at the chosen epoch."""
        return f"test_{self.name}"

    @property
    def last_val(self) -> str:
        """The column of `trials` with validation figures after the last epoch."""
        return f"last_{self.val}"

    @property
    def last_test(self) -> str:
        """The column of `trials` with test figures after the last epoch."""
        return f"last_{self.test}"

    @property
    def of_classes(self) -> bool:
        """Whether every sample is of one class: some statistics are of nothing else."""
        return self.task == CLASSIFICATION

    @property
    def is_accuracy(self) -> bool:
        """Whether it counts samples: some statistics are of nothing else."""
        return self.name == ACCURACY.name

    @property
    def loss_axis(self) -> str:
        """The loss of a run with this metric, with its unit."""
        return "loss (mean square, sd²)" if self.task == "regression" else "loss (nats)"

    @property
    def in_target_units(self) -> bool:
        """Whether figures are in the units of what is predicted, and so of any size."""
        return self.name in IN_TARGET_UNITS

    @property
    def sign(self) -> int:
        """Times a figure, more is better."""
        return 1 if self.higher_is_better else -1

    @property
    def scale(self) -> float:
        """Times a figure, as it is shown."""
        return 100.0 if self.percent else 1.0

    @property
    def best(self) -> str:
        """`highest` or `lowest`."""
        return "highest" if self.higher_is_better else "lowest"

    @property
    def ahead(self) -> str:
        """`higher` or `lower`."""
        return "higher" if self.higher_is_better else "lower"

    @property
    def capital(self) -> str:
        """The label at the beginning of a sentence."""
        return self.label[:1].upper() + self.label[1:]

    @property
    def axis_label(self) -> str:
        """The label with its unit."""
        return f"{self.label} (%)" if self.percent else self.label

    def number(self, value: float, *, sign: str = "", more: int = 0) -> str:
        """A figure without its unit: `93.5`, `0.123`, with so many digits `more`.

        Fractions that differ in their last digit, as sums in another order do, read the same.
        """
        if self.percent:
            return f"{100 * round(value, 12):{sign}z.{1 + more}f}"
        plain = value == 0 or 1e-3 <= abs(value) < 1e3
        return f"{value:{sign}z.{3 + more}f}" if plain else f"{value:{sign}z.{2 + more}g}"

    def text(self, value: float) -> str:
        """A figure with its unit: `93.5 %`, `0.123`."""
        return f"{self.number(value)} %" if self.percent else self.number(value)

    def compact(self, value: float) -> str:
        """A figure with its unit, for lines of a terminal: `93.5%`, `0.123`."""
        return self.text(value).replace(" ", "")

    def ends(self, low: float, high: float, *, sign: str = "") -> tuple[str, str]:
        """Both ends of an interval: one that leaves out 0 does so as it is written."""
        more = 0
        while more < MAX_MORE and any(
            end and not float(self.number(end, more=more)) for end in (low, high)
        ):
            more += 1
        return self.number(low, sign=sign, more=more), self.number(high, sign=sign, more=more)

    def difference(self, value: float) -> str:
        """A difference with its sign: `+1.5` (points), `-0.012`."""
        return self.number(value, sign="+")

    def points(self, difference: str) -> str:
        """A difference in words: `+1.5 points`, `-0.012`."""
        return f"{difference} points" if self.percent else difference


IN_TARGET_UNITS = ("mae", "rmse")
"""Metrics whose figures are in the units of the targets."""

MAX_MORE = 3
"""Digits that are added to an end of an interval that would read 0."""

ACCURACY = Metric(name="accuracy", label="accuracy", higher_is_better=True, percent=True)
"""What runs of earlier versions are measured by."""


LOSS = Metric(name="loss", label="loss", higher_is_better=False, percent=False)
"""Of any suite: what is minimised, in nats, or as a mean square of standardised targets."""


def metric_called(name: str) -> Metric:
    """The metric of a suite as the folder of its run will describe it."""
    from bench.methods.metrics import metric

    return Metric(**asdict(metric(name)))


def read_metrics(data: Mapping[str, Any]) -> tuple[Metric, ...]:
    """What the content of `data.json` says was measured; the first chose the epochs."""
    task = data.get("task") or CLASSIFICATION
    fields = ("name", "higher_is_better", "percent")
    found = tuple(
        Metric(**{name: each[name] for name in fields}, label=visible(each["label"]), task=task)
        for each in data.get("metrics", ())
    )
    return found or (ACCURACY,)
