"""Strategies: named rules for reusing pretrained weights.

A strategy is one function from the backbone's layer groups (input to output, the last is `head`)
and the number of epochs to a `Plan`. Add one by writing such a function here, registered under its
name, and a line for it in `tests/methods/test_strategies.py`.

Traits tell the suite what a strategy needs: `weights="ignored"` (it starts at random whatever the
suite gives), `why_weights` (what it does that makes no sense without weights), `head` (the head it
always has), `trains=False` (it trains nothing, so schedule and augmentation do not apply).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Literal

from pydantic import Field

from bench.errors import PlanError
from bench.methods.plan import HEAD, NormMode, Plan, Rule, Stage, group_rule
from bench.suite.registry import Registry
from bench.suite.rules import Count

Strategy = Callable[..., Plan]
Multiplier = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Norm = Annotated[
    Literal["update", "fixed"],
    Field(
        description="Running statistics of the backbone's norm layers: `update` them from batches "
        "and normalise by the batch, or keep them `fixed` and normalise by them.",
        examples=["fixed"],
    ),
]

STRATEGIES: Registry[Strategy] = Registry("strategy")

FROZEN = Rule(pattern="*", lr=None)
FREEZES = "freezes the backbone, which at random would never learn"


def _one_stage(epochs: int, *rules: Rule) -> Plan:
    return Plan(stages=(Stage(epochs=epochs, rules=rules),))


def _everything(lr: float, norm: NormMode | None = None) -> Rule:
    return Rule(pattern="*", lr=lr, norm=norm)


def _only(groups: Iterable[str]) -> tuple[Rule, ...]:
    """Rules that train `groups` and freeze the rest."""
    return (*(group_rule(group, 1.0) for group in groups), FROZEN)


@STRATEGIES.register("from_scratch", weights="ignored")
def from_scratch(groups: Sequence[str], epochs: int) -> Plan:
    """Train everything from a random start: what pretraining is compared with."""
    return _one_stage(epochs, _everything(1.0))


@STRATEGIES.register(
    "pretrained_head",
    trains=False,
    head="pretrained",
    why_weights="uses the classifier that comes with the weights",
)
def pretrained_head(groups: Sequence[str], epochs: int) -> Plan:
    """Train nothing: the pretrained classifier itself, its classes mapped to the data set's."""
    return Plan(stages=())


@STRATEGIES.register("linear_probe", head="linear", why_weights=FREEZES)
def linear_probe(groups: Sequence[str], epochs: int) -> Plan:
    """Freeze the backbone, train a linear classifier on its features."""
    return _one_stage(epochs, *_only([HEAD]))


@STRATEGIES.register("mlp_probe", head="mlp", why_weights=FREEZES)
def mlp_probe(groups: Sequence[str], epochs: int) -> Plan:
    """Freeze the backbone, train a two-layer perceptron on its features."""
    return _one_stage(epochs, *_only([HEAD]))


@STRATEGIES.register("full_finetune")
def full_finetune(groups: Sequence[str], epochs: int, *, norm: Norm = "update") -> Plan:
    """Train everything at one learning rate; `norm: fixed` keeps the norm statistics."""
    return _one_stage(epochs, _everything(1.0, norm))


@STRATEGIES.register("two_rates")
def two_rates(
    groups: Sequence[str],
    epochs: int,
    *,
    backbone_multiplier: Annotated[
        Multiplier,
        Field(
            description="The backbone's learning rate is lr times this; 0 moves no parameter.",
            examples=[0.1],
        ),
    ] = 0.1,
    norm: Norm = "update",
) -> Plan:
    """Train the backbone at `backbone_multiplier` times the learning rate of the head.

    A multiplier of 0 is not frozen: no parameter of the backbone moves, but its norm statistics
    follow the new data, its dropout is active and its gradients count in the clipping norm.
    """
    return _one_stage(epochs, group_rule(HEAD, 1.0), _everything(backbone_multiplier, norm))


@STRATEGIES.register("layerwise_decay")
def layerwise_decay(
    groups: Sequence[str],
    epochs: int,
    *,
    decay: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="A group k below the head trains at lr × decay to the power k.",
            examples=[0.75],
        ),
    ] = 0.75,
) -> Plan:
    """Multiply the learning rate by `decay` for every layer group away from the head.

    Discriminative fine-tuning (Howard and Ruder, ULMFiT, 2018).
    """
    depths = range(len(groups) - 1, -1, -1)
    rules = [group_rule(g, decay**depth) for g, depth in zip(groups, depths, strict=True)]
    return _one_stage(epochs, *rules)


@STRATEGIES.register("partial_finetune", why_weights=FREEZES)
def partial_finetune(
    groups: Sequence[str],
    epochs: int,
    *,
    top: Annotated[
        Count,
        Field(
            description="Layer groups below the head that train; fewer than the backbone has.",
            examples=[2],
        ),
    ] = 1,
) -> Plan:
    """Train the head and the `top` layer groups below it, freeze the rest."""
    if top >= len(groups):
        raise PlanError(
            f"partial_finetune: top must be below the backbone's {len(groups)} groups "
            f"({', '.join(groups)}), got {top}"
        )
    return _one_stage(epochs, *_only(groups[-1 - top :]))


@STRATEGIES.register("gradual_unfreeze", why_weights=FREEZES)
def gradual_unfreeze(
    groups: Sequence[str],
    epochs: int,
    *,
    every: Annotated[
        Count, Field(description="Epochs from one group to the next.", examples=[2])
    ] = 1,
) -> Plan:
    """Start with the head alone and unfreeze one more group from the top every `every` epochs.

    Howard and Ruder, ULMFiT, 2018. Groups whose turn never comes stay frozen.
    """
    stages, left = [], epochs
    for depth in range(1, len(groups) + 1):
        last = depth == len(groups)
        length = left if last else min(every, left)
        stages.append(Stage(epochs=length, rules=_only(groups[-depth:])))
        left -= length
        if not left:
            break
    return Plan(stages=tuple(stages))


@STRATEGIES.register("lp_ft", why_weights=FREEZES)
def lp_ft(
    groups: Sequence[str],
    epochs: int,
    *,
    probe_epochs: Annotated[
        Count | None,
        Field(
            description="Epochs of the probe, fewer than `epochs`. null: half of them.",
            examples=[6],
        ),
    ] = None,
    finetune_multiplier: Annotated[
        Multiplier,
        Field(description="After the probe everything trains at lr times this.", examples=[0.1]),
    ] = 0.1,
) -> Plan:
    """A linear probe first, then everything at `finetune_multiplier` times the learning rate.

    Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform
    Out-of-Distribution", 2022. `probe_epochs` is half of all epochs by default.
    """
    probe = probe_epochs or epochs // 2
    if not 1 <= probe < epochs:
        raise PlanError(
            f"lp_ft: probe_epochs must leave at least one of {epochs} epochs to each stage, "
            f"got {probe}"
        )
    return Plan(
        stages=(
            Stage(epochs=probe, rules=_only([HEAD])),
            Stage(epochs=epochs - probe, rules=(_everything(finetune_multiplier),)),
        )
    )
