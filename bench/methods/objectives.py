"""Objectives: what a training minimises over the samples, and how it sums and stacks.

An objective is one function from class weights `[classes]` (None: all alike), label smoothing and
options of its own to an `Objective`. What is recorded as the loss of an epoch is always plain: the
cross-entropy, of numbers the mean squared error of standardised values, of several labels a sample
the mean binary cross-entropy, so that curves of different objectives can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Protocol

from pydantic import Field

from bench.methods.target_tasks import CLASSIFICATION, MULTI_LABEL, REGRESSION, TargetTask
from bench.suite import TargetTaskName
from bench.suite.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

CROSS_ENTROPY = CLASSIFICATION.objective


@dataclass(frozen=True, kw_only=True)
class ObjectiveTraits:
    """What the objective is the loss of, whether heads with it train in one stack, and whether its
    samples have weights.

    Targets of an objective that `weighs_samples` are soft labels times the weight of the sample;
    the function gives a `CrossEntropy`.
    """

    stacks: bool = False
    weighs_samples: bool = False
    target_task: TargetTaskName = CLASSIFICATION.name


OBJECTIVES: Registry[Callable[..., Objective], ObjectiveTraits] = Registry(
    "objective", ObjectiveTraits, takes=("class_weights", "label_smoothing")
)


class Share(NamedTuple):
    """The part that some rows have in a whole batch: of its rows, and of its class weights."""

    rows: Tensor | float
    weights: Tensor | float


class Objective(Protocol):
    """A mean over the samples of a batch, which pieces of the batch add up to."""

    def loss(self, logits: Tensor, targets: Tensor, share: Share | None = None) -> Tensor:
        """The mean over rows of fp32 `logits` `[n, classes]`; with `share`, their part of a batch.

        `targets` are classes `[n]` or soft labels `[n, classes]`; of other tasks, standardised
        values or labels (1 and 0, or mixtures) `[n, outputs]`.
        """

    def share(self, own: Tensor, of: Tensor, *, times: int = 1) -> Share:
        """The part of the rows with targets `own` among those of the batch, `times` so much."""


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Cross-entropy with class weights w, label smoothing ε and a focus γ, in nats.

    With targets t (one-hot, or the mixture of a mixed image) and probabilities p, the mean over
    samples i is Σᵢ Σ_c tᵢ_c w_c (1 − pᵢ_c)^γ (−log pᵢ_c) / Σᵢ Σ_c tᵢ_c w_c. Smoothing takes 1 − ε
    of it, and ε of the mean of −log p over samples and classes, which has no weights: a weight
    belongs to the true class.

    Where it `weighs_samples`, targets are such labels times the weight v of their sample: the means
    are Σᵢ vᵢ … / Σᵢ vᵢ.
    """

    class_weights: Tensor | None = None
    label_smoothing: float = 0.0
    gamma: float = 0.0
    weighs_samples: bool = False

    def loss(self, logits: Tensor, targets: Tensor, share: Share | None = None) -> Tensor:
        """See `Objective`."""
        import torch.nn.functional as F

        if self.gamma == 0 and self.class_weights is None and not self.weighs_samples:
            smoothing = self.label_smoothing
            plain = F.cross_entropy(logits, targets, label_smoothing=smoothing)
            return plain if share is None else plain * share.rows
        loss = self._true_classes(logits, targets)
        loss = loss if share is None else loss * share.weights
        if self.label_smoothing == 0:
            return loss
        if self.weighs_samples:
            spread = _mean(-logits.log_softmax(dim=1).mean(dim=1), targets.sum(dim=1))
        else:
            spread = -logits.log_softmax(dim=1).mean()
        spread = spread if share is None else spread * share.rows
        return (1 - self.label_smoothing) * loss + self.label_smoothing * spread

    def _true_classes(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The part without smoothing."""
        import torch.nn.functional as F

        if self.gamma == 0 and targets.ndim == 1:
            return F.cross_entropy(logits, targets, weight=self.class_weights)
        weighted = self._weighted(targets, logits.shape[1])
        minus_log = -logits.log_softmax(dim=1)
        if self.gamma:
            # 1 − p is bounded below, as the slope of its power at 0 need not be finite.
            minus_log = minus_log * (-(-minus_log).expm1()).clamp(min=1e-12) ** self.gamma
        return (weighted * minus_log).sum() / weighted.sum()

    def _weighted(self, targets: Tensor, classes: int) -> Tensor:
        """Targets `[n, classes]` times the weights of the classes."""
        import torch.nn.functional as F

        soft = targets if targets.ndim > 1 else F.one_hot(targets, classes).float()
        return soft if self.class_weights is None else soft * self.class_weights

    def share(self, own: Tensor, of: Tensor, *, times: int = 1) -> Share:
        """See `Objective`."""
        rows: Tensor | float = times * len(own) / len(of)
        if self.weighs_samples:
            rows = times * own.sum() / of.sum()
        if self.class_weights is None:
            return Share(rows, rows)
        if of.ndim == 1:
            own_weights, all_weights = (self.class_weights[part] for part in (own, of))
        else:
            own_weights, all_weights = (part * self.class_weights for part in (own, of))
        return Share(rows, times * own_weights.sum() / all_weights.sum())


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum()


@OBJECTIVES.register(CROSS_ENTROPY, stacks=True, weighs_samples=True)
def cross_entropy(class_weights: Tensor | None, label_smoothing: float) -> CrossEntropy:
    """Cross-entropy: minus the log-probability of the right class."""
    return CrossEntropy(class_weights=class_weights, label_smoothing=label_smoothing)


@OBJECTIVES.register("focal", weighs_samples=True)
def focal(
    class_weights: Tensor | None,
    label_smoothing: float,
    *,
    gamma: Annotated[
        float,
        Field(
            ge=0,
            le=10,
            description="γ in (1 − p)^γ · (−log p), with the probability p of the right class: "
            "the larger γ, the less samples count that are already right.",
            examples=[2.0],
        ),
    ] = 2.0,
) -> CrossEntropy:
    """Cross-entropy times (1 − p)^`gamma`: samples that are already right count less.

    Lin et al., "Focal Loss for Dense Object Detection", 2017; with `gamma` 0 it is cross-entropy.
    """
    return CrossEntropy(class_weights=class_weights, label_smoothing=label_smoothing, gamma=gamma)


# Pairs ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PairDistance:
    """The mean over pairs of (cos(u, v) − t)², with t = 1 for samples of one class, else 0.

    Rows 2i and 2i + 1 are a pair. Tunstall et al., "Efficient Few-Shot Learning Without Prompts",
    2022 (SetFit). No plan names it: it belongs to plans of pairs.
    """

    def loss(self, logits: Tensor, targets: Tensor, share: Share | None = None) -> Tensor:
        """See `Objective`; `logits` are the features in front of a head that holds nothing."""
        import torch.nn.functional as F

        same = (targets[0::2] == targets[1::2]).to(logits.dtype)
        similarities = F.cosine_similarity(logits[0::2], logits[1::2])
        loss = (similarities - same).square().mean()
        return loss if share is None else loss * share.rows

    def share(self, own: Tensor, of: Tensor, *, times: int = 1) -> Share:
        """See `Objective`."""
        return _of_rows(own, of, times)


# Numbers --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Distance:
    """The mean over samples and targets of ρ(e), with e the error of a standardised value.

    ρ(e) is `square` · e² where |e| ≤ `delta`, and `slope` · |e| − `offset` beyond.
    """

    delta: float = inf
    square: float = 1.0
    slope: float = 0.0
    offset: float = 0.0

    def loss(self, logits: Tensor, targets: Tensor, share: Share | None = None) -> Tensor:
        """See `Objective`."""
        loss = _distances(logits - targets, self.delta, self.square, self.slope, self.offset).mean()
        return loss if share is None else loss * share.rows

    def share(self, own: Tensor, of: Tensor, *, times: int = 1) -> Share:
        """See `Objective`."""
        return _of_rows(own, of, times)


def _distances(errors: Tensor, delta: Any, square: Any, slope: Any, offset: Any) -> Tensor:
    far = errors.abs()
    distances: Tensor = (square * errors.square()).where(far <= delta, slope * far - offset)
    return distances


def _of_rows(own: Tensor, of: Tensor, times: int) -> Share:
    rows = times * len(own) / len(of)
    return Share(rows, rows)


@OBJECTIVES.register(REGRESSION.objective, stacks=True, target_task="regression")
def mse(class_weights: None, label_smoothing: float) -> Distance:
    """The squared error of standardised values: what names the mean, and what R² is made of."""
    return Distance()


@OBJECTIVES.register("mae", stacks=True, target_task="regression")
def mae(class_weights: None, label_smoothing: float) -> Distance:
    """The absolute error of standardised values: what names the median, whatever lies far off."""
    return Distance(delta=0.0, square=0.0, slope=1.0)


@OBJECTIVES.register("huber", stacks=True, target_task="regression")
def huber(
    class_weights: None,
    label_smoothing: float,
    *,
    delta: Annotated[
        float,
        Field(
            gt=0,
            le=1e6,
            description="δ, in standard deviations of the target: errors up to it count by half "
            "their square, larger ones by δ (|e| − δ / 2).",
            examples=[1.0],
        ),
    ] = 1.0,
) -> Distance:
    """Half the squared error up to `delta`, and linear beyond: outliers pull less.

    Huber, "Robust Estimation of a Location Parameter", 1964.
    """
    return Distance(delta=delta, square=0.5, slope=delta, offset=0.5 * delta**2)


# Several labels a sample ----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class BinaryCrossEntropy:
    """The mean over samples and labels of −w_c t log p − (1 − t) log(1 − p), in nats.

    With the weight w_c of a sample that has the label c (None: 1) and label smoothing ε, by which t
    is (1 − ε) times the label + ε / 2.
    """

    class_weights: Tensor | None = None
    label_smoothing: float = 0.0

    def loss(self, logits: Tensor, targets: Tensor, share: Share | None = None) -> Tensor:
        """See `Objective`."""
        smoothing = self.label_smoothing
        soft = targets if smoothing == 0 else (1 - smoothing) * targets + smoothing / 2
        loss = _surprises(logits, soft, self.class_weights).mean()
        return loss if share is None else loss * share.rows

    def share(self, own: Tensor, of: Tensor, *, times: int = 1) -> Share:
        """See `Objective`."""
        return _of_rows(own, of, times)


def _surprises(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    import torch.nn.functional as F

    having, lacking = -F.logsigmoid(logits), -F.logsigmoid(-logits)
    having = having if weights is None else weights * having
    return targets * having + (1 - targets) * lacking


@OBJECTIVES.register(MULTI_LABEL.objective, stacks=True, target_task="multi_label")
def binary_cross_entropy(
    class_weights: Tensor | None, label_smoothing: float
) -> BinaryCrossEntropy:
    """Cross-entropy of every label on its own: whether a sample has it or not."""
    return BinaryCrossEntropy(class_weights=class_weights, label_smoothing=label_smoothing)


# What is recorded -----------------------------------------------------------------------------


def recorded_loss(logits: Tensor, targets: Tensor, task: TargetTask = CLASSIFICATION) -> Tensor:
    """What is recorded, whatever is minimised: the plain mean over the samples.

    Cross-entropy in nats, of several labels a sample the mean over them of the binary one; of
    regression the squared error of standardised values.
    """
    import torch.nn.functional as F

    if task.has_classes:
        return F.cross_entropy(logits, targets)
    return _PLAIN[task.name].loss(logits, targets)


_PLAIN: Mapping[str, Objective] = {
    REGRESSION.name: Distance(),
    MULTI_LABEL.name: BinaryCrossEntropy(),
}


# Stacks ---------------------------------------------------------------------------------------


class StackedObjective(Protocol):
    """The objectives of many heads at once, each its own; none of them touches another."""

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Losses `[rows]` of `logits` `[rows, n, outputs]`; `targets` are those of `Objective`, for
        each row."""

    def recorded(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The plain ones `[rows]`, as `recorded_loss`."""


def stacked(
    objectives: Sequence[Any], outputs: int, put: Callable[[Tensor], Tensor]
) -> StackedObjective:
    """The objectives of heads with so many outputs, which are of one target task.

    `put` gives a tensor back where it is to be computed, as class weights are there already.
    """
    first = objectives[0]
    if isinstance(first, Distance):
        return StackedDistance(objectives, put)
    if isinstance(first, BinaryCrossEntropy):
        return StackedBinaryCrossEntropy(objectives, outputs, put)
    return StackedCrossEntropy(objectives, outputs, put)


class StackedCrossEntropy:
    """Cross-entropy of many heads at once, with class weights and smoothing of its own for each."""

    def __init__(
        self, objectives: Sequence[CrossEntropy], classes: int, put: Callable[[Tensor], Tensor]
    ) -> None:
        import torch

        assert not any(each.gamma for each in objectives), "a focus does not stack"
        smoothing = [each.label_smoothing for each in objectives]
        self._smoothing = put(torch.tensor(smoothing))
        weights = [each.class_weights for each in objectives]
        ones = put(torch.ones(classes))
        self._weights = torch.stack([ones if own is None else own for own in weights])
        self._weighs_samples = any(each.weighs_samples for each in objectives)
        weighs = [own is not None or self._weighs_samples for own in weights]
        self._weighs = put(torch.tensor(weighs))

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Losses `[rows]`; `targets` are classes `[rows, n]` or soft `[rows, n, classes]`."""
        minus_log = -logits.log_softmax(dim=2)
        count, classes = logits.shape[1:]
        smoothing = self._smoothing
        if targets.ndim == 3:
            weighted = targets * self._weights[:, None, :]
            # Mixed labels do not add up to the count exactly.
            scale = (count / weighted.flatten(1).sum(dim=1)).where(self._weighs, 1.0)
            chosen = weighted * ((1 - smoothing) * scale)[:, None, None]
            spread = (smoothing / classes)[:, None, None]
            if self._weighs_samples:
                own = targets.sum(dim=2, keepdim=True)
                spread = spread * (count * own / own.sum(dim=1, keepdim=True))
            soft = chosen + spread
            return (minus_log * soft).flatten(1).sum(dim=1) / count
        own = self._weights.gather(1, targets)
        chosen = (minus_log.gather(2, targets[..., None]).squeeze(2) * own).sum(dim=1)
        total = own.sum(dim=1)
        spread = minus_log.flatten(1).sum(dim=1) * (total / count)
        return ((1 - smoothing) * chosen + smoothing / classes * spread) / total

    def recorded(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The plain mean cross-entropy `[rows]`, as `recorded_loss`."""
        minus_log = -logits.log_softmax(dim=2)
        if targets.ndim == 3:
            return (minus_log * targets).flatten(1).sum(dim=1) / logits.shape[1]
        return minus_log.gather(2, targets[..., None]).squeeze(2).mean(dim=1)


class StackedDistance:
    """Distances of many heads at once, with a form of its own for each."""

    def __init__(self, objectives: Sequence[Distance], put: Callable[[Tensor], Tensor]) -> None:
        import torch

        forms = [(each.delta, each.square, each.slope, each.offset) for each in objectives]
        self._form = put(torch.tensor(forms)).T[:, :, None, None]

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See `StackedObjective`."""
        return _distances(logits - targets, *self._form).flatten(1).mean(dim=1)

    def recorded(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean squared error `[rows]` of standardised values."""
        return (logits - targets).square().flatten(1).mean(dim=1)


class StackedBinaryCrossEntropy:
    """Binary cross-entropy of many heads at once, each with weights and smoothing of its own."""

    def __init__(
        self,
        objectives: Sequence[BinaryCrossEntropy],
        labels: int,
        put: Callable[[Tensor], Tensor],
    ) -> None:
        import torch

        ones = put(torch.ones(labels))
        weights = [each.class_weights for each in objectives]
        self._weights = torch.stack([ones if own is None else own for own in weights])[:, None, :]
        self._smoothing = put(torch.tensor([e.label_smoothing for e in objectives]))[:, None, None]

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See `StackedObjective`."""
        soft = (1 - self._smoothing) * targets + self._smoothing / 2
        return _surprises(logits, soft, self._weights).flatten(1).mean(dim=1)

    def recorded(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The plain mean `[rows]`, as `recorded_loss`."""
        return _surprises(logits, targets, None).flatten(1).mean(dim=1)
