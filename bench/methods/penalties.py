"""Penalties: what a training adds to its objective for where parameters or features are.

A penalty is one function to a scalar, from two things that its trait `needs` names. Its option
`weight` is what a suite gives in short: `penalty: {l2_sp: 0.01}`. It has no part in the loss that
is recorded. With a weight of 0, one of features is not there at all.

- `parameters`: those that train, and their starting values, by address (`group/name`);
- `features`: what the head gets of a batch `[n, features]`, and the targets, as of `Objective`;
- `layers`: what layers give for a batch `[n, channels, positions]`, and the `StartLayer` of each,
  by layer group;
- `source_head`: logits `[n, source classes]` of the classifier that came with the weights, and the
  probabilities that these should be, times the weights of samples if they have some;
- `target_features`, `target_logits`: what the head gets, or gives, of a batch without labels from
  the target data, and of the batch that trains;
- `target_domains`: what a discriminator of its own says of both, as `Judged`. It trains with the
  network, whose features get its gradient reversed.

Those of parameters are added once a step, whatever the batch is cut into.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field

from bench.methods.alignment import (
    CONFUSION_TEMPERATURE,
    certainty_weights,
    class_confusion,
    domain_loss,
    multi_kernel_discrepancy,
)
from bench.methods.plan import DISCRIMINATOR, HEAD, Plan, Rule, Stage, Term
from bench.suite.registry import Registry
from bench.suite.rules import Count

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PenaltyTraits:
    """What a penalty is computed from, and how those of pieces of a batch add up.

    `over_samples`: it is a "sum" or a "mean" over the samples of a batch; None: neither, so that no
    batch may be cut. Those of parameters look at no sample. `conditioned`: its discriminator sees
    features times probabilities of classes, and not features alone.
    """

    needs: Literal[
        "parameters",
        "features",
        "layers",
        "source_head",
        "target_features",
        "target_logits",
        "target_domains",
    ] = "parameters"
    over_samples: Literal["sum", "mean"] | None = None
    conditioned: bool = False

    @property
    def of_features(self) -> bool:
        """Whether it looks at what the network makes of samples."""
        return self.needs != "parameters"

    @property
    def of_target(self) -> bool:
        """Whether it looks at target data without labels."""
        return self.needs.startswith("target_")


PENALTIES: Registry[Callable[..., Tensor], PenaltyTraits] = Registry(
    "penalty", PenaltyTraits, takes=("parameters", "start")
)


def feature_terms(plan: Plan) -> tuple[Term, ...]:
    """The plan's penalties that look at features, but for those that weigh nothing.

    A plan without stages minimises nothing, and has none.
    """
    if not plan.stages:
        return ()
    return tuple(
        term
        for term in plan.penalties
        if PENALTIES.get(term.name).traits.of_features and dict(term.options)["weight"]
    )


def needs_source_head(plan: Plan) -> bool:
    """Whether the plan trains the classifier that came with the weights, beside the new one."""
    return any(PENALTIES.get(t.name).traits.needs == "source_head" for t in feature_terms(plan))


def aligns(plan: Plan) -> bool:
    """Whether the plan looks at target data without labels."""
    return any(PENALTIES.get(term.name).traits.of_target for term in feature_terms(plan))


@dataclass(frozen=True, kw_only=True)
class Discriminator:
    """The discriminator that a penalty trains: which, its `width`, what it sees, its rate."""

    penalty: str
    width: int
    lr: float
    conditioned: bool


def discriminators(plan: Plan) -> tuple[Discriminator, ...]:
    """Those that train beside the network, one for each penalty that has one."""
    found = []
    for term in feature_terms(plan):
        traits, options = PENALTIES.get(term.name).traits, dict(term.options)
        if traits.needs == "target_domains":
            found.append(
                Discriminator(
                    penalty=term.name,
                    width=options["width"],
                    lr=options["discriminator_lr"],
                    conditioned=traits.conditioned,
                )
            )
    return tuple(found)


def with_discriminators(plan: Plan) -> Plan:
    """The plan with rules for its discriminators: they train while the backbone does."""
    found = discriminators(plan)
    if not found:
        return plan

    def rules(stage: Stage) -> tuple[Rule, ...]:
        trains = any(
            rule.lr is not None and not rule.pattern.startswith(f"{HEAD}/") for rule in stage.rules
        )
        return tuple(
            Rule(pattern=f"{DISCRIMINATOR}/{own.penalty}.*", lr=own.lr if trains else None)
            for own in found
        )

    stages = (replace(stage, rules=(*rules(stage), *stage.rules)) for stage in plan.stages)
    return replace(plan, stages=tuple(stages))


def adversarial_epochs(plan: Plan) -> range:
    """The epochs, from 0, over which the reversed gradient grows: from the first in which
    discriminators train to the end; empty without any."""
    first = 0
    for stage in plan.stages:
        addresses = (f"{DISCRIMINATOR}/{own.penalty}." for own in discriminators(plan))
        if any(stage.rule_for(address).lr is not None for address in addresses):
            return range(first, plan.epochs)
        first += stage.epochs
    return range(0)


PenaltyWeight = Annotated[float, Field(ge=0, le=1e6)]


@PENALTIES.register("l2_sp")
def l2_sp(
    parameters: Mapping[str, Tensor],
    start: Mapping[str, Tensor],
    *,
    weight: Annotated[
        PenaltyWeight,
        Field(
            description="α in α/2 · ‖w − w⁰‖² + β/2 · ‖head‖², with w of the backbone, w⁰ its "
            "starting values. It replaces weight decay, so set that to 0.",
            examples=[0.01],
        ),
    ] = 0.01,
    head_weight: Annotated[
        PenaltyWeight | None,
        Field(
            description="β in the same formula, for the parameters of the head. null: equal to "
            "`weight`.",
            examples=[0.001],
        ),
    ] = None,
) -> Tensor:
    """Hold the backbone near its start, and the head near zero (L2-SP: Li et al., 2018).

    `weight` / 2 · ‖w − w⁰‖² + `head_weight` / 2 · ‖head‖², where `head_weight` defaults to `weight`
    (Li et al., "Explicit Inductive Bias for Transfer Learning", 2018). It replaces weight decay, so
    set that to 0.
    """
    import torch

    of_head = weight if head_weight is None else head_weight
    terms = [
        of_head / 2 * tensor.square().sum()
        if address.startswith(f"{HEAD}/")
        else weight / 2 * (tensor - start[address]).square().sum()
        for address, tensor in parameters.items()
    ]
    return torch.stack(terms).sum()


# Of features ------------------------------------------------------------------------------------


class StartLayer(NamedTuple):
    """What a layer of the frozen starting network gives for a batch `[n, channels, positions]`.

    `channel_weights` `[channels]` add up to 1: how much each matters there.
    """

    activations: Tensor
    channel_weights: Tensor


@PENALTIES.register("delta", needs="layers", over_samples="sum")
def delta(
    layers: Mapping[str, Tensor],
    start: Mapping[str, StartLayer],
    *,
    weight: Annotated[
        PenaltyWeight,
        Field(
            description="In weight/2 · Σ a_c ‖f_c − f⁰_c‖² / positions, over layers, samples and "
            "channels c. Beside it the paper has `l2_sp: {weight: 0, head_weight: 0.01}` and no "
            "weight decay.",
            examples=[0.01],
        ),
    ] = 0.01,
    attention: Annotated[
        bool,
        Field(
            description="Whether a_c is larger for channels that a classifier on the frozen "
            "network needs more; otherwise all are equal.",
            examples=[False],
        ),
    ] = True,
) -> Tensor:
    """Hold what layer groups make of images near their start (DELTA: Li et al., 2019).

    Li et al., "DELTA: Deep Learning Transfer using Feature Map with Attention". It takes the last
    convolution of each group of ResNet's blocks, of other groups their output, but not of the first
    (stem, patch embedding). The starting network is in evaluation mode: with dropout, or batch
    norms that normalise by the batch, the distance is not 0 at the start. a_c is the softmax over
    channels of the rise of the loss when one is set to zero, the layers behind it linearised.
    """
    import torch

    terms = []
    for name, activations in layers.items():
        before, counts = start[name]
        squares = (activations - before).square().sum(dim=2).sum(dim=0) / activations.shape[2]
        terms.append((counts * squares).sum() if attention else squares.mean())
    return weight / 2 * torch.stack(terms).sum()


@PENALTIES.register("bss", needs="features")
def bss(
    features: Tensor,
    targets: Tensor,
    *,
    weight: Annotated[
        PenaltyWeight,
        Field(
            description="η in η · Σ σ², over the `k` smallest singular values σ of a batch.",
            examples=[0.001],
        ),
    ] = 0.001,
    k: Annotated[
        Count, Field(description="How many singular values are made smaller.", examples=[2])
    ] = 1,
) -> Tensor:
    """Shrink the `k` smallest singular values of a batch's features (BSS: Chen et al., 2019).

    Chen et al., "Catastrophic Forgetting Meets Negative Transfer: Batch Spectral Shrinkage for Safe
    Transfer Learning": these directions transfer least.
    """
    import torch

    smallest: Tensor = torch.linalg.svdvals(features)[-k:]
    return weight * smallest.square().sum()


@PENALTIES.register("co_tuning", needs="source_head", over_samples="mean")
def co_tuning(
    logits: Tensor,
    targets: Tensor,
    *,
    weight: Annotated[
        PenaltyWeight,
        Field(
            description="λ: how much the classifier of the weights counts beside the new one.",
            examples=[2.3],
        ),
    ] = 2.3,
) -> Tensor:
    """Train the classifier of the weights too, on related classes (Co-Tuning: You et al., 2020).

    The mean cross-entropy with p(source class | class): the mean of its probabilities over the
    training images of the class, before training. You et al., "Co-Tuning for Transfer Learning".
    """
    return weight * -(targets * logits.log_softmax(dim=1)).sum() / targets.sum()


# Of target data ---------------------------------------------------------------------------------


@PENALTIES.register("dan", needs="target_features")
def dan(
    target: Tensor,
    source: Tensor,
    *,
    weight: Annotated[
        PenaltyWeight,
        Field(description="How much MK-MMD² of a batch counts beside the loss.", examples=[1.0]),
    ] = 1.0,
) -> Tensor:
    """Make features of target images without labels like those that train (DAN: Long et al., 2015).

    Long et al., "Learning Transferable Features with Deep Adaptation Networks".
    """
    return weight * multi_kernel_discrepancy(source, target)


@PENALTIES.register("mcc", needs="target_logits")
def mcc(
    target: Tensor,
    source: Tensor,
    *,
    weight: Annotated[
        PenaltyWeight,
        Field(description="How much the confusion of a batch counts.", examples=[1.0]),
    ] = 1.0,
    temperature: Annotated[
        float,
        Field(gt=0, le=1000, description="What logits are divided by.", examples=[2.5]),
    ] = CONFUSION_TEMPERATURE,
) -> Tensor:
    """Mix classes less in what is predicted for target images (MCC: Jin et al., 2020).

    Jin et al., "Minimum Class Confusion for Versatile Domain Adaptation".
    """
    return weight * class_confusion(target, temperature)


class Judged(NamedTuple):
    """Of some samples, what a discriminator says `[n]` (source is above 0), and class logits."""

    domains: Tensor
    logits: Tensor


DomainWeight = Annotated[
    PenaltyWeight,
    Field(
        description="How much the discriminator's loss counts: for itself, and reversed for the "
        "features.",
        examples=[1.0],
    ),
]
DiscriminatorWidth = Annotated[
    int,
    Field(ge=1, le=65_536, description="Width of its two hidden layers.", examples=[256]),
]
DiscriminatorLr = Annotated[
    float,
    Field(
        gt=0,
        le=1e6,
        description="The discriminator's learning rate is lr times this.",
        examples=[10.0],
    ),
]


@PENALTIES.register("dann", needs="target_domains")
def dann(
    target: Judged,
    source: Judged,
    *,
    weight: DomainWeight = 1.0,
    width: DiscriminatorWidth = 1024,
    discriminator_lr: DiscriminatorLr = 1.0,
) -> Tensor:
    """Make target samples hard to tell from those that train (DANN: Ganin et al., 2016).

    Ganin et al., "Domain-Adversarial Training of Neural Networks". A discriminator learns to tell
    their features apart; its gradient flows on reversed, times 2 / (1 + e^(−10p)) − 1 at the share
    p of training.
    """
    return weight * domain_loss(source.domains, target.domains)


@PENALTIES.register("cdan", needs="target_domains", conditioned=True)
def cdan(
    target: Judged,
    source: Judged,
    *,
    weight: DomainWeight = 1.0,
    width: DiscriminatorWidth = 1024,
    discriminator_lr: DiscriminatorLr = 1.0,
    entropy: Annotated[
        bool,
        Field(
            description="Whether samples count more whose class is more certain (CDAN+E).",
            examples=[True],
        ),
    ] = False,
) -> Tensor:
    """As `dann`, of features times probabilities of classes (CDAN: Long et al., 2018).

    Long et al., "Conditional Adversarial Domain Adaptation". What would be more than 4,096 numbers
    becomes 1,024 by random maps.
    """
    weights = None
    if entropy:
        import torch

        weights = certainty_weights(torch.cat([source.logits, target.logits]))
    return weight * domain_loss(source.domains, target.domains, weights)
