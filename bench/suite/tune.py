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
Direction = Literal["maximize", "minimize"]
GoalName = Literal["val_metric", "val_accuracy", "val_loss", "seconds"]
"""`val_metric` is the suite's metric; where that is accuracy it goes by its own name."""


def direction(goal: GoalName, *, higher_is_better: bool) -> Direction:
    """What a search does with a goal; of the suite's metric more is better, or less."""
    upwards = goal == "val_accuracy" or (goal == "val_metric" and higher_is_better)
    return "maximize" if upwards else "minimize"


class Range(BaseModel):
    """Numbers from `low` to `high`, uniformly or uniformly in their logarithm."""

    model_config = STRICT

    low: Annotated[Number, Field(description="The smallest value.", examples=[0.0001])]
    high: Annotated[
        Number, Field(description="The largest value; it must be above low.", examples=[0.1])
    ]
    log: Annotated[
        bool,
        Field(description="Draws uniformly in the logarithm, from a low above 0.", examples=[True]),
    ] = False
    step: Annotated[
        Annotated[Number, Field(gt=0)] | None,
        Field(
            description="Only low, low + step, low + 2 step, …; above 0, and not with log. null: "
            "any number.",
            examples=[0.1],
        ),
    ] = None


class FoundRange(BaseModel):
    """`factor` times below and above the learning rate that a range test suggests."""

    model_config = STRICT

    find: Annotated[
        Literal["valley", "steepest"],
        Field(
            description="Where in the loss curve of an LR range test to look: two thirds down "
            "its longest fall (`valley`), or where it falls fastest (`steepest`).",
            examples=["valley"],
        ),
    ]
    factor: Annotated[
        float,
        Field(
            gt=1,
            le=1e6,
            description="The range is from the rate found / factor to the rate × factor.",
            examples=[10],
        ),
    ] = 10.0


class Choices(BaseModel):
    """A few values without order."""

    model_config = STRICT

    values: tuple[str | bool | int | float | None, ...]


SearchedValues = Range | FoundRange | Choices


class Limit(BaseModel):
    """A number beyond which a setting cannot be, and whether it can be that number itself."""

    model_config = STRICT

    value: Number
    included: bool


class Searched(BaseModel):
    """One searched setting, of all cells or of those whose `axis` has the entry `entry`.

    `option` says whether it is an option of that entry and no training setting; `whole` whether
    only whole numbers will do; `lowest` and `highest` are the limits of the setting itself.
    """

    model_config = STRICT

    key: str
    values: SearchedValues
    axis: str | None = None
    entry: str | None = None
    option: bool = False
    whole: bool = False
    lowest: Limit | None = None
    highest: Limit | None = None

    @property
    def name(self) -> str:
        """How studies and tables call it."""
        return f"{self.axis}.{self.key}" if self.option else self.key

    def identity(self) -> dict[str, Any]:
        """What of it makes a search another one."""
        said = self.model_dump(exclude={"lowest", "highest"})
        return {**said, "whole": self.whole and isinstance(self.values, Range)}


BUDGETS = ("trials", "images", "seconds")
"""How much every cell may spend: one of the three."""

MAX_WIDEN = 10


class Method(BaseModel):
    """The keys of the section beside `space`."""

    model_config = STRICT

    trials: Annotated[
        Count | None,
        Field(
            description="Budget of each cell: trials. One budget is given; without any, 20 trials.",
            examples=[20],
        ),
    ] = None
    images: Annotated[
        Count | None,
        Field(
            description="Budget of each cell: images that pass through the network.",
            examples=[50_000],
        ),
    ] = None
    seconds: Annotated[
        Positive | None,
        Field(description="Budget of each cell: seconds of training.", examples=[600]),
    ] = None
    sampler: Annotated[
        Literal["tpe", "random", "gp", "cmaes", "grid", "qmc"],
        Field(
            description="The sampler of Optuna that suggests values. `grid` needs lists of "
            "choices.",
            examples=["random"],
        ),
    ] = "tpe"
    pruner: Annotated[
        Literal["none", "median", "halving", "hyperband"],
        Field(
            description="The pruner of Optuna that ends trials that fall behind others of their "
            "cell. Needs a single objective.",
            examples=["halving"],
        ),
    ] = "none"
    seed: Annotated[int, Field(ge=0, lt=2**31, description="Seeds the sampler.", examples=[0])] = 0
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, lt=2**31)], ...],
        Field(
            min_length=1,
            max_length=100,
            description="Seeds that every suggestion is trained with: its score is the mean. They "
            "must differ from the suite's own. One may stand without a list. Default: the first "
            "two from 1000 on that the suite does not have.",
            examples=[[1000, 1001], 1000],
        ),
    ] = (FIRST_SEED, FIRST_SEED + 1)
    objective: Annotated[
        tuple[GoalName, ...],
        Field(
            min_length=1,
            max_length=2,
            description="What is sought: the highest `val_accuracy`, the best `val_metric` (the "
            "suite's metric; the default where that is not accuracy) or the lowest `val_loss`; "
            "with a second one, all trade-offs between both. One may stand without a list.",
            examples=["val_loss", ["val_accuracy", "seconds"]],
        ),
    ] = ("val_accuracy",)
    batch: Annotated[
        Count,
        Field(
            description="Suggestions of a cell that are trained at a time: more suggestions share "
            "more work, fewer learn sooner from results.",
            examples=[4],
        ),
    ] = 4
    widen: Annotated[
        int,
        Field(
            ge=0,
            le=MAX_WIDEN,
            description="How often each end of a range of numbers may be moved outwards because "
            "the best value lies there, within the same budget. With sampler `grid` lists of "
            "numbers are ranges too. 0: never.",
            examples=[0],
        ),
    ] = 3


class Tune(BaseModel):
    """The checked section; `written` is what the suite says, with every default filled in.

    `earlier` are the run folders whose best settings are tried first.
    """

    model_config = STRICT

    space: tuple[Searched, ...]
    method: Method
    written: Mapping[str, Any]
    earlier: tuple[str, ...] = ()
