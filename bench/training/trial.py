"""One trial's network, data and settings, and the pieces of an epoch that all ways to train share:
what is frozen, in which order samples come, what the network sees of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from bench.data import (
    Inputs,
    KeepsViews,
    PreparedData,
    Preprocessing,
    Samples,
    Splits,
    samples_digest,
)
from bench.errors import BenchError
from bench.keys import derive_seed
from bench.methods.metrics import ACCURACY, R2, measure
from bench.methods.objectives import (
    OBJECTIVES,
    CrossEntropy,
    Objective,
    PairDistance,
    recorded_loss,
)
from bench.methods.penalties import PENALTIES, aligns
from bench.methods.plan import HEAD, Plan, Stage, Term, adapter_of
from bench.methods.schedules import Progress, lr_factor
from bench.methods.target_tasks import (
    MULTI_LABEL,
    REGRESSION,
    TARGET_TASKS,
    Standardisation,
    TargetTask,
    answers,
    chosen_thresholds,
)
from bench.models import Network
from bench.models.evaluation import (
    Trunk,
    as_input,
    autocast,
    evaluation_batch,
    one_thread,
    view_batch,
)
from bench.models.feature_layers import outputs_of
from bench.suite import Entry, Settings
from bench.system.machine import PeakMemory
from bench.system.transfers import RESIDENT_BYTES, on_device
from bench.training.depthwise import depthwise_gradients
from bench.training.freezing import adapts_behind, epoch_start
from bench.training.frozen_features import (
    FeatureStore,
    gather,
    positions,
    reads_whole_views,
    view_key,
    viewed_samples,
)
from bench.training.pairs import pair_order
from bench.training.state import EpochRecord, Scores, States, best_record
from bench.training.stochastic_norms import stochastic_norms

NUMERICS_VERSION = 7
"""Raised with every change that alters the numbers of a trial; part of every trial id."""


class TrainingDivergedError(BenchError):
    """The loss of a trial is no longer finite."""


@dataclass(kw_only=True)
class Training:
    """Everything that one trial trains with; the network and optimiser hold its state.

    `trunk_key` names the starting weights, the data and the arithmetic (precision, device): what
    a frozen group's output depends on beside the view; `bare_trunk_key` the same where the plan's
    adapter has no part in it; `views_key` names what views depend on, if they are kept for other
    trainings; `beside_all` is as for `reads_whole_views`. So many `parallel_batches` of a frozen
    trunk run at once. `start` are copies of the network's starting weights; without them the
    network has them now. `compute` is where its batches are computed, `memory` measures what that
    takes. `resident` are frozen activations by name that stay on a GPU for all of its epochs;
    `fixed_order`: whether all gradients there have a fixed order of additions. In fp16 losses are
    scaled by `scaler`, as small gradients would be lost. Of regression, `standardised` is how its
    targets are learned. `learned` are tensors of the network that neither weights nor the seed give
    but the training samples, or texts, and part of `start`. `rates` are what the plan has measured
    for the current epoch, by layer group.
    """

    network: Network
    plan: Plan
    data: PreparedData
    preprocessing: Preprocessing
    splits: Splits
    settings: Settings
    schedule: Entry
    augmentation: Entry
    device: torch.device
    precision: str
    compute: Compute
    trunk_key: str = ""
    bare_trunk_key: str = ""
    views_key: str = ""
    beside_all: bool = False
    features: FeatureStore = field(default_factory=FeatureStore)
    parallel_batches: int = 1
    start: Mapping[str, Tensor] | None = None
    memory: PeakMemory | None = None
    resident: dict[str, Tensor] = field(init=False, default_factory=dict)
    trunks: dict[str, Trunk] = field(init=False, default_factory=dict)
    learned: Mapping[str, Tensor] = field(init=False, default_factory=dict)
    fixed_order: bool = field(init=False, default=True)
    rates: Mapping[str, float] = field(init=False, default_factory=dict)
    views: Inputs = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    objective: Objective = field(init=False)
    scaler: torch.amp.GradScaler | None = field(init=False)
    target_task: TargetTask = field(init=False)
    standardised: Standardisation | None = field(init=False, default=None)
    references: References | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.target_task = TARGET_TASKS[self.settings.task]
        if self.target_task is REGRESSION:
            self.standardised = Standardisation.of(self._values[self.splits.train])
        self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.start is None:
            self.start = copied_tensors(self.network)
        if self.network.learns:
            self.begin_with(self._learned())
        self.views = self._inputs(self.augmentation)
        if self.views_key and isinstance(self.views, KeepsViews):
            self.views.keep_views(self.views_key, self._viewed, epochs=self.plan.epochs)
        self.optimizer = make_optimizer(self.network, self.plan, self.settings)
        self.objective = _objective(self)
        scales = self.precision == "fp16"
        self.scaler = torch.amp.GradScaler(self.device.type) if scales else None

    def begin_with(self, learned: Mapping[str, Tensor]) -> None:
        """Have these tensors among those that training starts from; checkpoints keep them."""
        assert self.start is not None
        self.learned = {**self.learned, **learned}
        self.start = {**self.start, **learned}

    def load(self, moved: Mapping[str, Tensor]) -> None:
        """Give the network its starting weights, but for the tensors that have `moved`."""
        assert self.start is not None
        self.network.load({**self.start, **moved})

    def _learned(self) -> dict[str, Tensor]:
        """What the starting weights make of the training samples, without their targets."""
        self.load({})  # an earlier trial may have left the network in another state
        with threadpool_limits(1), one_thread():  # no bit depends on how many there are
            return self.network.learned(self.central.batch(self.splits.train, 0))

    def peak_memory_mib(self) -> float | None:
        """The peak so far of the task that it is trained in; None if it is not known."""
        return None if self.memory is None else self.memory.mebibytes()

    def autocast(self) -> torch.autocast:
        """The context that runs matrix work in the trial's precision."""
        return autocast(self.device, self.precision)

    def scaled(self, loss: Tensor) -> Tensor:
        """What is derived instead of the loss."""
        return loss if self.scaler is None else self.scaler.scale(loss)

    def trunk(self, boundary: str) -> Trunk:
        """The frozen groups in front of `boundary`; the same one each time, as it keeps copies."""
        if boundary not in self.trunks:
            self.trunks = {
                boundary: Trunk(
                    self.network,
                    boundary,
                    precision=self.precision,
                    parallel_batches=self.parallel_batches,
                )
            }
        return self.trunks[boundary]

    @cached_property
    def anchors(self) -> dict[str, Tensor]:
        """The starting values of all parameters by address, where the network computes."""
        assert self.start is not None
        return {
            self.network.address_of(name): self.start[name].to(parameter.device)
            for name, parameter in self.network.model.named_parameters()
        }

    @cached_property
    def sample_weights(self) -> Tensor | None:
        """What each sample of the data counts in the loss `[n]`, on the CPU; None: all alike."""
        weights = self.data.sample_weights
        return None if weights is None else torch.from_numpy(weights.astype(np.float32))

    @cached_property
    def targets(self) -> np.ndarray[Any, Any]:
        """What is learned of every sample: its class `[n]`, or `[n, outputs]` as of `Objective`."""
        if self.target_task.has_classes:
            return self.data.labels
        known = self.standardised
        return self._values if known is None else known.standardised(self._values)

    @property
    def _values(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Numbers, or labels, of every sample `[n, outputs]`, where it has no class."""
        assert self.data.targets is not None, "the data set has classes alone"
        return self.data.targets.values

    def truth(self, samples: Samples) -> np.ndarray[Any, Any]:
        """What metrics compare with: classes `[n]`, or numbers in their own units, or labels."""
        if self.target_task.has_classes:
            return self.data.labels[samples]
        return self._values[samples].astype(np.float64)

    @cached_property
    def central(self) -> Inputs:
        """The view without variation that evaluation uses."""
        return self._inputs(Entry(name="none"))

    @property
    def _viewed(self) -> Samples:
        """The samples that trainings with the same views look at."""
        whole = reads_whole_views(self.settings, varies=True, beside_all=self.beside_all)
        among = self.splits.train
        if aligns(self.plan):
            among = np.union1d(among, self.splits.unlabelled)
        return viewed_samples(among, of=len(self.data), whole=whole)

    def _inputs(self, augmentation: Entry) -> Inputs:
        return self.data.inputs(
            augmentation, self.preprocessing, seed=self.settings.seed, device=self.device
        )


@dataclass(frozen=True, kw_only=True)
class References:
    """What penalties of features compare with; those that the plan has ask for what they need.

    `start` is a copy of the network with its starting weights, in evaluation mode, with the
    `layers` that are looked at; `relation` what the classifier of the weights says of each class
    `[classes, source classes]`; `channel_weights` how much each channel of a layer counts
    `[channels]`, where they do not count alike.
    """

    start: Network | None = None
    layers: Mapping[str, nn.Module] = field(default_factory=dict)
    relation: Tensor | None = None
    channel_weights: Mapping[str, Tensor] = field(default_factory=dict)


def copied_tensors(network: Network) -> dict[str, Tensor]:
    """Copies of all parameters and buffers, by the names of the library's model."""
    return {name: tensor.detach().clone() for name, tensor in network.model.state_dict().items()}


def predict(training: Training, samples: Samples, *, epoch: int | None) -> Tensor:
    """Logits `[samples, classes]` in fp32 on the CPU, in evaluation mode, on the central view.

    What the stage of `epoch` freezes comes from its features; None is a plan without epochs.
    """
    training.network.eval()
    boundary, pristine = start_of(training, epoch)
    inputs = EpochInputs(
        training, boundary, training.central, epoch or 0, among=samples, pristine=pristine
    )
    return training.compute.logits(training, inputs, samples)


def starting_features(training: Training) -> npt.NDArray[np.float64]:
    """What the starting weights make of every sample in front of the head, `[samples, features]`.

    On the central view; maps of features by their means. Kept and found as in training.
    """
    training.network.eval()
    every = np.arange(len(training.data))
    inputs = EpochInputs(training, HEAD, training.central, 0, among=every, pristine=True)
    size = evaluation_batch(training.device)
    pieces = [inputs.of(every[at : at + size]) for at in range(0, len(every), size)]
    features = torch.cat([piece.detach().float().cpu() for piece in pieces])
    means = features.flatten(2).mean(dim=2) if features.ndim > 2 else features
    return np.asarray(means.double().numpy())


def start_of(training: Training, epoch: int | None) -> tuple[str | None, bool]:
    """Where an epoch starts, as `epoch_start` has it; without epochs, where the network does.

    A head that is fitted has a frozen backbone in front of it.
    """
    if epoch is None:
        return (None, False) if training.plan.fit is None else (HEAD, True)
    return epoch_start(training.network.outline, training.plan, epoch)


def forward(
    training: Training,
    batch: Tensor,
    *,
    start: str | None,
    capture: Collection[str] = (),
    held: Mapping[str, nn.Module] | None = None,
    dropout: tuple[int | str, ...] = (),
) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits in fp32 of a batch of activations in front of `start` (None: of inputs).

    And what the groups named in `capture` give on the way to the head. With layers that are `held`,
    what these give too, by their names, and as `head` what flows into it in fp32.

    The head computes in fp32 in every precision: it costs nothing, and a head that is trained on
    features kept from a frozen trunk is the same as one behind a trunk that trains. Its dropout
    has a key of its own: how much the trunk draws depends on the strategy.
    """
    network = training.network
    captured: dict[str, Tensor] = {}
    if start != HEAD:
        if dropout:
            torch.manual_seed(derive_seed(*dropout, "trunk"))
        drawn = training.plan.stoch_norm if dropout else None
        with (
            training.autocast(),
            depthwise_gradients(training.device, training.precision),
            stochastic_norms(network, drawn, dropout),
            outputs_of(held or {}) as outputs,
        ):
            batch, captured = network.captured(batch, capture, start=start, stop=HEAD)
        captured |= outputs
    batch = batch.float()
    if held is not None:
        captured[HEAD] = batch
    if dropout:
        torch.manual_seed(derive_seed(*dropout, HEAD))
    return network(batch, start=HEAD), captured


def score(
    training: Training,
    logits: Tensor,
    samples: Samples,
    thresholds: Sequence[float] | None = None,
) -> Scores:
    """The loss and every metric of fp32 logits `[n, outputs]` on `samples`.

    Labels are given from their `thresholds` on, by default from 0.5.
    """
    # Rounded to single precision, two large probabilities would be a tie.
    found = answers(training.target_task, logits.double(), training.standardised)
    targets = targets_of(training, samples)
    return Scores(
        loss=recorded_loss(logits, targets, training.target_task).item(),
        metrics=measure(training.settings.metric, training.truth(samples), found, thresholds),
    )


def label_thresholds(training: Training, val_logits: Tensor) -> tuple[float, ...] | None:
    """From which probability on each label is given: as validation has it; None of other tasks.

    `val_logits` are those of the validation split; without one it is 0.5.
    """
    if training.target_task is not MULTI_LABEL:
        return None
    labels = training.truth(training.splits.val)
    return chosen_thresholds(labels, answers(MULTI_LABEL, val_logits))


def hits(training: Training, logits: Tensor, targets: Tensor) -> Tensor:
    """Of `[..., n, classes]` how many samples `[...]` are right; 0 where there are no classes.

    `targets` are classes `[..., n]`, or soft labels.
    """
    if not training.target_task.has_classes:
        return logits.new_zeros(logits.shape[:-2])
    hard = targets if targets.ndim < logits.ndim else targets.argmax(dim=-1)
    return (logits.argmax(dim=-1) == hard).sum(dim=-1)


def train_scores(training: Training, loss: float, accuracy: float) -> Scores:
    """Those of a training epoch, of a network that moves: what adds up from batch to batch."""
    if training.target_task.has_classes:
        return Scores(loss=loss, metrics={ACCURACY: accuracy})
    # Standardised targets of the whole split have a mean square of 1.
    whole = training.target_task is REGRESSION and not training.views.mixes
    return Scores(loss=loss, metrics={R2: 1 - loss} if whole else {})


# Ends -------------------------------------------------------------------------------------------


def check_finite(lr: float, epoch: int, train: Scores, val: Scores | None) -> None:
    """Raise `TrainingDivergedError` unless the losses of `epoch` (from 0) are finite."""
    for split, scores in (("training", train), ("validation", val)):
        if scores is not None and not np.isfinite(scores.loss):
            raise TrainingDivergedError(
                f"the {split} loss is {scores.loss} in epoch {epoch + 1}; lower lr "
                f"(now {lr:g}) or set grad_clip_norm"
            )


def stops_early(plan: Plan, settings: Settings, records: Sequence[EpochRecord]) -> bool:
    """Whether patience is at an end; it starts anew with the last stage and ends no other."""
    patience = settings.early_stopping
    if patience is None or not records:
        return False
    last_stage_starts_after = plan.epochs - plan.stages[-1].epochs
    epoch, best_epoch = records[-1].epoch, best_record(records, settings.metric).epoch
    return (
        epoch > last_stage_starts_after
        and epoch - max(best_epoch, last_stage_starts_after) >= patience
    )


# Plans ----------------------------------------------------------------------------------------


def apply_stage(network: Network, stage: Stage) -> tuple[str, ...]:
    """Set what trains, what moves its statistics and what runs in training mode.

    A group whose own parameters are all frozen is in evaluation mode as a whole: no dropout, no
    stochastic depth, fixed norm statistics; adapters that train are not. Returns the branches that
    train, which steps capture.
    """
    trained_groups, trained_adapters = set(), set()
    for name, parameter in network.model.named_parameters():
        rule = stage.rule_for(network.address_of(name))
        parameter.requires_grad_(rule.lr is not None)
        adapter = adapter_of(name)
        if rule.lr is None:
            parameter.grad = None
        elif adapter is not None:
            trained_adapters.add(adapter)
        else:
            trained_groups.add(network.group_of(name).name)
    network.eval()
    for name in trained_adapters:
        network.model.get_submodule(name).train()
    for group in network.groups:
        if group.name in trained_groups:
            for module in network.modules_of(group):
                module.train()
    for address, norm in network.norm_layers():
        if stage.rule_for(address).norm_mode == "fixed":
            norm.eval()
    return tuple(g.name for g in network.groups if g.branch and g.name in trained_groups)


def make_optimizer(network: Network, plan: Plan, settings: Settings) -> torch.optim.Optimizer:
    """An optimiser over all parameters from the start: unfreezing loses no state or schedule.

    Parameters share a group when rules give them the same rates and decay in every stage, and the
    head's have their own, as have those of each layer group whose rate is measured; `rules` of a
    group holds one rule a stage, `dimensions` those of its parameters where rules tell them apart.
    On a CUDA device one operation is a step of a group.
    """
    groups: dict[tuple[object, ...], dict[str, Any]] = {}
    for name, parameter in network.model.named_parameters():
        address = network.address_of(name)
        rules = tuple(stage.rule_for(address) for stage in plan.stages)
        apart = any(rule.vector_decay != rule.weight_decay for rule in rules)
        dimensions = min(parameter.ndim, 2) if apart else 2
        layer_group = network.group_of(name).name
        is_head = layer_group == HEAD
        measured = None if plan.gradient_batches is None else layer_group
        rates = tuple((rule.lr, rule.weight_decay, rule.vector_decay) for rule in rules)
        group = groups.setdefault(
            (rates, is_head, dimensions, measured),
            {
                "params": [],
                "rules": rules,
                "dimensions": dimensions,
                "head": is_head,
                "measured": measured,
            },
        )
        group["params"].append(parameter)
    parameters = list(groups.values())
    lr, weight_decay = settings.lr, settings.weight_decay
    fused = True if next(network.parameters()).is_cuda else None
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=lr,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            weight_decay=weight_decay,
            fused=fused,
        )
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, lr=lr, weight_decay=weight_decay, fused=fused)


def set_lr(training: Training, epoch: int, progress: Progress) -> float:
    """Set every group's learning rate for the coming step; see `set_group_lrs`."""
    factor = lr_factor(training.schedule, progress)
    return set_group_lrs(training, epoch, training.settings.lr, factor)


def set_group_lrs(training: Training, epoch: int, lr: float, factor: float = 1.0) -> float:
    """Give every group its part of `lr` and of the weight decay in `epoch`.

    Returns the head's rate; of a head without parameters, the largest.
    """
    index = training.plan.stage_index(epoch)
    groups = training.optimizer.param_groups
    for group in groups:
        rule = group["rules"][index]
        measured = training.rates.get(group["measured"], 1.0)
        group["lr"] = lr * (rule.lr or 0.0) * factor * measured
        group["weight_decay"] = training.settings.weight_decay * rule.decay(group["dimensions"])
    of_head: list[float] = [group["lr"] for group in groups if group["head"]]
    return of_head[-1] if of_head else max(group["lr"] for group in groups)


# Batches --------------------------------------------------------------------------------------


def batch_order(training: Training, epoch: int) -> list[Samples]:
    """The samples of every batch of `epoch`; depends on (seed, epoch, split) alone.

    A last batch of one sample joins the one before: batch statistics need two. In a plan of pairs
    these stand beside each other.
    """
    samples, settings = training.splits.train, training.settings
    generator = np.random.default_rng(derive_seed(settings.seed, "order", epoch))
    if training.plan.pairs is not None:
        order = pair_order(samples, training.data.labels, training.plan.pairs, generator)
    elif settings.sampler == "balanced":
        labels = training.data.labels[samples]
        weights = 1 / np.bincount(labels, minlength=len(training.data.classes))[labels]
        order = generator.choice(samples, size=len(samples), p=weights / weights.sum())
    else:
        order = generator.permutation(samples)
    return np.split(order, epoch_edges(training.plan, settings, len(samples))[1:])


def unlabelled_order(training: Training, epoch: int, sizes: Sequence[int]) -> list[Samples]:
    """Target samples without labels beside every batch of `epoch`, as many as it has.

    They depend on (seed, epoch, target data) alone, and come again when all have been there. A
    batch of one gets two, as within a domain samples are compared.
    """
    samples, seed = training.splits.unlabelled, training.settings.seed
    counts = [max(2, size) for size in sizes]
    generator = np.random.default_rng(derive_seed(seed, "unlabelled order", epoch))
    rounds = -(-sum(counts) // len(samples))
    order = np.concatenate([generator.permutation(samples) for _ in range(rounds)])
    return np.split(order[: sum(counts)], np.cumsum(counts)[:-1])


def epoch_edges(plan: Plan, settings: Settings, samples: int) -> list[int]:
    """Where the batches of an epoch begin, where the training split has so many samples."""
    return batch_edges(plan.rows(samples), settings.batch_size, together=plan.together)


def batch_edges(count: int, batch_size: int, *, together: int = 1) -> list[int]:
    """Where batches of `count` rows begin, of which so many neighbours stay `together`."""
    edges = list(range(0, count, max(together, batch_size - batch_size % together)))
    if len(edges) > 1 and count - edges[-1] == 1:
        edges.pop()
    return edges


class EpochInputs:
    """What flows into `boundary` (None: into the network) of `views` in one epoch.

    `among` are the samples that will be asked for. Where the groups in front of the boundary are
    `pristine`, with their starting weights, the activations of all of them are computed together
    and kept.
    """

    def __init__(
        self,
        training: Training,
        boundary: str | None,
        views: Inputs,
        epoch: int,
        *,
        among: Samples,
        pristine: bool,
    ) -> None:
        self._training = training
        self.boundary = boundary
        self._views = views
        self.epoch = epoch
        self._among = among
        self._keeps = pristine

    def of(self, samples: Samples) -> Tensor:
        """What the network takes of `samples`, or activations."""
        if self.boundary is None:
            return self.batch(samples)
        if self._keeps and self._view is not None:
            rows = positions(self._universe, samples)
            return on_device(gather(self._view, rows), self._training.device)
        return self.through_trunk(self.batch(samples))

    def among(self, samples: Samples) -> EpochInputs:
        """The same of other samples, which will be asked for instead."""
        return EpochInputs(
            self._training,
            self.boundary,
            self._views,
            self.epoch,
            among=samples,
            pristine=self._keeps,
        )

    def through_trunk(self, batch: Tensor) -> Tensor:
        """Activations of what the network takes."""
        assert self.boundary is not None
        pieces = self._training.trunk(self.boundary)([batch])
        return as_input(torch.cat(list(pieces)))

    def batch(self, samples: Samples) -> Tensor:
        """The views `[n, ...]` on the device."""
        return self._views.batch(samples, self.epoch)

    @cached_property
    def _universe(self) -> Samples:
        """The samples of the view."""
        training = self._training
        whole = reads_whole_views(
            training.settings, varies=training.views.varies, beside_all=training.beside_all
        )
        return viewed_samples(
            self._among, of=len(training.data), whole=whole and training.features.shares
        )

    @cached_property
    def _view(self) -> Tensor | None:
        """Activations of the universe; None if they are too large to be kept."""
        training, universe = self._training, self._universe
        view = self._views.view(self.epoch)
        assert self.boundary is not None
        digest = samples_digest(universe)
        bare = adapts_behind(training.network.outline, self.boundary)
        trunk_key = training.bare_trunk_key if bare else training.trunk_key
        key = view_key(trunk_key, self.boundary, view, digest)
        if key in training.resident:
            return training.resident[key]
        trunk = training.trunk(self.boundary)
        size = view_batch(training.network, training.device)
        chunks = np.array_split(universe, range(size, len(universe), size))
        batches = (self.batch(chunk) for chunk in chunks)
        found = training.features.view(key, lambda: trunk(batches), count=len(universe))
        return found if found is None else self._resident(key, found)

    def _resident(self, key: str, view: Tensor) -> Tensor:
        """The view on a CUDA device, if it is small; for later epochs too, if it is theirs."""
        training = self._training
        if training.device.type != "cuda" or view.nbytes > RESIDENT_BYTES:
            return view
        here = on_device(view, training.device)
        if not self._views.varies:
            training.resident[key] = here
        return here


@dataclass(frozen=True, kw_only=True)
class Step:
    """One optimiser step, the `number`-th of its epoch, on `samples`; the network sees `inputs`.

    `capture` names branches, whose logits have a part in the loss; `held` are layers whose outputs
    have one, by penalties of features (None: there are none of these). `beside` are samples without
    labels that pass the network together with those that train, and `beside_inputs` what it sees of
    them; both are there if the plan aligns what trains with target data.
    """

    inputs: EpochInputs
    samples: Samples
    number: int
    capture: tuple[str, ...] = ()
    held: Mapping[str, nn.Module] | None = None
    beside: Samples | None = None
    beside_inputs: EpochInputs | None = None


def steps_of(
    training: Training,
    inputs: EpochInputs,
    capture: tuple[str, ...],
    held: Mapping[str, nn.Module] | None,
) -> list[Step]:
    """The steps of the epoch of `inputs`, with target data beside them if the plan looks at it.

    Where a stage trains nothing in front of the head nothing is `held`, and nothing is beside.
    """
    batches = batch_order(training, inputs.epoch)
    beside: Sequence[Samples | None] = [None] * len(batches)
    of_target = None
    if held is not None and aligns(training.plan):
        sizes = [len(samples) for samples in batches]
        beside = unlabelled_order(training, inputs.epoch, sizes)
        of_target = inputs.among(training.splits.unlabelled)
    return [
        Step(
            inputs=inputs,
            samples=samples,
            number=number,
            capture=capture,
            held=held,
            beside=own,
            beside_inputs=of_target,
        )
        for number, (samples, own) in enumerate(zip(batches, beside, strict=True))
    ]


class Compute(Protocol):
    """Where the batches of a trial are computed: on one device, or shared among several.

    All of it computes the same numbers, up to the order of additions.
    """

    def begin_epoch(self, training: Training) -> None:
        """What trains in the coming steps has been decided."""

    def add_gradients(self, training: Training, step: Step) -> tuple[Tensor, Tensor]:
        """Add the gradients of the mean loss over the batch.

        Returns the logits of the rows that are computed here, detached, and their targets: classes
        or soft labels.
        """

    def logits(self, training: Training, inputs: EpochInputs, samples: Samples) -> Tensor:
        """Logits `[samples, classes]` in fp32 on the CPU; the network is in evaluation mode."""

    def total(self, values: Tensor) -> Tensor:
        """The sum of what every device has found; may change `values`."""

    def states(self, own: States) -> States:
        """Where all devices find the same states, and one of them keeps new ones."""


def training_batch(
    training: Training, step: Step, *, rows: Sequence[slice] | None = None
) -> tuple[Tensor, Tensor]:
    """What flows into the network in one training step, and its targets, as of `Objective`; classes
    of samples that have weights as soft labels times these.

    With `rows`, what flows is that of these alone; the targets are always those of all samples.
    """
    inputs, samples = step.inputs, step.samples
    targets = weighted_targets(training, samples)
    if not training.views.mixes or len(samples) == 1:
        own = samples if rows is None else np.concatenate([samples[part] for part in rows])
        return inputs.of(own), on_device(targets, training.device)
    batch, targets = training.views.mix(
        inputs.batch(samples), targets, epoch=inputs.epoch, step=step.number
    )
    if rows is not None:
        batch = torch.cat([batch[part] for part in rows])
    batch = batch if inputs.boundary is None else inputs.through_trunk(batch)
    return batch, on_device(targets, training.device)


def weighted_targets(training: Training, samples: Samples) -> Tensor:
    """Targets on the CPU, as of `Objective`: classes of samples that have weights times these."""
    targets = targets_of(training, samples)
    if training.sample_weights is None:
        return targets
    one_hot = F.one_hot(targets, len(training.data.classes)).float()
    return one_hot * training.sample_weights[samples][:, None]


def as_recorded(training: Training, targets: Tensor) -> Tensor:
    """Targets `[..., classes]` as what is recorded counts them: every sample alike."""
    return targets if training.sample_weights is None else targets.argmax(dim=-1)


def step_loss(training: Training, logits: Tensor, targets: Tensor) -> Tensor:
    """What is recorded of a step: the plain loss; of pairs what is minimised."""
    if training.plan.pairs is not None:
        return training.objective.loss(logits, targets)
    return recorded_loss(logits, targets, training.target_task)


def targets_of(training: Training, samples: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(training.targets[samples])


# What is minimised -----------------------------------------------------------------------------


def _objective(training: Training) -> Objective:
    if training.plan.pairs is not None:
        return PairDistance()
    term = training.plan.objective or Term(name=training.target_task.objective)
    objective: Objective = OBJECTIVES.get(term.name).function(
        _class_weights(training), training.settings.label_smoothing, **dict(term.options)
    )
    if training.sample_weights is None:
        return objective
    assert isinstance(objective, CrossEntropy), "its objective has no weights of samples"
    return replace(objective, weighs_samples=True)


def _class_weights(training: Training) -> Tensor | None:
    """Weights inverse to the class counts of the training split, with mean 1 over its samples.

    Of several labels, samples that have one weigh as much as those that lack it.
    """
    if training.settings.class_weights == "none":
        return None
    samples = training.splits.train
    if training.target_task is MULTI_LABEL:
        having = training.truth(samples).sum(axis=0)
        weights = (len(samples) - having) / having
    else:
        labels = training.data.labels[samples]
        counts = np.bincount(labels, minlength=len(training.data.classes))
        weights = len(labels) / (len(counts) * counts)
    return on_device(torch.tensor(weights, dtype=torch.float32), training.device)


def penalty(
    plan: Plan, parameters: Mapping[str, Tensor], start: Mapping[str, Tensor]
) -> Tensor | None:
    """The sum of the plan's penalties of parameters; both mappings are from address to tensor.

    None if the plan has none, or nothing trains that they could hold.
    """
    registered = [(PENALTIES.get(term.name), dict(term.options)) for term in plan.penalties]
    own = [(each, options) for each, options in registered if not each.traits.of_features]
    if not own or not parameters:
        return None
    return torch.stack([each.function(parameters, start, **options) for each, options in own]).sum()
