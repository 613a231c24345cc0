"""Plans: what trains when. A strategy returns one; the trainer interprets it.

A plan is an ordered list of stages over epochs. Each stage holds one ordered table of rules over
the *addresses* of parameters and norm layers: `group/name`, for example `layer4/0.bn1.weight`. The
first rule that matches an address decides; an address that no rule covers is an error. A plan also
says what is minimised: its objective, and penalties.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

from bench.errors import PlanError, counted

HEAD = "head"
ADAPTER = "adapter"
"""What the module of an adapter is called, below the layer whose output it changes."""

DISCRIMINATOR = "discriminator"
"""The layer group of what tells source from target while a network trains, by its penalty."""

FITTED = "fitted"
"""The head of a plan that fits one."""

NormMode = Literal["update", "fixed"]


class LayerGroups(tuple[str, ...]):
    """The names of a backbone's layer groups, input to output, the last is `head`.

    `norms` are the addresses of its normalisation layers of every kind that have parameters, those
    of the head left out, and `norm_parameters` the addresses of these.
    """

    norms: tuple[str, ...]
    norm_parameters: tuple[str, ...]

    def __new__(
        cls,
        names: Iterable[str],
        norms: Iterable[str] = (),
        norm_parameters: Iterable[str] = (),
    ) -> LayerGroups:
        """The groups with these names and these norms."""
        groups = super().__new__(cls, names)
        groups.norms, groups.norm_parameters = tuple(norms), tuple(norm_parameters)
        return groups


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What happens to the parameters and norm layers whose address matches `pattern`.

    `lr` multiplies the trial's learning rate; `None` freezes. A multiplier of 0 is not frozen: the
    parameters stay where they are, but they take part in the gradient norm and their norm
    statistics move. `norm` says whether running statistics are updated from batches or stay fixed
    (and are what normalises); `None` means `update` where the rule trains, else `fixed`.
    `weight_decay` multiplies the trial's weight decay, `vector_decay` that of parameters with at
    most one dimension: biases, and the scales and shifts of norm layers.
    """

    pattern: str
    lr: float | None
    norm: NormMode | None = None
    weight_decay: float = 1.0
    vector_decay: float = 1.0

    def __post_init__(self) -> None:
        if self.lr is not None and not 0 <= self.lr < float("inf"):
            raise PlanError(f"an LR multiplier must be finite and at least 0, got {self.lr}")
        for decay in (self.weight_decay, self.vector_decay):
            if not 0 <= decay < float("inf"):
                raise PlanError(f"a decay multiplier must be finite and at least 0, got {decay}")
        if self.lr is None and self.norm == "update":
            raise PlanError(f"rule {self.pattern!r} freezes, so its norm statistics must be fixed")

    @property
    def norm_mode(self) -> NormMode:
        """`norm` with its default filled in."""
        if self.norm is not None:
            return self.norm
        return "fixed" if self.lr is None else "update"

    def decay(self, dimensions: int) -> float:
        """The multiplier of the weight decay of a parameter with so many dimensions."""
        return self.vector_decay if dimensions <= 1 else self.weight_decay


@dataclass(frozen=True, kw_only=True)
class Stage:
    """`epochs` epochs under one table of rules."""

    epochs: int
    rules: tuple[Rule, ...]

    def rule_for(self, address: str) -> Rule:
        """The first rule that matches `address`; raises `PlanError` if none does."""
        for rule in self.rules:
            if fnmatchcase(address, rule.pattern):
                return rule
        patterns = ", ".join(rule.pattern for rule in self.rules)
        raise PlanError(f"no rule of the plan covers {address!r} (patterns: {patterns})")


@dataclass(frozen=True, kw_only=True)
class Term:
    """A registered objective, penalty, adapter or fit with all its options."""

    name: str
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The stages of a trial, in order, and what they minimise.

    A plan without stages trains nothing, but for the head that its `fit` finds at once, from
    features of the backbone as it is. With `pairs` it has both: batches are pairs of samples, of
    which every sample begins so many with its own class and as many with others in an epoch, what
    is minimised is the distance of their cosine similarities from 1 and 0, and the head is fitted
    after each epoch.

    `objective` None is that of the target task. `adapter` are the parameters that are added to the
    backbone, if any are. With `gradient_batches` the rate of each layer group that trains is also
    multiplied by its relative gradient norm over the largest, measured at the start of every epoch
    over so many batches (Auto-RGN). `stoch_norm` is the probability with which a channel of a batch
    norm that trains is normalised by the batch, and not by running statistics; None: always.
    """

    stages: tuple[Stage, ...]
    objective: Term | None = None
    penalties: tuple[Term, ...] = ()
    adapter: Term | None = None
    gradient_batches: int | None = None
    stoch_norm: float | None = None
    fit: Term | None = None
    pairs: int | None = None

    def __post_init__(self) -> None:
        if self.fit is not None and self.stages and self.pairs is None:
            raise PlanError(
                f"a plan that fits its head ({self.fit.name}) has no stages, but of pairs"
            )
        if self.pairs is not None and (self.fit is None or self.pairs < 1):
            raise PlanError(f"a plan of pairs has at least one, and a fit, got {self.pairs}")
        for stage in self.stages:
            if stage.epochs < 1:
                raise PlanError(f"a stage must last at least one epoch, got {stage.epochs}")

    @property
    def epochs(self) -> int:
        """How many epochs the plan trains."""
        return sum(stage.epochs for stage in self.stages)

    @property
    def fits_at_once(self) -> bool:
        """Whether the head is fitted to the backbone as it is."""
        return self.fit is not None and not self.stages

    @property
    def together(self) -> int:
        """How many neighbouring rows of a batch stay together when it is cut."""
        return 1 if self.pairs is None else 2

    def rows(self, samples: int) -> int:
        """How many rows an epoch has where the training split has so many samples."""
        return samples if self.pairs is None else 4 * self.pairs * samples

    def stage_at(self, epoch: int) -> Stage:
        """The stage of `epoch`, counted from 0."""
        return self.stages[self.stage_index(epoch)]

    def stage_index(self, epoch: int) -> int:
        """Which stage `epoch` belongs to, both counted from 0."""
        end = 0
        for index, stage in enumerate(self.stages):
            end += stage.epochs
            if epoch < end:
                return index
        raise PlanError(f"the plan has {counted(end, 'epoch')}; there is no epoch {epoch}")

    def without_vector_decay(self) -> Plan:
        """The plan that spares biases and norm layers the weight decay."""
        stages = tuple(
            replace(stage, rules=tuple(replace(rule, vector_decay=0.0) for rule in stage.rules))
            for stage in self.stages
        )
        return replace(self, stages=stages)


def adapter_of(name: str) -> str | None:
    """The name of the adapter that a parameter belongs to; None for the network's own."""
    parts = name.split(".")
    return ".".join(parts[: parts.index(ADAPTER) + 1]) if ADAPTER in parts else None


def group_rule(group: str, lr: float | None, *, norm: NormMode | None = None) -> Rule:
    """The rule for everything in one layer group."""
    return Rule(pattern=f"{group}/*", lr=lr, norm=norm)
