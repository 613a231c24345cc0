"""Plans: what trains when. A strategy returns one; the trainer interprets it.

A plan is an ordered list of stages over epochs. Each stage holds one ordered table of rules over
the *addresses* of parameters and norm layers: `group/name`, for example `layer4/0.bn1.weight`. The
first rule that matches an address decides; an address that no rule covers is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from bench.errors import PlanError

HEAD = "head"

NormMode = Literal["update", "fixed"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What happens to the parameters and norm layers whose address matches `pattern`.

    `lr` multiplies the trial's learning rate; `None` freezes. A multiplier of 0 is not frozen: the
    parameters stay where they are, but they take part in the gradient norm and their norm
    statistics move. `norm` says whether running statistics are updated from batches or stay fixed
    (and are what normalises); `None` means `update` where the rule trains, else `fixed`.
    """

    pattern: str
    lr: float | None
    norm: NormMode | None = None

    def __post_init__(self) -> None:
        if self.lr is not None and not 0 <= self.lr < float("inf"):
            raise PlanError(f"an LR multiplier must be finite and at least 0, got {self.lr}")
        if self.lr is None and self.norm == "update":
            raise PlanError(f"rule {self.pattern!r} freezes, so its norm statistics must be fixed")

    @property
    def norm_mode(self) -> NormMode:
        """`norm` with its default filled in."""
        if self.norm is not None:
            return self.norm
        return "fixed" if self.lr is None else "update"


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
class Plan:
    """The stages of a trial, in order. A plan without stages trains nothing."""

    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        for stage in self.stages:
            if stage.epochs < 1:
                raise PlanError(f"a stage must last at least one epoch, got {stage.epochs}")

    @property
    def epochs(self) -> int:
        """How many epochs the plan trains."""
        return sum(stage.epochs for stage in self.stages)

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
        raise PlanError(f"the plan has {end} epochs, epoch {epoch} was asked for")


def group_rule(group: str, lr: float | None, *, norm: NormMode | None = None) -> Rule:
    """The rule for everything in one layer group."""
    return Rule(pattern=f"{group}/*", lr=lr, norm=norm)
