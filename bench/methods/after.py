"""What finished trials are made into without training: the section `after` of a suite.

An entry is one function from its options to a recipe: plain data that says what is joined or
changed, and what validation chooses. `bench.prediction.after` follows recipes and knows no name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from bench.suite.registry import Registry

PROBE = "linear_probe"
"""The strategy whose trials WiSE-FT starts from: a head that means something on the start."""

GRID = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """The mean of the members' probabilities.

    Its members are the seeds of a config, or, `greedy`, trials of all configs in a seed, which are
    chosen on its validation split.
    """

    greedy: bool


@dataclass(frozen=True, kw_only=True)
class Vote:
    """Within a seed, all trials of a config that differ in the learning rate alone, together.

    What the `majority` says, or the mean of their probabilities. Validation has no say.
    """

    majority: bool


@dataclass(frozen=True, kw_only=True)
class Temperature:
    """Each trial with a temperature that its validation split chooses."""


@dataclass(frozen=True, kw_only=True)
class Soup:
    """The mean of the weights of a seed's trials: of all, or `greedy` of what validation adds."""

    greedy: bool


@dataclass(frozen=True, kw_only=True)
class Interpolation:
    """Each trial's weights on the way from a linear probe's, which is as far as validation says."""

    alphas: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Views:
    """Each trial's mean probabilities over several views of an image, the plain one first.

    The others are `flip` (its mirror image), `five_crops` (the corners) or `random` ones, drawn
    with a key of their own; in all there are `count`.
    """

    kind: Literal["flip", "five_crops", "random"]
    count: int


@dataclass(frozen=True, kw_only=True)
class TargetStatistics:
    """Each trial with batch norms whose statistics are those of unlabelled target data."""


Recipe = Ensemble | Vote | Temperature | Soup | Interpolation | Views | TargetStatistics


@dataclass(frozen=True, kw_only=True)
class AfterTraits:
    """Whether it needs the trained weights of all trials, and not their predictions alone."""

    needs_weights: bool = False


AFTER: Registry[Callable[..., Recipe], AfterTraits] = Registry("after", AfterTraits, takes=())


@AFTER.register("ensemble")
def ensemble(
    *,
    members: Annotated[
        Literal["seeds", "greedy"],
        Field(
            description="`seeds`: each training of the reported config once. `greedy`: within "
            "each seed, trials of all configs that its validation split chooses, with replacement.",
            examples=["greedy"],
        ),
    ] = "seeds",
) -> Ensemble:
    """The mean of probabilities: of a config's seeds, or chosen greedily (Caruana et al., 2004)."""
    return Ensemble(greedy=members == "greedy")


@AFTER.register("vote")
def vote(
    *,
    by: Annotated[
        Literal["majority", "mean"],
        Field(
            description="`majority`: each trial has one vote for a class, and the mean of their "
            "probabilities breaks ties. `mean`: the mean of their probabilities alone.",
            examples=["mean"],
        ),
    ] = "majority",
) -> Vote:
    """All learning rates of a config together, instead of a choice among them.

    The hyper-parameter ensemble of FewTrans (2026, arXiv 2603.00478): for labels that are too few
    for a validation split. Its trials are those of a seed that differ in `lr` only.
    """
    return Vote(majority=by == "majority")


@AFTER.register("temperature")
def temperature() -> Temperature:
    """Probabilities as softmax(log p / T), with the T of lowest validation loss (Guo et al., 2017).

    The most probable class stays the same.
    """
    return Temperature()


@AFTER.register("soup", needs_weights=True)
def soup(
    *,
    members: Annotated[
        Literal["uniform", "greedy"],
        Field(
            description="`uniform`: all trials of a seed that start from the same values. "
            "`greedy`: trials are added one by one, best on validation first, and kept if they "
            "improve validation.",
            examples=["greedy"],
        ),
    ] = "uniform",
) -> Soup:
    """The mean of the weights of trials that start alike (Wortsman et al., Model soups, 2022)."""
    return Soup(greedy=members == "greedy")


@AFTER.register("wise_ft", needs_weights=True)
def wise_ft(
    *,
    alphas: Annotated[
        tuple[Annotated[float, Field(ge=0, le=1)], ...],
        Field(
            min_length=1,
            max_length=101,
            description="Values of α in (1 − α) · θ₀ + α · θ₁; validation chooses one.",
            examples=[[0.0, 0.5, 1.0]],
        ),
    ] = GRID,
) -> Interpolation:
    """Weights between those of a seed's `linear_probe` and of a trial (Wortsman et al., 2022).

    Of a trial whose head is `zero_shot`, between the strategy `zero_shot` of the same words and it.
    """
    return Interpolation(alphas=tuple(alphas))


@AFTER.register("tta", needs_weights=True)
def tta(
    *,
    views: Annotated[
        Literal["flip", "five_crops", "random"],
        Field(
            description="Views beside the plain one: its mirror image (`flip`), the four corners "
            "(`five_crops`; where images are stored larger than the network's input), or random "
            "crops and mirror images (`random`).",
            examples=["random"],
        ),
    ] = "flip",
    count: Annotated[
        int,
        Field(
            ge=1,
            le=100,
            description="Number of views for `random`, the plain one included.",
            examples=[8],
        ),
    ] = 4,
) -> Views:
    """Test-time augmentation: the mean of probabilities over several views of an image."""
    return Views(kind=views, count={"flip": 2, "five_crops": 5}.get(views, count))


@AFTER.register("adabn", needs_weights=True)
def adabn() -> TargetStatistics:
    """Running statistics of batch norms from samples without labels (AdaBN: Li et al., 2016).

    Li et al., "Revisiting Batch Normalization For Practical Domain Adaptation": all other values
    stay. It needs `target_data` or `unlabelled_fraction`, and a network with batch norm.
    """
    return TargetStatistics()


def chooses(found: Recipe) -> bool:
    """Whether validation chooses something of it, so that it needs a validation split."""
    match found:
        case Ensemble() | Soup():
            return found.greedy
        case Temperature() | Interpolation():
            return True
        case Vote() | Views() | TargetStatistics():
            return False


def recipe(name: str, options: dict[str, object]) -> Recipe:
    """What an entry of the section says."""
    return AFTER.get(name).function(**options)
