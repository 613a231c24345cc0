"""Strategies: named rules for reusing pretrained weights.

A strategy is one function from the backbone's layer groups (`LayerGroups`: input to output, the
last is `head`) and the number of epochs to a `Plan`. Add one by writing such a function here,
registered under its name, and a line for it in `tests/methods/test_strategies.py`.

Every strategy also takes what its plan minimises (`penalty`, `objective`) and how batch norms
normalise meanwhile (`stoch_norm`), which `make_plan` adds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from bench.errors import PlanError, counted, nearest
from bench.methods.objectives import OBJECTIVES
from bench.methods.penalties import PENALTIES, with_discriminators
from bench.methods.plan import (
    ADAPTER,
    FITTED,
    HEAD,
    LayerGroups,
    NormMode,
    Plan,
    Rule,
    Stage,
    Term,
    group_rule,
)
from bench.methods.prompts import NO_NAMES, NO_PROMPTS, TEMPLATES, Names, Prompts, Templates
from bench.suite import Entry, Settings, TargetTaskName
from bench.suite.registry import Registry
from bench.suite.rules import Count, broken_rule

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


PartNorm = Annotated[
    Literal["update", "fixed"],
    Field(
        description="Running statistics of batch norm: `update` them, or keep them `fixed`.",
        examples=["fixed"],
    ),
]
Dropout = Annotated[
    float,
    Field(
        ge=0,
        lt=1,
        description="Share of the adapter's activations that training sets to 0.",
        examples=[0.1],
    ),
]
Top = Annotated[
    Count | None,
    Field(
        description="Layer groups below the head that get an adapter; fewer than the backbone has. "
        "What is in front of them stays frozen, and its features are shared. null: all of them.",
        examples=[2],
    ),
]
Width = Annotated[int, Field(ge=1, le=65_536, description="Width of a bottleneck.", examples=[8])]


def _checked_penalty(given: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Penalties by name, each with all its options; a number is its weight."""
    if given is None:
        return None
    if not given:
        raise ValueError("must name a penalty, such as {l2_sp: 0.01}")
    checked = {}
    for name, options in given.items():
        chosen = options if isinstance(options, Mapping) else {"weight": options}
        checked[name] = _with_options(PENALTIES, name, chosen)
    return checked


def _checked_objective(given: str | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The objective's name and all its options."""
    if given is None:
        return None
    options = {"name": given} if isinstance(given, str) else dict(given)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise ValueError("must be a name, or a mapping with 'name' and its options")
    return {"name": name, **_with_options(OBJECTIVES, name, options)}


def _with_options(
    registry: Registry[Any, Any], name: str, options: Mapping[str, Any]
) -> dict[str, Any]:
    if name not in registry:
        raise ValueError(f"must be a known {registry.kind}, got {name!r}{nearest(name, registry)}")
    try:
        return registry.get(name).options.model_validate(options).model_dump()
    except ValidationError as error:
        (detail, *_) = error.errors()
        key = ".".join(map(str, detail["loc"]))
        raise ValueError(
            f"{name}: {key} {broken_rule(detail['msg'])}, got {detail['input']!r}"
        ) from None


Penalties = Annotated[
    dict[str, Any] | None,
    AfterValidator(_checked_penalty),
    Field(
        description="Penalties on parameters or features that are added to the loss: the weight, "
        "or the options, of each by its name. null: none.",
        examples=[{"l2_sp": 0.01}, {"l2_sp": {"weight": 0.01, "head_weight": 0.001}}],
    ),
]
ObjectiveOption = Annotated[
    str | dict[str, Any] | None,
    AfterValidator(_checked_objective),
    Field(
        description="The loss of a sample that is minimised. null: that of the suite's task, which "
        "is cross-entropy where it predicts classes.",
        examples=["focal", {"name": "focal", "gamma": 1.0}],
    ),
]


StochNorm = Annotated[
    Annotated[float, Field(ge=0, le=1)] | None,
    Field(
        description="Probability with which a channel of a batch norm that trains is normalised by "
        "the batch, in each step; otherwise by running statistics (StochNorm: Kou et al., "
        "Stochastic Normalization, 2020, with 0.5). null: always, which is the same as 1.",
        examples=[0.5],
    ),
]


@dataclass(frozen=True, kw_only=True)
class StrategyTraits:
    """What a suite needs to know of a strategy.

    `weights` "ignored": it starts at random whatever the suite gives. `why_weights`: what it does
    that makes no sense without weights. `head`: the head that it always has. `trains` False: it
    trains nothing, so that schedule and augmentation do not apply; `fits`: its head is found at
    once. `chooses`: the option for which validation chooses a value unless it is given.
    `reads`: it compares samples with "texts" of their classes, which image–text models and text
    encoders can, or learns such texts ("text_tower"), which image–text models alone can.
    `target_tasks`: those that it is defined for; None: all.

    For people: the `paper` that it comes from, what it `needs`, and the `typical_lr`, with the
    optimiser that it belongs to.
    """

    weights: Literal["ignored"] | None = None
    why_weights: str | None = None
    head: str | None = None
    trains: bool = True
    fits: bool = False
    chooses: str | None = None
    reads: Literal["texts", "text_tower"] | None = None
    target_tasks: tuple[TargetTaskName, ...] | None = None
    paper: str | None = None
    needs: str = "weights"
    typical_lr: str | None = None

    @property
    def facts(self) -> Mapping[str, str]:
        """What is told of it beside its options, by what it is."""
        told = {"paper": self.paper, "needs": self.needs, "typical lr": self.typical_lr}
        return {what: text for what, text in told.items() if text}


STRATEGIES: Registry[Strategy, StrategyTraits] = Registry(
    "strategy",
    StrategyTraits,
    takes=("groups", "epochs"),
    shared_options={
        "penalty": (Penalties, None),
        "objective": (ObjectiveOption, None),
        "stoch_norm": (StochNorm, None),
    },
)


def make_plan(strategy: Entry, groups: LayerGroups, settings: Settings) -> Plan:
    """The plan of a suite's strategy, with what else decides about what trains and how.

    That are the objective, the penalties and the `stoch_norm` that it names, and `weight_decay_on`.

    Raises `PlanError` for options that fit neither the backbone nor the number of epochs.
    """
    options = dict(strategy.options)
    penalties, objective, stoch_norm = (options.pop(key, None) for key in STRATEGIES.shared_options)
    plan = STRATEGIES.get(strategy.name).function(groups, settings.epochs, **options)
    terms = tuple(_term(name, own) for name, own in (penalties or {}).items())
    if objective is not None:
        if plan.pairs is not None:
            raise PlanError(f"{strategy.name}: it minimises distances of pairs, not an objective")
        own = {key: value for key, value in objective.items() if key != "name"}
        plan = replace(plan, objective=_term(objective["name"], own))
    if terms:
        plan = replace(plan, penalties=(*plan.penalties, *terms))
    plan = with_discriminators(plan)
    if settings.weight_decay_on == "matrices":
        plan = plan.without_vector_decay()
    return plan if stoch_norm is None else replace(plan, stoch_norm=stoch_norm)


def _term(name: str, options: Mapping[str, Any]) -> Term:
    return Term(name=name, options=tuple(sorted(options.items())))


FROZEN = Rule(pattern="*", lr=None)
FREEZES = "freezes the backbone, and a random one would never learn"


def _one_stage(epochs: int, *rules: Rule) -> Plan:
    return Plan(stages=(Stage(epochs=epochs, rules=rules),))


def _everything(lr: float, norm: NormMode | None = None) -> Rule:
    return Rule(pattern="*", lr=lr, norm=norm)


def _only(groups: Iterable[str]) -> tuple[Rule, ...]:
    """Rules that train `groups` and freeze the rest."""
    return (*(group_rule(group, 1.0) for group in groups), FROZEN)


@STRATEGIES.register(
    "from_scratch",
    weights="ignored",
    paper="He et al., Rethinking ImageNet Pre-training, 2019, arXiv 1811.08883",
    needs="nothing",
    typical_lr="0.1 × batch_size / 256 with SGD, 1e-3 with AdamW",
)
def from_scratch(groups: Sequence[str], epochs: int) -> Plan:
    """Train everything from a random start: the baseline for pretraining."""
    return _one_stage(epochs, _everything(1.0))


@STRATEGIES.register(
    "pretrained_head",
    trains=False,
    head="pretrained",
    why_weights="uses the classifier that comes with the weights",
    paper="none: the network as it was published",
    needs="weights with a classifier, and a class_map",
    typical_lr="none: nothing trains",
)
def pretrained_head(groups: Sequence[str], epochs: int) -> Plan:
    """Train nothing: the pretrained classifier itself, its classes mapped to the data set's."""
    return Plan(stages=())


@STRATEGIES.register(
    "linear_probe",
    head="linear",
    why_weights=FREEZES,
    paper="Alain and Bengio, Understanding Intermediate Layers Using Linear Classifier Probes, "
    "2016, arXiv 1610.01644",
    typical_lr="1e-5 to 0.1, × batch_size / 256, with SGD",
)
def linear_probe(groups: Sequence[str], epochs: int) -> Plan:
    """Freeze the backbone, train a linear classifier on its features."""
    return _one_stage(epochs, *_only([HEAD]))


@STRATEGIES.register(
    "mlp_probe",
    head="mlp",
    why_weights=FREEZES,
    paper="Hewitt and Liang, Designing and Interpreting Probes with Control Tasks, 2019, arXiv "
    "1909.03368",
    typical_lr="1e-3 with AdamW",
)
def mlp_probe(groups: Sequence[str], epochs: int) -> Plan:
    """Freeze the backbone, train a two-layer perceptron on its features."""
    return _one_stage(epochs, *_only([HEAD]))


@STRATEGIES.register(
    "full_finetune",
    paper="Kornblith et al., Do Better ImageNet Models Transfer Better?, 2019, arXiv 1805.08974",
    typical_lr="1e-5 to 1e-4 with AdamW, 1e-3 to 1e-2 with SGD",
)
def full_finetune(groups: Sequence[str], epochs: int, *, norm: Norm = "update") -> Plan:
    """Train everything at one learning rate; `norm: fixed` keeps the norm statistics."""
    return _one_stage(epochs, _everything(1.0, norm))


@STRATEGIES.register(
    "two_rates",
    paper="Long et al., Learning Transferable Features with Deep Adaptation Networks, 2015, arXiv "
    "1502.02791",
    typical_lr="1e-2 with SGD; on transformers 1e-4 to 1e-3 with AdamW",
)
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


@STRATEGIES.register(
    "layerwise_decay",
    paper="Howard and Ruder, ULMFiT, 2018, arXiv 1801.06146",
    typical_lr="5e-4 × batch_size / 256 with AdamW",
)
def layerwise_decay(
    groups: Sequence[str],
    epochs: int,
    *,
    decay: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="The group k steps below the head trains at lr × decay^k.",
            examples=[0.75],
        ),
    ] = 0.75,
) -> Plan:
    """Multiply the learning rate by `decay` for every layer group away from the head.

    What its paper calls discriminative fine-tuning.
    """
    depths = range(len(groups) - 1, -1, -1)
    rules = [group_rule(g, decay**depth) for g, depth in zip(groups, depths, strict=True)]
    return _one_stage(epochs, *rules)


@STRATEGIES.register(
    "partial_finetune",
    why_weights=FREEZES,
    paper="Yosinski et al., How Transferable Are Features in Deep Neural Networks?, 2014, arXiv "
    "1411.1792",
    typical_lr="1e-3 to 1e-2 with SGD; on transformers 1e-5 to 1e-4 with AdamW",
)
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
    return _one_stage(epochs, *_only(_top(groups, top, "partial_finetune")))


def _top(groups: Sequence[str], top: int, strategy: str) -> Sequence[str]:
    """The names of the head and of so many groups below it."""
    if top >= len(groups):
        raise PlanError(
            f"{strategy}: top must be below the backbone's {counted(len(groups), 'group')} "
            f"({', '.join(groups)}), got {top}"
        )
    return groups[-1 - top :]


@STRATEGIES.register(
    "gradual_unfreeze",
    why_weights=FREEZES,
    paper="Howard and Ruder, ULMFiT, 2018, arXiv 1801.06146",
    typical_lr="1e-2 with Adam; on transformers 1e-5 to 1e-4 with AdamW",
)
def gradual_unfreeze(
    groups: Sequence[str],
    epochs: int,
    *,
    every: Annotated[
        Count, Field(description="Epochs from one group to the next.", examples=[2])
    ] = 1,
) -> Plan:
    """Start with the head alone and unfreeze one more group from the top every `every` epochs.

    Groups whose turn never comes stay frozen.
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


@STRATEGIES.register(
    "lp_ft",
    why_weights=FREEZES,
    paper="Kumar et al., Fine-Tuning Can Distort Pretrained Features and Underperform "
    "Out-of-Distribution, 2022, arXiv 2202.10054",
    typical_lr="3e-7 to 1e-2 after the probe, with SGD; on transformers 1e-3 with AdamW",
)
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

    `probe_epochs` is half of all epochs by default.
    """
    probe = probe_epochs or epochs // 2
    if not 1 <= probe < epochs:
        raise PlanError(
            f"lp_ft: probe_epochs must leave at least one of {counted(epochs, 'epoch')} to each "
            f"stage, got {probe}"
        )
    return Plan(
        stages=(
            Stage(epochs=probe, rules=_only([HEAD])),
            Stage(epochs=epochs - probe, rules=(_everything(finetune_multiplier),)),
        )
    )


# A part of the backbone ------------------------------------------------------------------------


@STRATEGIES.register(
    "surgical",
    why_weights=FREEZES,
    paper="Lee et al., Surgical Fine-Tuning Improves Adaptation to Distribution Shifts, 2023, "
    "arXiv 2210.11466",
    needs="weights; validation to choose the group by",
    typical_lr="1e-5 to 1e-3 with Adam",
)
def surgical(
    groups: Sequence[str],
    epochs: int,
    *,
    group: Annotated[
        Count,
        Field(
            description="Which layer group trains beside the head: 1 is next to the input. "
            "`bench tune` chooses on validation: `tune: {space: {strategy: {surgical: {group: "
            "[1, 2, 3, 4, 5]}}}, sampler: grid}`.",
            examples=[1],
        ),
    ] = 1,
) -> Plan:
    """Train one layer group and the head, freeze the rest.

    Its paper: the first block where inputs look different, the last where labels mean something
    else.
    """
    if group >= len(groups):
        raise PlanError(
            f"surgical: group must be at most {len(groups) - 1} on this backbone "
            f"({', '.join(groups[:-1])}), got {group}"
        )
    return _one_stage(epochs, *_only([groups[group - 1], HEAD]))


@STRATEGIES.register(
    "auto_rgn",
    paper="Lee et al., Surgical Fine-Tuning Improves Adaptation to Distribution Shifts, 2023, "
    "arXiv 2210.11466",
    typical_lr="1e-5 to 1e-3 with Adam",
)
def auto_rgn(
    groups: Sequence[str],
    epochs: int,
    *,
    batches: Annotated[
        Count,
        Field(
            description="Training batches that gradient norms are averaged over at the start of "
            "each epoch; the more, the longer that takes.",
            examples=[5],
        ),
    ] = 5,
    norm: Norm = "update",
) -> Plan:
    """Train everything, each layer group at lr × RGN / the largest RGN: ‖gradient‖ / ‖parameters‖.

    Measured anew at the start of each epoch. The group that has to change most for its size trains
    at lr, the others more slowly.
    """
    return replace(_one_stage(epochs, _everything(1.0, norm)), gradient_batches=batches)


@STRATEGIES.register(
    "freeze_embed",
    why_weights=FREEZES,
    paper="Kumar et al., How to Fine-Tune Vision Models with SGD, 2022, arXiv 2211.09359",
    typical_lr="3e-5 to 1e-2 with SGD",
)
def freeze_embed(groups: Sequence[str], epochs: int) -> Plan:
    """Freeze the first layer group (stem, patch embedding), train the rest."""
    return _one_stage(epochs, group_rule(groups[0], None), _everything(1.0))


@STRATEGIES.register(
    "bitfit",
    why_weights=FREEZES,
    paper="Ben Zaken et al., BitFit, 2022, arXiv 2106.10199",
    typical_lr="1e-3 with AdamW, ten times that of fine-tuning",
)
def bitfit(groups: LayerGroups, epochs: int, *, norm: PartNorm = "fixed") -> Plan:
    """Train all biases, the shifts of norm layers among them, and the head; freeze the rest."""
    biases = Rule(pattern="*bias", lr=1.0)
    return _one_stage(epochs, *_statistics(groups, norm), group_rule(HEAD, 1.0), biases, FROZEN)


@STRATEGIES.register(
    "norm_only",
    why_weights=FREEZES,
    paper="Frankle et al., Training BatchNorm and Only BatchNorm, 2021, arXiv 2003.00152",
    needs="weights of a backbone with norm layers",
    typical_lr="1e-3 to 1e-2 with AdamW",
)
def norm_only(groups: LayerGroups, epochs: int, *, norm: PartNorm = "update") -> Plan:
    """Train scales and shifts of the norm layers, and the head; freeze the rest."""
    own = (*_statistics(groups, norm), *_norms(groups))
    return _one_stage(epochs, *own, group_rule(HEAD, 1.0), FROZEN)


def _norms(groups: LayerGroups) -> tuple[Rule, ...]:
    """Rules that train the parameters of norm layers."""
    return tuple(Rule(pattern=address, lr=1.0) for address in groups.norm_parameters)


def _statistics(groups: LayerGroups, norm: NormMode) -> tuple[Rule, ...]:
    """Rules for the running statistics alone: they match norm layers, and no parameter."""
    return tuple(Rule(pattern=address, lr=1.0, norm=norm) for address in groups.norms)


# Parameters beside those of the backbone -------------------------------------------------------


def _adapted(
    groups: Sequence[str], epochs: int, name: str, *rules: Rule, top: int | None, **options: Any
) -> Plan:
    """Train the adapter of that name and the head, freeze the backbone but for `rules`."""
    if top is not None:
        _top(groups, top, name)
        options["top"] = top
    added = Rule(pattern=f"*{ADAPTER}.*", lr=1.0)
    plan = _one_stage(epochs, *rules, added, group_rule(HEAD, 1.0), FROZEN)
    return replace(plan, adapter=_term(name, options))


@STRATEGIES.register(
    "lora",
    why_weights=FREEZES,
    paper="Hu et al., LoRA, 2022, arXiv 2106.09685",
    typical_lr="1e-3 with AdamW",
)
def lora(
    groups: Sequence[str],
    epochs: int,
    *,
    r: Annotated[
        int,
        Field(ge=1, le=1024, description="Rank of the matrix that is added.", examples=[8]),
    ] = 8,
    alpha: Annotated[
        float,
        Field(gt=0, le=1e6, description="What is added counts α/r times.", examples=[16.0]),
    ] = 8.0,
    dropout: Dropout = 0.0,
    layers: Annotated[
        Literal["auto", "attention", "all"],
        Field(
            description="Beside what: queries and values of `attention`, or `all` linear layers "
            "and convolutions but depthwise ones; of those with groups such whose number divides "
            "r. `auto`: attention where there is some.",
            examples=["all"],
        ),
    ] = "auto",
    top: Top = None,
) -> Plan:
    """Add B·A, a matrix of rank `r`, to weights that stay frozen; train it and the head."""
    options = {"r": r, "alpha": alpha, "dropout": dropout, "layers": layers}
    return _adapted(groups, epochs, "lora", top=top, **options)


@STRATEGIES.register(
    "ssf",
    why_weights=FREEZES,
    paper="Lian et al., Scaling and Shifting Your Features, 2022, arXiv 2210.08823",
    typical_lr="1e-3 with AdamW",
)
def ssf(
    groups: Sequence[str],
    epochs: int,
    *,
    spread: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Standard deviation of scales around 1 and shifts around 0 at the start; "
            "0: the backbone as it is.",
            examples=[0.0],
        ),
    ] = 0.02,
    top: Top = None,
) -> Plan:
    """Train a scale and a shift behind every layer of the frozen backbone, and the head."""
    return _adapted(groups, epochs, "ssf", top=top, spread=spread)


@STRATEGIES.register(
    "houlsby",
    why_weights=FREEZES,
    paper="Houlsby et al., Parameter-Efficient Transfer Learning for NLP, 2019, arXiv 1902.00751",
    needs="weights of a transformer",
    typical_lr="3e-4 with Adam",
)
def houlsby(groups: LayerGroups, epochs: int, *, width: Width = 64, top: Top = None) -> Plan:
    """Train bottlenecks behind attention and MLP of each block, all layer norms, and the head."""
    own = groups if top is None else _top(groups, top, "houlsby")
    norms = (rule for rule in _norms(groups) if rule.pattern.partition("/")[0] in own)
    return _adapted(groups, epochs, "houlsby", *norms, top=top, width=width)


@STRATEGIES.register(
    "adaptformer",
    why_weights=FREEZES,
    paper="Chen et al., AdaptFormer, 2022, arXiv 2205.13535",
    needs="weights of a transformer",
    typical_lr="0.1 × batch_size / 256 with SGD",
)
def adaptformer(
    groups: Sequence[str],
    epochs: int,
    *,
    width: Width = 64,
    scale: Annotated[
        float,
        Field(gt=0, le=100, description="What is added counts so many times.", examples=[0.1]),
    ] = 0.1,
    dropout: Dropout = 0.1,
    top: Top = None,
) -> Plan:
    """Train a bottleneck beside the MLP of each block, and the head; freeze the backbone."""
    options = {"width": width, "scale": scale, "dropout": dropout}
    return _adapted(groups, epochs, "adaptformer", top=top, **options)


@STRATEGIES.register(
    "vpt",
    why_weights=FREEZES,
    paper="Jia et al., Visual Prompt Tuning, 2022, arXiv 2203.12119",
    needs="weights of a transformer that reads a class token, or of BERT and its kin",
    typical_lr="0.05 to 50, × batch_size / 256, with SGD",
)
def vpt(
    groups: Sequence[str],
    epochs: int,
    *,
    tokens: Annotated[
        int,
        Field(
            ge=1,
            le=10_000,
            description="Trained tokens among the others.",
            examples=[50],
        ),
    ] = 10,
    deep: Annotated[
        bool,
        Field(
            description="New ones in front of every block, not of the first alone.",
            examples=[False],
        ),
    ] = True,
    top: Top = None,
) -> Plan:
    """Train tokens that are put among those of each sample, and the head; freeze the backbone."""
    return _adapted(groups, epochs, "vpt", top=top, tokens=tokens, deep=deep)


@STRATEGIES.register(
    "side_tuning",
    why_weights=FREEZES,
    paper="Zhang et al., Side-Tuning, 2020, arXiv 1912.13503",
    typical_lr="1e-4 to 1e-3 with Adam",
)
def side_tuning(
    groups: Sequence[str],
    epochs: int,
    *,
    side: Annotated[
        Literal["copy", "small"],
        Field(
            description="What trains beside the backbone: a `copy` of it, or a `small` network of "
            "three convolutions from a random start, for images alone.",
            examples=["small"],
        ),
    ] = "copy",
) -> Plan:
    """Train a network S beside the frozen backbone B, their mix σ(a)·B + (1−σ(a))·S, and the head.

    a starts at 0. B runs without dropout and with fixed statistics, S as networks that train.
    """
    return _adapted(groups, epochs, "side_tuning", top=None, side=side)


# Heads that are fitted at once ------------------------------------------------------------------


_CLASSES: tuple[TargetTaskName, ...] = ("classification",)


def _fits(
    name: str,
    *,
    paper: str,
    needs: str = "weights",
    chooses: str | None = None,
    target_tasks: tuple[TargetTaskName, ...] | None = _CLASSES,
    reads: Literal["texts", "text_tower"] | None = None,
    why_weights: str = FREEZES,
    typical_lr: str = "none: its head is fitted at once",
) -> Callable[[Strategy], Strategy]:
    """Registers a strategy that fits a head on features of the frozen backbone."""
    return STRATEGIES.register(
        name,
        trains=False,
        fits=True,
        head=FITTED,
        why_weights=why_weights,
        chooses=chooses,
        reads=reads,
        target_tasks=target_tasks,
        paper=paper,
        needs=needs,
        typical_lr=typical_lr,
    )


def _fitted(name: str, **options: Any) -> Plan:
    return Plan(stages=(), fit=_term(name, options))


Temperature = Annotated[
    float,
    Field(
        gt=0,
        le=100,
        description="Similarities, which lie in [-1, 1], are divided by this.",
        examples=[0.1],
    ),
]
InversePenalty = Annotated[
    float | None,
    Field(
        gt=0,
        le=1e12,
        description="What the sum of the losses counts beside the penalty ½‖w‖², as scikit-learn's "
        "C. null: validation chooses.",
        examples=[1.0],
    ),
]


@_fits(
    "knn",
    paper="Wu et al., Unsupervised Feature Learning via Non-Parametric Instance "
    "Discrimination, 2018, arXiv 1805.01978",
    chooses="k",
    target_tasks=None,
)
def knn(
    groups: Sequence[str],
    epochs: int,
    *,
    k: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000_000,
            description="Neighbours that vote. null: validation chooses of 10, 20, 100, 200.",
            examples=[20],
        ),
    ] = None,
    temperature: Temperature = 0.07,
) -> Plan:
    """Let the k training samples with the nearest features vote; nothing is trained.

    They are near by cosine, and each vote counts exp(similarity / temperature).
    """
    return _fitted("knn", k=k, temperature=temperature)


@_fits(
    "class_mean",
    paper="Mensink et al., Distance-Based Image Classification, 2013",
)
def class_mean(groups: Sequence[str], epochs: int, *, temperature: Temperature = 0.07) -> Plan:
    """Take the class whose mean of features is nearest by cosine; nothing is trained."""
    return _fitted("class_mean", temperature=temperature)


@_fits(
    "ridge",
    paper="Zhai et al., Scaling Vision Transformers, 2022, arXiv 2106.04560",
    chooses="l2",
    target_tasks=None,
)
def ridge(
    groups: Sequence[str],
    epochs: int,
    *,
    l2: Annotated[
        float | None,
        Field(
            gt=0,
            le=1e12,
            description="Weight of the penalty ‖w‖² beside the sum of squares. null: validation "
            "chooses of the powers of 2 from 2⁻¹⁰ to 2¹⁹.",
            examples=[1024.0],
        ),
    ] = None,
) -> Plan:
    """Solve ridge regression on standardised features, for targets of ±1 or numbers.

    As the few-shot evaluation of its paper. Its scores are no probabilities: `after: temperature`
    calibrates them.
    """
    return _fitted("ridge", l2=l2)


@_fits(
    "logistic",
    paper="Radford et al., Learning Transferable Visual Models From Natural Language "
    "Supervision, 2021, arXiv 2103.00020",
    needs="weights; scikit-learn",
    chooses="c",
)
def logistic(groups: Sequence[str], epochs: int, *, c: InversePenalty = None) -> Plan:
    """Fit logistic regression with an L2 penalty to the end, without a learning rate.

    The linear evaluation of CLIP and DINOv2: L-BFGS along 45 values of C from 1e-6 to 1e5.
    """
    return _fitted("logistic", c=c)


@STRATEGIES.register(
    "setfit",
    head=FITTED,
    fits=True,
    why_weights="starts from what the weights know of similar samples",
    target_tasks=_CLASSES,
    chooses="c",
    paper="Tunstall et al., Efficient Few-Shot Learning Without Prompts, 2022, arXiv 2209.11055",
    needs="weights; scikit-learn",
    typical_lr="2e-5 with AdamW, one epoch of 20 iterations",
)
def setfit(
    groups: Sequence[str],
    epochs: int,
    *,
    iterations: Annotated[
        int,
        Field(
            ge=1,
            le=10_000,
            description="Pairs that each training sample begins in an epoch with samples of its "
            "class, and as many with others. An epoch passes 4 times as many samples as there are, "
            "times this.",
            examples=[20],
        ),
    ] = 5,
    c: InversePenalty = 1.0,
    norm: Norm = "update",
) -> Plan:
    """Train everything until samples of one class are alike by cosine, others not; fit a head.

    Batches are pairs, of one class or two by halves; the head is logistic regression on features
    of the backbone as it is after each epoch.
    """
    plan = _one_stage(epochs, _everything(1.0, norm))
    return replace(plan, pairs=iterations, fit=_term("logistic", {"c": c}))


@_fits(
    "svm",
    paper="Cortes and Vapnik, Support-Vector Networks, 1995",
    needs="weights; scikit-learn",
    chooses="c",
)
def svm(
    groups: Sequence[str],
    epochs: int,
    *,
    kernel: Annotated[
        Literal["linear", "rbf"],
        Field(
            description="`linear`, or Gaussian kernels (`rbf`) with gamma 1 / number of features.",
            examples=["rbf"],
        ),
    ] = "linear",
    c: InversePenalty = None,
) -> Plan:
    """Fit support vector machines on standardised features, one class against the others.

    Along ten values of C from 1e-6 to 1e3. Its scores are no probabilities: `after: temperature`
    calibrates them.
    """
    return _fitted("svm", kernel=kernel, c=c)


@_fits(
    "forest",
    paper="Breiman, Random Forests, 2001",
    needs="weights; scikit-learn",
    target_tasks=None,
)
def forest(
    groups: Sequence[str],
    epochs: int,
    *,
    trees: Annotated[
        int, Field(ge=1, le=10_000, description="How many trees.", examples=[300])
    ] = 100,
    min_leaf: Annotated[
        int,
        Field(ge=1, le=1_000_000, description="Training samples that a leaf has.", examples=[5]),
    ] = 1,
) -> Plan:
    """Grow a random forest on the features.

    √features are drawn for each split.
    """
    return _fitted("forest", trees=trees, min_leaf=min_leaf)


@_fits(
    "linear_sweep",
    paper="Oquab et al., DINOv2, 2023, arXiv 2304.07193",
    chooses="lr",
)
def linear_sweep(
    groups: Sequence[str],
    epochs: int,
    *,
    steps: Annotated[
        int,
        Field(
            ge=1, le=1_000_000, description="Steps of SGD; the paper has 12,500.", examples=[12_500]
        ),
    ] = 1250,
    batch: Annotated[
        int,
        Field(ge=2, le=100_000, description="Samples of a step.", examples=[256]),
    ] = 128,
    blocks: Annotated[
        int,
        Field(
            ge=1,
            le=100,
            description="Probes read the last block, or so many last ones; of transformers without "
            "or with the mean of patches, of CNNs the means of the last groups' maps. 1: what is "
            "in front of the head, alone.",
            examples=[1],
        ),
    ] = 4,
) -> Plan:
    """Train linear probes at 13 learning rates on several features; validation chooses one.

    As the linear evaluation of its paper, but on kept features, without augmentation: SGD, momentum
    0.9, cosine, rates of 1e-5 to 0.1 × batch / 256.
    """
    plan = _fitted("linear_sweep", steps=steps, batch=batch)
    return plan if blocks == 1 else replace(plan, adapter=_term("linear_sweep", {"blocks": blocks}))


# Heads that start from texts ---------------------------------------------------------------------


COMPARES = "compares samples with texts, and random weights know neither"
IMAGE_TEXT = "weights of an image–text model (extra clip)"


@_fits(
    "zero_shot",
    paper="Radford et al., Learning Transferable Visual Models From Natural Language "
    "Supervision, 2021, arXiv 2103.00020",
    needs=f"{IMAGE_TEXT} or a text encoder",
    reads="texts",
    why_weights=COMPARES,
    typical_lr="none: nothing trains",
)
def zero_shot(
    groups: Sequence[str],
    epochs: int,
    *,
    templates: Templates = TEMPLATES,
    names: Names = NO_NAMES,
    prompts: Prompts = NO_PROMPTS,
) -> Plan:
    """Take the class whose texts are most alike to the sample; nothing is trained.

    A class is the direction of the mean of its texts' embeddings; logits are cosines times the
    scale of the model, or over 0.07 where it has none.
    """
    return _fitted("zero_shot", templates=templates, names=names, prompts=prompts)


@_fits(
    "tip_adapter",
    paper="Zhang et al., Tip-Adapter, 2022, arXiv 2207.09519",
    needs=f"{IMAGE_TEXT} or a text encoder",
    chooses="alpha",
    reads="texts",
    why_weights=COMPARES,
    typical_lr="1e-3 with AdamW, where keys train",
)
def tip_adapter(
    groups: Sequence[str],
    epochs: int,
    *,
    alpha: Annotated[
        float | None,
        Field(
            ge=0,
            le=1000,
            description="What the training samples count beside the texts; 0: nothing. null: "
            "validation chooses, from 0 to 13.",
            examples=[2.0],
        ),
    ] = None,
    beta: Annotated[
        float | None,
        Field(
            gt=0,
            le=1000,
            description="How fast a training sample counts less as it is less alike. null: "
            "validation chooses, from 0.1 to 13.",
            examples=[1.0],
        ),
    ] = None,
    train: Annotated[
        int,
        Field(
            ge=0,
            le=10_000,
            description="Epochs in which the keys train, which are the training samples' features "
            "at first (Tip-Adapter-F, with 20). 0: they stay.",
            examples=[20],
        ),
    ] = 0,
    rate: Annotated[
        float,
        Field(gt=0, le=1, description="Learning rate of the keys.", examples=[1e-3]),
    ] = 1e-3,
    templates: Templates = TEMPLATES,
    names: Names = NO_NAMES,
    prompts: Prompts = NO_PROMPTS,
) -> Plan:
    """Add to zero-shot logits the classes of the training samples that are alike.

    Logits are those of `zero_shot` + α · exp(−β(1 − f·Kᵀ)) · one-hot, where the rows of K are
    features of the training samples, without augmentation. α = 0 is `zero_shot`.
    """
    options = {"alpha": alpha, "beta": beta, "train": train, "rate": rate}
    return _fitted("tip_adapter", **options, templates=templates, names=names, prompts=prompts)


@_fits(
    "coop",
    paper="Zhou et al., Learning to Prompt for Vision-Language Models, 2022, arXiv 2109.01134",
    needs=IMAGE_TEXT,
    reads="text_tower",
    why_weights=COMPARES,
    typical_lr="2e-3 with SGD",
)
def coop(
    groups: Sequence[str],
    epochs: int,
    *,
    context: Annotated[
        int,
        Field(
            ge=1,
            le=1000,
            description="Vectors that are learned, in front of the name of each class.",
            examples=[4],
        ),
    ] = 16,
    train: Annotated[
        int,
        Field(
            ge=1,
            le=10_000,
            description="Epochs; the paper has 50 for 1 sample a class, 100 up to 4, 200 up to 16.",
            examples=[200],
        ),
    ] = 50,
    batch: Annotated[
        int, Field(ge=1, le=100_000, description="Samples of a step.", examples=[32])
    ] = 32,
    rate: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="Learning rate of SGD; the first epoch has 1e-5, then a cosine to 0.",
            examples=[2e-3],
        ),
    ] = 2e-3,
    names: Names = NO_NAMES,
) -> Plan:
    """Learn the words in front of the names of classes; both towers stay as they are.

    On features of the training samples without augmentation, to the last step.
    """
    options = {"context": context, "train": train, "batch": batch, "rate": rate, "names": names}
    return _fitted("coop", **options)
