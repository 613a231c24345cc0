"""The section `tune` of a suite: what is searched, with how much work, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from bench.suite.rules import STRICT, Count, Positive

SEARCHABLE = (
    "optimizer",
    "lr",
    "momentum",
    "nesterov",
    "weight_decay",
    "label_smoothing",
    "grad_clip_norm",
    "batch_size",
    "class_weights",
    "sampler",
)
"""Settings that may be searched; the others fix the task, or the budget of a trial."""

SEARCHABLE_AXES = ("strategy", "head", "schedule", "augmentation")
"""What a space may name to search options or settings of one entry only."""

FIRST_SEED = 1000
"""Tuning seeds start here where the suite gives none."""

Number = int | float
GoalName = Literal["val_metric", "val_accuracy", "val_loss", "seconds"]
"""`val_metric` is the suite's metric; where that is accuracy it goes by its own name."""


def direction(goal: GoalName, *, higher_is_better: bool) -> Literal["maximize", "minimize"]:
    """What a search does with a goal; of the suite's metric more is better, or less."""
    upwards = goal == "val_accuracy" or (goal == "val_metric" and higher_is_better)
    return "maximize" if upwards else "minimize"


class Range(BaseModel):
    """Numbers from `low` to `high`, uniformly or uniformly in their logarithm."""

    model_config = STRICT

    low: Number
    high: Number
    log: bool = False
    step: Annotated[Number, Field(gt=0)] | None = None


class FoundRange(BaseModel):
    """`factor` times below and above the learning rate that a range test suggests."""

    model_config = STRICT

    find: Literal["valley", "steepest"]
    factor: Annotated[float, Field(gt=1, le=1e6)] = 10.0


class Choices(BaseModel):
    """A few values without order."""

    model_config = STRICT

    values: tuple[str | bool | int | float | None, ...]


SearchedValues = Range | FoundRange | Choices


class Searched(BaseModel):
    """One searched setting, of all cells or of those whose `axis` has the entry `entry`.

    `option` says whether it is an option of that entry and no training setting; `whole` whether
    only whole numbers will do.
    """

    model_config = STRICT

    key: str
    values: SearchedValues
    axis: str | None = None
    entry: str | None = None
    option: bool = False
    whole: bool = False

    @property
    def name(self) -> str:
        """How studies and tables call it."""
        return f"{self.axis}.{self.key}" if self.option else self.key


BUDGETS = ("trials", "images", "seconds")
"""How much every cell may spend: one of the three."""


class Method(BaseModel):
    """The keys of the section beside `space`."""

    model_config = STRICT

    trials: Count | None = None
    images: Count | None = None
    seconds: Positive | None = None
    sampler: Literal["tpe", "random", "gp", "cmaes", "grid", "qmc"] = "tpe"
    pruner: Literal["none", "median", "halving", "hyperband"] = "none"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1, max_length=100)
    ] = (FIRST_SEED, FIRST_SEED + 1)
    objective: Annotated[tuple[GoalName, ...], Field(min_length=1, max_length=2)] = (
        "val_accuracy",
    )
    batch: Count = 4


class Tune(BaseModel):
    """The checked section; `written` is what the suite says, with every default filled in."""

    model_config = STRICT

    space: tuple[Searched, ...]
    method: Method
    written: Mapping[str, Any]
