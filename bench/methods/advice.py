"""Rules of advice: from what is known of the data before training, which strategies and backbones
come first. Pure functions; none of them sees a result of a trained trial, or the test split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

SMALL_PER_CLASS = 100
"""Data with fewer training samples a class count as small."""
ALIKE_GAIN = 0.5
"""Source and target count as alike where the gain over chance is at least so large."""
ENOUGH_GAIN, FEW_PER_CLASS = 0.9, 20
"""From where on little is left for fine-tuning to win, and below where it overfits most."""


@dataclass(frozen=True, kw_only=True)
class BackboneFacts:
    """A backbone with its weights on the training split.

    `neighbour_accuracy` is that of the nearest neighbours among the frozen features of the other
    training samples, a fraction; None where there are no features. `logme` as in transfer scores.
    `parameters` are None where they are not known.
    """

    backbone: str
    parameters: int | None
    pretrained: bool
    neighbour_accuracy: float | None = None
    logme: float | None = None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of the data: training samples, classes, the share of the largest class."""

    samples: int
    classes: int
    majority: float
    backbones: tuple[BackboneFacts, ...]

    @property
    def per_class(self) -> float:
        """Training samples a class, on average."""
        return self.samples / self.classes

    def gain(self, backbone: BackboneFacts) -> float | None:
        """How far the neighbours' accuracy is on the way from the largest class's share (0) to 1.

        It is what stands for the likeness of source and target.
        """
        if backbone.neighbour_accuracy is None:
            return None
        left = max(1 - self.majority, 1 / max(self.samples, 1))
        return (backbone.neighbour_accuracy - self.majority) / left

    @property
    def best_gain(self) -> float | None:
        """The largest gain of a pretrained backbone; None where none has one."""
        gains = [self.gain(each) for each in self.backbones if each.pretrained]
        return max((gain for gain in gains if gain is not None), default=None)


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Strategies and backbones, best first, and why. What a rule does not rank is empty."""

    strategies: tuple[str, ...] = ()
    backbones: tuple[str, ...] = ()
    reason: str


Rule = Callable[[Facts], Ranking]


# Strategies -------------------------------------------------------------------------------------


def tutorial_table(facts: Facts) -> Ranking:
    """The table of the tutorials: data small or large, source and target alike or not."""
    gain = facts.best_gain
    size = "small" if facts.per_class < SMALL_PER_CLASS else "large"
    count = f"{facts.per_class:.0f} training samples a class are {size} data"
    if gain is None:
        return _without_gain(facts)
    alike = gain >= ALIKE_GAIN
    likeness = f"source and target are {'alike' if alike else 'not alike'} (gain {gain:.2f})"
    table = {
        ("small", True): ("linear_probe", "lp_ft", "full_finetune", "from_scratch"),
        ("large", True): ("full_finetune", "lp_ft", "linear_probe", "from_scratch"),
        ("small", False): ("svm", "linear_probe", "lp_ft", "full_finetune", "from_scratch"),
        ("large", False): ("full_finetune", "from_scratch", "lp_ft", "linear_probe"),
    }
    return Ranking(strategies=table[size, alike], reason=f"{count}; {likeness}")


def knn_gain(facts: Facts) -> Ranking:
    """What frozen features leave to be won decides; probing before fine-tuning where data are few.

    Backbones by the gain.
    """
    gain = facts.best_gain
    if gain is None:
        return _without_gain(facts)
    if gain >= ENOUGH_GAIN:
        order = ("linear_probe", "lp_ft", "full_finetune", "from_scratch")
        why = "frozen features separate the classes already"
    elif facts.per_class < FEW_PER_CLASS:
        order = ("lp_ft", "linear_probe", "full_finetune", "from_scratch")
        why = f"frozen features leave something to be won, but a class has {facts.per_class:.0f}"
    else:
        order = ("full_finetune", "lp_ft", "linear_probe", "from_scratch")
        why = "frozen features leave something to be won, and there are samples to win it"
    return Ranking(
        strategies=order,
        backbones=_ordered(facts.backbones, facts.gain),
        reason=f"{why} (gain {gain:.2f})",
    )


def always_linear_probe(facts: Facts) -> Ranking:
    """A baseline: the probe first, whatever the data."""
    order = ("linear_probe", "lp_ft", "full_finetune", "from_scratch")
    return Ranking(strategies=order, reason="a baseline that looks at nothing")


def always_full(facts: Facts) -> Ranking:
    """A baseline: full fine-tuning first, whatever the data."""
    order = ("full_finetune", "lp_ft", "linear_probe", "from_scratch")
    return Ranking(strategies=order, reason="a baseline that looks at nothing")


# Backbones --------------------------------------------------------------------------------------


def largest_backbone(facts: Facts) -> Ranking:
    """A baseline: the more parameters, the better."""
    order = _ordered(facts.backbones, lambda each: each.parameters)
    return Ranking(backbones=order, reason="the larger, the better: a baseline")


def logme(facts: Facts) -> Ranking:
    """By LogME of the features in front of the head (You et al., 2021)."""
    order = _ordered(facts.backbones, lambda each: each.logme)
    return Ranking(backbones=order, reason="by LogME of the frozen features")


def _without_gain(facts: Facts) -> Ranking:
    if any(each.pretrained for each in facts.backbones):
        return Ranking(reason="there are no features of a pretrained backbone to judge by")
    return Ranking(strategies=("from_scratch",), reason="no backbone is pretrained")


def _ordered(
    backbones: Sequence[BackboneFacts], worth: Callable[[BackboneFacts], float | None]
) -> tuple[str, ...]:
    """Pretrained ones first, then by falling worth; without one last; ties as they are given."""

    def place(each: BackboneFacts) -> tuple[bool, bool, float]:
        value = worth(each)
        return not each.pretrained, value is None, -(value or 0.0)

    return tuple(each.backbone for each in sorted(backbones, key=place))


RULES: Mapping[str, Rule] = {
    rule.__name__: rule
    for rule in (
        tutorial_table,
        knn_gain,
        logme,
        largest_backbone,
        always_linear_probe,
        always_full,
    )
}
