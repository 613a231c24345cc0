"""One trainer that interprets every plan: it knows rules and stages, no strategy's name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.augmentations import Augmenter
from bench.backbones import Network
from bench.data import ImageData, Splits
from bench.errors import BenchError
from bench.keys import derive_seed
from bench.plan import HEAD, Plan, Rule, Stage
from bench.schedules import Progress, lr_factor
from bench.suite import Entry, Settings

NUMERICS_VERSION = 1
"""Raised with every change that alters the numbers of a trial; part of every trial id."""

EVALUATION_BATCH = 64
"""Fixed, because the batch size can change the last bits of a logit."""

AUXILIARY_WEIGHT = 0.4
"""Weight of an auxiliary classifier's loss (Szegedy et al., Rethinking Inception, 2016)."""


class TrainingDivergedError(BenchError):
    """The loss of a trial is no longer finite."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Mean cross-entropy in nats and accuracy in [0, 1] over one split."""

    loss: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """What is recorded of an epoch, counted from 1; `lr` is the head's at its first step."""

    epoch: int
    lr: float
    train: Scores
    val: Scores
    train_seconds: float
    val_seconds: float


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The scores of one epoch on both splits that a report needs."""

    epoch: int
    val: Scores
    test: Scores


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A trained trial; `probabilities` `[test samples, classes]` and `state` of the best epoch."""

    best: Snapshot
    last: Snapshot
    records: tuple[EpochRecord, ...]
    probabilities: np.ndarray[Any, np.dtype[np.float32]]
    state: dict[str, Tensor]
    trainable_params: int
    total_params: int


@dataclass(kw_only=True)
class Training:
    """Everything that one trial trains with; the network and optimiser hold its state."""

    network: Network
    plan: Plan
    data: ImageData
    splits: Splits
    settings: Settings
    schedule: Entry
    augmentation: Entry
    device: torch.device
    precision: str
    augmenter: Augmenter = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    loss_weights: Tensor | None = field(init=False)

    def __post_init__(self) -> None:
        self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.augmenter = Augmenter(
            self.augmentation,
            size=self.data.image_size,
            num_classes=len(self.data.classes),
            seed=self.settings.seed,
        )
        self.optimizer = _optimizer(self.network, self.plan, self.settings)
        self.loss_weights = _loss_weights(self)

    def autocast(self) -> torch.autocast:
        """The context that runs matrix work in the trial's precision."""
        bf16 = self.precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16)


def train(training: Training, on_epoch: Callable[[EpochRecord], None]) -> Outcome:
    """Train the plan, choose the epoch on validation, read the test split once.

    Raises `TrainingDivergedError` when a loss is not finite. The caller's random state and count of
    threads are the same afterwards.
    """
    with _isolated(training.settings.threads):
        records: list[EpochRecord] = []
        best: EpochRecord | None = None
        best_state: dict[str, Tensor] = {}
        for epoch in range(training.plan.epochs):
            record = _run_epoch(training, epoch, records)
            records.append(record)
            on_epoch(record)
            if best is None or _better(record.val, best.val):
                best, best_state = record, _copied_state(training.network)
            if _stops_early(training, record.epoch, best.epoch):
                break
        return _outcome(training, records, best, best_state)


def _stops_early(training: Training, epoch: int, best_epoch: int) -> bool:
    """Whether patience is at an end; it starts anew with the last stage and ends no other."""
    patience, plan = training.settings.early_stopping, training.plan
    last_stage_starts_after = plan.epochs - plan.stages[-1].epochs
    return (
        patience is not None
        and epoch > last_stage_starts_after
        and epoch - max(best_epoch, last_stage_starts_after) >= patience
    )


def _run_epoch(training: Training, epoch: int, records: Sequence[EpochRecord]) -> EpochRecord:
    started = time.perf_counter()
    val_losses = tuple(record.val.loss for record in records)
    scores, lr = _train_epoch(training, epoch, val_losses)
    trained = time.perf_counter()
    val = score(predict(training, training.splits.val), _labels(training, training.splits.val))
    evaluated = time.perf_counter()
    for split, loss in (("training", scores.loss), ("validation", val.loss)):
        if not np.isfinite(loss):
            raise TrainingDivergedError(
                f"the {split} loss is {loss} in epoch {epoch + 1}; lower lr "
                f"(now {training.settings.lr:g}) or set grad_clip_norm"
            )
    return EpochRecord(
        epoch=epoch + 1,
        lr=lr,
        train=scores,
        val=val,
        train_seconds=trained - started,
        val_seconds=evaluated - trained,
    )


def _train_epoch(
    training: Training, epoch: int, val_losses: tuple[float, ...]
) -> tuple[Scores, float]:
    stage = training.plan.stage_at(epoch)
    with_aux = apply_stage(training.network, stage)
    batches = batch_order(training, epoch)
    first_lr = 0.0
    loss_sum = torch.zeros((), device=training.device)
    correct = torch.zeros((), device=training.device)
    for step, batch in enumerate(batches):
        progress = Progress(
            step=epoch * len(batches) + step,
            steps_per_epoch=len(batches),
            num_epochs=training.plan.epochs,
            val_losses=val_losses,
        )
        head_lr = _set_lr(training, stage, progress)
        first_lr = head_lr if step == 0 else first_lr
        images, targets = _training_batch(training, batch, epoch=epoch, step=step)
        dropout = (training.settings.seed, "dropout", epoch, step)
        logits = _step(training, images, targets, with_aux=with_aux, dropout=dropout)
        hard = targets if targets.ndim == 1 else targets.argmax(dim=1)
        loss_sum += F.cross_entropy(logits, targets) * len(batch)
        correct += (logits.argmax(dim=1) == hard).sum()
    seen = sum(len(batch) for batch in batches)
    return Scores(loss=float(loss_sum) / seen, accuracy=float(correct) / seen), first_lr


def _step(
    training: Training,
    images: Tensor,
    targets: Tensor,
    *,
    with_aux: bool,
    dropout: tuple[int | str, ...],
) -> Tensor:
    """One optimiser step; returns the detached logits in fp32.

    The head's dropout has a key of its own: how much the trunk draws depends on the strategy.
    """
    settings, optimizer, network = training.settings, training.optimizer, training.network
    with training.autocast():
        torch.manual_seed(derive_seed(*dropout, "trunk"))
        features, auxiliary = network.forward_train(images, stop=HEAD, with_aux=with_aux)
        torch.manual_seed(derive_seed(*dropout, HEAD))
        logits, _ = network.forward_train(features, start=HEAD)
    loss = _loss(training, logits, targets)
    for aux_logits in auxiliary:
        loss = loss + AUXILIARY_WEIGHT * _loss(training, aux_logits, targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if settings.grad_clip_norm is not None:
        nn.utils.clip_grad_norm_(training.network.parameters(), settings.grad_clip_norm)
    optimizer.step()
    return logits.detach().float()


def _loss(training: Training, logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(
        logits.float(),
        targets,
        weight=training.loss_weights,
        label_smoothing=training.settings.label_smoothing,
    )


def predict(training: Training, samples: np.ndarray[Any, Any]) -> Tensor:
    """Logits `[samples, classes]` in fp32 on the CPU, in evaluation mode, on the central view."""
    network = training.network
    network.eval()
    central = Augmenter(
        Entry(name="none"),
        size=training.data.image_size,
        num_classes=len(training.data.classes),
        seed=training.settings.seed,
    )
    logits = []
    with torch.inference_mode(), training.autocast():
        for start in range(0, len(samples), EVALUATION_BATCH):
            chosen = samples[start : start + EVALUATION_BATCH]
            views = central.images(_cached_images(training.data, chosen), chosen, epoch=0)
            logits.append(network(_normalised(training, views)).float().cpu())
    return torch.cat(logits)


def score(logits: Tensor, labels: Tensor) -> Scores:
    """Cross-entropy and accuracy of fp32 logits `[n, classes]` against labels `[n]`."""
    correct = (logits.argmax(dim=1) == labels).sum().item()
    return Scores(
        loss=F.cross_entropy(logits, labels).item(), accuracy=float(correct) / len(labels)
    )


# Plans ----------------------------------------------------------------------------------------


def apply_stage(network: Network, stage: Stage) -> bool:
    """Set what trains, what moves its statistics and what runs in training mode.

    A group whose parameters are all frozen is in evaluation mode as a whole: no dropout, no
    stochastic depth, fixed norm statistics. Returns whether the auxiliary classifier trains.
    """
    trained_groups = set()
    for name, parameter in network.model.named_parameters():
        rule = stage.rule_for(network.address_of(name))
        parameter.requires_grad_(rule.lr is not None)
        if rule.lr is None:
            parameter.grad = None
        else:
            trained_groups.add(network.group_of(name).name)
    network.eval()
    for group in network.groups:
        if group.name in trained_groups:
            for module in network.modules_of(group):
                module.train()
    for address, norm in network.norm_layers():
        if stage.rule_for(address).norm_mode == "fixed":
            norm.eval()
    return any(group.branch and group.name in trained_groups for group in network.groups)


def _optimizer(network: Network, plan: Plan, settings: Settings) -> torch.optim.Optimizer:
    """An optimiser over all parameters from the start: unfreezing loses no state or schedule.

    Parameters share a group when they have the same rules in every stage; `rules` of a group
    holds one rule a stage.
    """
    groups: dict[tuple[Rule, ...], dict[str, Any]] = {}
    for name, parameter in network.model.named_parameters():
        address = network.address_of(name)
        rules = tuple(stage.rule_for(address) for stage in plan.stages)
        group = groups.setdefault(
            (*rules, Rule(pattern=address.partition("/")[0], lr=None)),
            {"params": [], "rules": rules, "head": network.group_of(name).name == HEAD},
        )
        group["params"].append(parameter)
    parameters = list(groups.values())
    lr, weight_decay = settings.lr, settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=lr,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            weight_decay=weight_decay,
        )
    if settings.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay)
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)


def _set_lr(training: Training, stage: Stage, progress: Progress) -> float:
    """Set every group's learning rate for the coming step; returns the head's."""
    factor = lr_factor(training.schedule, progress)
    index = training.plan.stages.index(stage)
    head_lr = 0.0
    for group in training.optimizer.param_groups:
        group["lr"] = training.settings.lr * (group["rules"][index].lr or 0.0) * factor
        if group["head"]:
            head_lr = group["lr"]
    return head_lr


# Batches --------------------------------------------------------------------------------------


def batch_order(training: Training, epoch: int) -> list[np.ndarray[Any, Any]]:
    """The samples of every batch of `epoch`; depends on (seed, epoch, split) alone.

    A last batch of one sample joins the one before: batch statistics need two.
    """
    samples, settings = training.splits.train, training.settings
    generator = np.random.default_rng(derive_seed(settings.seed, "order", epoch))
    if settings.sampler == "balanced":
        labels = training.data.labels[samples]
        weights = 1 / np.bincount(labels, minlength=len(training.data.classes))[labels]
        order = generator.choice(samples, size=len(samples), p=weights / weights.sum())
    else:
        order = generator.permutation(samples)
    edges = list(range(0, len(order), settings.batch_size))
    if len(edges) > 1 and len(order) - edges[-1] == 1:
        edges.pop()
    return np.split(order, edges[1:])


def _training_batch(
    training: Training, samples: np.ndarray[Any, Any], *, epoch: int, step: int
) -> tuple[Tensor, Tensor]:
    views = training.augmenter.images(_cached_images(training.data, samples), samples, epoch=epoch)
    images, labels = _normalised(training, views), _labels(training, samples)
    if training.augmenter.mixes and len(samples) > 1:
        images, labels = training.augmenter.mix(images, labels, epoch=epoch, step=step)
    return images, labels.to(training.device)


def _cached_images(data: ImageData, samples: np.ndarray[Any, Any]) -> Tensor:
    """Cached uint8 images `[n, 3, S, S]`, channels last in memory as they lie in the cache."""
    return torch.from_numpy(np.ascontiguousarray(data.images[samples])).permute(0, 3, 1, 2)


def _normalised(training: Training, images: Tensor) -> Tensor:
    """Float images on the device, with the mean and deviation that the weights ask for."""
    images = images.to(training.device, memory_format=torch.channels_last)
    mean, std = (
        torch.tensor(values, device=training.device).view(1, 3, 1, 1)
        for values in (training.network.mean, training.network.std)
    )
    return (images.float() / 255 - mean) / std


def _labels(training: Training, samples: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(training.data.labels[samples])


def _loss_weights(training: Training) -> Tensor | None:
    """Weights inverse to the class counts of the training split, with mean 1 over its samples."""
    if training.settings.class_weights == "none":
        return None
    labels = training.data.labels[training.splits.train]
    counts = np.bincount(labels, minlength=len(training.data.classes))
    weights = len(labels) / (len(counts) * counts)
    return torch.tensor(weights, dtype=torch.float32, device=training.device)


# Results --------------------------------------------------------------------------------------


def _better(new: Scores, old: Scores) -> bool:
    """Higher accuracy, or the same and a lower loss; the earlier epoch wins a tie."""
    return (new.accuracy, -new.loss) > (old.accuracy, -old.loss)


def _copied_state(network: Network) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.model.state_dict().items()}


def _outcome(
    training: Training,
    records: Sequence[EpochRecord],
    best: EpochRecord | None,
    best_state: dict[str, Tensor],
) -> Outcome:
    test_labels = _labels(training, training.splits.test)
    last_logits = predict(training, training.splits.test)
    if best is None:
        val_labels = _labels(training, training.splits.val)
        val = score(predict(training, training.splits.val), val_labels)
        last = Snapshot(epoch=0, val=val, test=score(last_logits, test_labels))
        best_snapshot, logits, best_state = last, last_logits, _copied_state(training.network)
    else:
        final = records[-1]
        last = Snapshot(epoch=final.epoch, val=final.val, test=score(last_logits, test_labels))
        best_snapshot, logits = last, last_logits
        if best.epoch != final.epoch:
            training.network.model.load_state_dict(best_state)
            logits = predict(training, training.splits.test)
            test = score(logits, test_labels)
            best_snapshot = Snapshot(epoch=best.epoch, val=best.val, test=test)
    return Outcome(
        best=best_snapshot,
        last=last,
        records=tuple(records),
        probabilities=logits.softmax(dim=1).numpy(),
        state=best_state,
        trainable_params=trainable_parameters(training.network, training.plan),
        total_params=sum(parameter.numel() for parameter in training.network.model.parameters()),
    )


def trainable_parameters(network: Network, plan: Plan) -> int:
    """How many parameters move in some stage: not frozen and with a multiplier above 0."""
    return sum(
        parameter.numel()
        for name, parameter in network.model.named_parameters()
        if any(stage.rule_for(network.address_of(name)).lr for stage in plan.stages)
    )


@contextmanager
def _isolated(threads: int) -> Iterator[None]:
    """Run with `threads` intra-op threads; the caller's count and random state come back."""
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(), _fixed_order_of_additions():
            yield
    finally:
        torch.set_num_threads(threads_before)


@contextmanager
def _fixed_order_of_additions() -> Iterator[None]:
    """Deterministic algorithms where torch has them: with several threads, some gradients
    (of indexed tables, as in Swin) are otherwise summed in any order."""
    enabled = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        # Filling fresh memory, which comes with it, would cost time and change nothing.
        with _uninitialised_memory_left_alone():
            yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warns)


@contextmanager
def _uninitialised_memory_left_alone() -> Iterator[None]:
    module: Any = torch.utils.deterministic
    fills = module.fill_uninitialized_memory
    module.fill_uninitialized_memory = False
    try:
        yield
    finally:
        module.fill_uninitialized_memory = fills
