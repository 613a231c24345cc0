"""One trainer that interprets every plan: it knows rules and stages, no strategy's name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.methods.plan import Plan
from bench.methods.schedules import Progress
from bench.models import Network
from bench.training.data_parallel.ranks import Shard
from bench.training.data_parallel.whole_batch import whole_batch
from bench.training.freezing import head_epochs, moved_groups
from bench.training.stacked_heads import HeadTrial, train_heads
from bench.training.state import EpochRecord, Scores, State, best_record
from bench.training.trial import (
    Inputs,
    Samples,
    Training,
    apply_stage,
    batch_edges,
    batch_order,
    check_finite,
    forward,
    labels_of,
    predict,
    score,
    set_lr,
    start_of,
    stops_early,
    training_batch,
)

AUXILIARY_WEIGHT = 0.4
"""Weight of an auxiliary classifier's loss (Szegedy et al., Rethinking Inception, 2016)."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The scores of one epoch on both splits that a report needs."""

    epoch: int
    val: Scores
    test: Scores


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A trained trial; `probabilities` `[test samples, classes]` at the best epoch.

    `state` holds what training changed of the starting weights, at the best epoch.
    """

    best: Snapshot
    last: Snapshot
    records: tuple[EpochRecord, ...]
    probabilities: np.ndarray[Any, np.dtype[np.float32]]
    state: Mapping[str, Tensor]
    trainable_params: int
    total_params: int


@dataclass(kw_only=True)
class Branch:
    """A trial on its way: `training` holds the current tensors, this what came before."""

    training: Training
    records: list[EpochRecord] = field(default_factory=list)
    best: Mapping[str, Tensor] = field(default_factory=dict)

    def train_epoch(self) -> EpochRecord:
        """Train and validate the next epoch; raises `TrainingDivergedError`."""
        training, epoch = self.training, len(self.records)
        started = time.perf_counter()
        val_losses = tuple(record.val.loss for record in self.records)
        scores, lr = _train_epoch(training, epoch, val_losses)
        trained = time.perf_counter()
        val_samples = training.splits.val
        val = score(predict(training, val_samples, epoch=epoch), labels_of(training, val_samples))
        check_finite(training.settings.lr, epoch, scores.loss, val.loss)
        record = EpochRecord(
            epoch=epoch + 1,
            lr=lr,
            train=scores,
            val=val,
            train_seconds=trained - started,
            val_seconds=time.perf_counter() - trained,
        )
        self.records.append(record)
        if best_record(self.records) is record:
            self.best = self._tensors()
        return record

    def state(self) -> State:
        """A copy of where the trial stands."""
        is_best = bool(self.records) and best_record(self.records) is self.records[-1]
        current = self.best if is_best else self._tensors()
        names: dict[Tensor, str] = {
            parameter: name for name, parameter in self.training.network.model.named_parameters()
        }
        optimizer = {
            names[parameter]: {slot: tensor.detach().clone() for slot, tensor in slots.items()}
            for parameter, slots in self.training.optimizer.state.items()
        }
        return State(
            records=tuple(self.records), model=current, best=self.best, optimizer=optimizer
        )

    def restore(self, state: State) -> None:
        """Go on from `state`."""
        self.records, self.best = list(state.records), state.best
        self.training.load(state.model)
        parameters = dict(self.training.network.model.named_parameters())
        for name, slots in state.optimizer.items():
            parameter = parameters[name]
            self.training.optimizer.state[parameter] = {
                slot: torch.empty_like(parameter).copy_(tensor)
                if tensor.shape == parameter.shape
                else tensor.clone()
                for slot, tensor in slots.items()
            }

    def _tensors(self) -> dict[str, Tensor]:
        """Copies of all tensors that may differ from the starting weights."""
        training = self.training
        moved = moved_groups(training.network.outline, training.plan, len(self.records))
        return {
            name: tensor.detach().clone()
            for name, tensor in training.network.model.state_dict().items()
            if training.network.group_of(name).name in moved
        }


def train(training: Training, on_epoch: Callable[[EpochRecord], None]) -> Outcome:
    """Train the plan alone, choose the epoch on validation, read the test split once.

    Raises `TrainingDivergedError` when a loss is not finite. The caller's random state and count of
    threads are the same afterwards.
    """
    branch = Branch(training=training)
    with isolated(training.settings.threads):
        training.load({})  # an earlier trial may have left the network in another state
        heads = head_epochs(training.network.outline, training.plan)
        if heads:
            trial = HeadTrial(training=training, epochs=heads)
            for _, record in train_heads([trial]):
                on_epoch(record)
            if trial.error is not None:
                raise trial.error
            branch.restore(trial.state)
        while len(branch.records) < training.plan.epochs:
            if stops_early(training.plan, training.settings.early_stopping, branch.records):
                break
            on_epoch(branch.train_epoch())
        return outcome(training, branch.state())


def outcome(training: Training, state: State) -> Outcome:
    """Choose the epoch of a finished trial and read the test split; changes the network."""
    plan, test = training.plan, training.splits.test
    test_labels = labels_of(training, test)
    training.load(state.model)
    last_epoch = state.epochs - 1 if state.epochs else None
    logits = predict(training, test, epoch=last_epoch)
    test_scores = score(logits, test_labels)
    if last_epoch is None:
        val = training.splits.val
        val_scores = score(predict(training, val, epoch=None), labels_of(training, val))
        best = last = Snapshot(epoch=0, val=val_scores, test=test_scores)
    else:
        record, chosen = state.records[-1], best_record(state.records)
        best = last = Snapshot(epoch=record.epoch, val=record.val, test=test_scores)
        if chosen.epoch != record.epoch:
            training.load(state.best)
            logits = predict(training, test, epoch=chosen.epoch - 1)
            test_scores = score(logits, test_labels)
            best = Snapshot(epoch=chosen.epoch, val=chosen.val, test=test_scores)
    return Outcome(
        best=best,
        last=last,
        records=state.records,
        probabilities=logits.softmax(dim=1).numpy(),
        state=state.best,
        trainable_params=trainable_parameters(training.network, plan),
        total_params=sum(parameter.numel() for parameter in training.network.model.parameters()),
    )


def trainable_parameters(network: Network, plan: Plan) -> int:
    """How many parameters move in some stage: not frozen and with a multiplier above 0."""
    return sum(
        parameter.numel()
        for name, parameter in network.model.named_parameters()
        if any(stage.rule_for(network.address_of(name)).lr for stage in plan.stages)
    )


def _train_epoch(
    training: Training, epoch: int, val_losses: tuple[float, ...]
) -> tuple[Scores, float]:
    stage = training.plan.stage_at(epoch)
    with_aux = apply_stage(training.network, stage)
    training.ranks.train(p for p in training.network.parameters() if p.requires_grad)
    boundary, pristine = start_of(training, epoch)
    inputs = Inputs(
        training,
        boundary,
        training.augmenter,
        epoch,
        among=training.splits.train,
        pristine=pristine,
    )
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
        head_lr = set_lr(training, epoch, progress)
        first_lr = head_lr if step == 0 else first_lr
        logits, targets = train_step(
            training, inputs, batch, boundary=boundary, with_aux=with_aux, epoch=epoch, step=step
        )
        hard = targets if targets.ndim == 1 else targets.argmax(dim=1)
        if len(targets):
            loss_sum += F.cross_entropy(logits, targets) * len(targets)
            correct += (logits.argmax(dim=1) == hard).sum()
    seen = sum(len(batch) for batch in batches)
    loss_sum, correct = training.ranks.total(torch.stack([loss_sum, correct]))
    return Scores(loss=float(loss_sum) / seen, accuracy=float(correct) / seen), first_lr


def train_step(
    training: Training,
    inputs: Inputs,
    batch: Samples,
    *,
    boundary: str | None,
    with_aux: bool,
    epoch: int,
    step: int,
) -> tuple[Tensor, Tensor]:
    """One optimiser step on `batch`, the `step`-th of `epoch`; `inputs` flow into `boundary`.

    With `micro_batch` the batch goes through the network in pieces and their gradients add up to
    that of the whole; of each piece, a rank computes its own rows. Returns their logits, detached,
    and their targets: classes or soft labels.
    """
    pieces = _pieces(len(batch), training.settings.micro_batch)
    shards = [training.ranks.shard(piece) for piece in pieces]
    activations, targets = training_batch(
        training,
        inputs,
        batch,
        boundary=boundary,
        epoch=epoch,
        step=step,
        rows=[shard.rows for shard in shards] if training.ranks.count > 1 else None,
    )
    dropout = (training.settings.seed, "dropout", epoch, step)
    training.optimizer.zero_grad(set_to_none=True)
    logits = []
    of_shards = torch.split(activations, [shard.size for shard in shards])
    for number, (shard, own) in enumerate(zip(shards, of_shards, strict=True)):
        logits.append(
            _add_gradients(
                training,
                own,
                targets,
                shard,
                last=number == len(shards) - 1,
                start=boundary,
                with_aux=with_aux,
                dropout=(*dropout, number) if len(pieces) > 1 else dropout,
            )
        )
    if training.settings.grad_clip_norm is not None:
        nn.utils.clip_grad_norm_(training.network.parameters(), training.settings.grad_clip_norm)
    training.optimizer.step()
    counting = [targets[shard.rows if shard.counts else slice(0)] for shard in shards]
    return torch.cat(logits), torch.cat(counting)


def _pieces(count: int, micro_batch: int | None) -> list[slice]:
    """A batch in pieces of `micro_batch`; none is of one sample, as batch statistics need two."""
    edges = [0] if micro_batch is None else batch_edges(count, micro_batch)
    return [slice(start, end) for start, end in pairwise([*edges, count])]


def _add_gradients(
    training: Training,
    activations: Tensor,
    targets: Tensor,
    shard: Shard,
    *,
    last: bool,
    start: str | None,
    with_aux: bool,
    dropout: tuple[int | str, ...],
) -> Tensor:
    """Add the shard's part of the gradient of the mean loss over the batch of `targets`.

    Returns the logits of the rows that count, detached.
    """
    own = targets[shard.rows]
    share = _share(training, targets, shard)

    def compute() -> tuple[Tensor, Tensor]:
        with whole_batch(shard) if training.ranks.count > 1 else nullcontext():
            logits, auxiliary = forward(
                training, activations, start=start, with_aux=with_aux, dropout=dropout
            )
        loss = _loss(training, logits, own)
        for aux_logits in auxiliary:
            loss = loss + AUXILIARY_WEIGHT * _loss(training, aux_logits, own)
        return loss if share is None else loss * share, logits.detach()

    loss, logits = training.ranks.compute(compute, last=last)
    loss.backward()  # type: ignore[no-untyped-call]
    return logits if shard.counts else logits[:0]


def _share(training: Training, targets: Tensor, shard: Shard) -> Tensor | float | None:
    """The part of a shard in the mean over the batch: of the class weights, where these count.

    None where it is the whole batch. Times the number of ranks, over which gradients are averaged.
    """
    if not shard.counts:
        return 0.0
    own, weights, count = targets[shard.rows], training.loss_weights, training.ranks.count
    if len(own) == len(targets) and count == 1:
        return None
    if weights is None or targets.ndim > 1:
        return count * len(own) / len(targets)
    return count * weights[own].sum() / weights[targets].sum()


def _loss(training: Training, logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(
        logits.float(),
        targets,
        weight=training.loss_weights,
        label_smoothing=training.settings.label_smoothing,
    )


@contextmanager
def isolated(threads: int) -> Iterator[None]:
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
