"""One trainer that interprets every plan: it knows rules and stages, no strategy's name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.methods.plan import Plan
from bench.methods.schedules import Progress
from bench.methods.target_tasks import MULTI_LABEL, Standardisation, answers
from bench.models import Network
from bench.models.companions import is_companion
from bench.system.gpu_arithmetic import gpu_arithmetic
from bench.system.transfers import on_device
from bench.training.feature_penalties import held_layers
from bench.training.fitted import fit_head
from bench.training.fixed_order import deterministic
from bench.training.freezing import head_epochs, moved_tensors
from bench.training.label_free import LabelFree, label_free
from bench.training.random_state import own_random_state
from bench.training.relative_gradients import relative_rates
from bench.training.stacked_heads import HeadTrial, train_heads
from bench.training.state import EpochRecord, Scores, State, chosen_record, val_losses
from bench.training.trial import (
    EpochInputs,
    Step,
    Training,
    apply_stage,
    as_recorded,
    check_finite,
    hits,
    label_thresholds,
    penalty,
    predict,
    score,
    set_lr,
    start_of,
    step_loss,
    steps_of,
    stops_early,
    train_scores,
)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The scores of one epoch on both splits that a report needs; `val` None if there is none."""

    epoch: int
    val: Scores | None
    test: Scores


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A trained trial; `probabilities` `[test samples, classes]` at the best epoch.

    `val_probabilities` are those of the validation split, without rows if there is none. Of
    regression both are predicted values, in the targets' own units, and `standardised` is how they
    were learned; of several labels a sample, `thresholds` are from which probability on each is
    given. `state` holds what training changed of the starting weights, at the best epoch. Of a head
    that is fitted, `chosen` is what validation chose by name, and `fit_seconds` how long it took.
    `label_free` is there if there is target data without labels; nothing is chosen by it.
    """

    best: Snapshot
    last: Snapshot
    records: tuple[EpochRecord, ...]
    probabilities: np.ndarray[Any, np.dtype[Any]]
    val_probabilities: np.ndarray[Any, np.dtype[Any]]
    state: Mapping[str, Tensor]
    trainable_params: int
    total_params: int
    standardised: Standardisation | None = None
    thresholds: tuple[float, ...] | None = None
    chosen: Mapping[str, float] = field(default_factory=dict)
    fit_seconds: float = 0.0
    label_free: LabelFree | None = None


@dataclass(kw_only=True)
class Branch:
    """A trial on its way: `training` holds the current tensors, this what came before.

    `best_val` are the validation logits of the best epoch, None where they were not predicted here.
    """

    training: Training
    records: list[EpochRecord] = field(default_factory=list)
    best: Mapping[str, Tensor] = field(default_factory=dict)
    best_val: Tensor | None = None

    def train_epoch(self) -> EpochRecord:
        """Train and validate the next epoch; raises `TrainingDivergedError`."""
        training, epoch = self.training, len(self.records)
        started = time.perf_counter()
        scores, lr = _train_epoch(training, epoch, val_losses(self.records))
        if training.plan.fit is not None:
            check_finite(training.settings.lr, epoch, scores, None)
            scores = _fit_head(training, epoch)
        trained = time.perf_counter()
        logits = _val_logits(training, epoch=epoch)
        val = _val_scores(training, logits)
        check_finite(training.settings.lr, epoch, scores, val)
        record = EpochRecord(
            epoch=epoch + 1,
            lr=lr,
            train=scores,
            val=val,
            train_seconds=trained - started,
            val_seconds=time.perf_counter() - trained,
            peak_memory_mib=training.peak_memory_mib(),
            test=_diagnosis(training, epoch),
        )
        self.records.append(record)
        if self._best is record:
            self.best, self.best_val = self._tensors(), logits
        return record

    def state(self) -> State:
        """A copy of where the trial stands."""
        is_best = bool(self.records) and self._best is self.records[-1]
        current = self.best if is_best else self._tensors()
        names: dict[Tensor, str] = {
            parameter: name for name, parameter in self.training.network.model.named_parameters()
        }
        optimizer = {
            names[parameter]: {slot: tensor.detach().clone() for slot, tensor in slots.items()}
            for parameter, slots in self.training.optimizer.state.items()
        }
        scaler = self.training.scaler
        return State(
            records=tuple(self.records),
            model=current,
            best=self.best,
            optimizer=optimizer,
            scaler={} if scaler is None else scaler.state_dict(),
            best_val=self.best_val,
        )

    def restore(self, state: State) -> None:
        """Go on from `state`."""
        self.records = list(state.records)
        self.best, self.best_val = state.best, state.best_val
        self.training.load(state.model)
        parameters = dict(self.training.network.model.named_parameters())
        for name, slots in state.optimizer.items():
            parameter = parameters[name]
            self.training.optimizer.state[parameter] = {
                slot: torch.empty_like(parameter).copy_(tensor)
                if tensor.shape == parameter.shape
                else self._beside(parameter, tensor)
                for slot, tensor in slots.items()
            }
        if state.scaler and self.training.scaler is not None:
            self.training.scaler.load_state_dict(dict(state.scaler))

    def _beside(self, parameter: Tensor, count: Tensor) -> Tensor:
        """A count of steps where the optimiser wants it: fused ones on the device."""
        fused = self.training.optimizer.defaults.get("fused")
        return on_device(count.clone(), parameter.device) if fused else count.clone()

    @property
    def _best(self) -> EpochRecord:
        return chosen_record(self.records, self.training.settings)

    def _tensors(self) -> dict[str, Tensor]:
        """Copies of all tensors that may differ from the starting weights."""
        network, plan = self.training.network, self.training.plan
        tensors = network.model.state_dict()
        addresses = {name: network.address_of(name) for name in tensors}
        moved = moved_tensors(network.outline, plan, len(self.records), addresses.values())
        fitted = network.fitted_head
        return {
            name: tensor.detach().clone()
            for name, tensor in tensors.items()
            if addresses[name] in moved or (fitted is not None and name.startswith(fitted[0]))
        }


def train(training: Training, on_epoch: Callable[[EpochRecord], None]) -> Outcome:
    """Train the plan alone, choose the epoch, read the test split once.

    Raises `TrainingDivergedError` when a loss is not finite. The caller's random state and count of
    threads are the same afterwards.
    """
    branch = Branch(training=training)
    with isolated(training.settings.cpu_threads, training.device):
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
            if stops_early(training.plan, training.settings, branch.records):
                break
            on_epoch(branch.train_epoch())
        return outcome(training, branch.state())


def outcome(training: Training, state: State) -> Outcome:
    """Choose the epoch of a finished trial and read the test split; changes the network.

    A head that is fitted at once is found here. Validation has been scored at that epoch, and is
    predicted again unless it was in this process: keeping what each epoch predicted would cost
    every state's file the room.
    """
    plan, test = training.plan, training.splits.test
    fitted = None
    if plan.fits_at_once:
        training.load({})
        fitted = fit_head(training)
        state = State(model=fitted.tensors, best=fitted.tensors)
    training.load(state.model)
    last_epoch = state.epochs - 1 if state.epochs else None
    logits = predict(training, test, epoch=last_epoch)
    if last_epoch is None:
        val_logits = _val_logits(training, epoch=None)
        val, thresholds = _val_scores(training, val_logits), label_thresholds(training, val_logits)
        best = last = Snapshot(epoch=0, val=val, test=score(training, logits, test, thresholds))
    else:
        record = state.records[-1]
        chosen = chosen_record(state.records, training.settings)
        is_last = chosen.epoch == record.epoch
        known = state.best_val if is_last else None
        if training.target_task is MULTI_LABEL and known is None:
            known = _val_logits(training, epoch=last_epoch)
        thresholds = None if known is None else label_thresholds(training, known)
        test_scores = score(training, logits, test, thresholds)
        best = last = Snapshot(epoch=record.epoch, val=record.val, test=test_scores)
        if is_last:
            val_logits = _val_logits(training, epoch=last_epoch) if known is None else known
        else:
            training.load(state.best)
            logits = predict(training, test, epoch=chosen.epoch - 1)
            known = state.best_val
            val_logits = _val_logits(training, epoch=chosen.epoch - 1) if known is None else known
            thresholds = label_thresholds(training, val_logits)
            test_scores = score(training, logits, test, thresholds)
            best = Snapshot(epoch=chosen.epoch, val=chosen.val, test=test_scores)
    probabilities, val_probabilities = (
        answers(training.target_task, each, training.standardised) for each in (logits, val_logits)
    )
    return Outcome(
        best=best,
        last=last,
        records=state.records,
        probabilities=probabilities,
        val_probabilities=val_probabilities,
        state={name: t for name, t in state.best.items() if not is_companion(name)},
        standardised=training.standardised,
        thresholds=thresholds,
        chosen={} if fitted is None else fitted.chosen,
        fit_seconds=0.0 if fitted is None else fitted.seconds,
        label_free=label_free(training, epoch=best.epoch - 1 if best.epoch else None),
        trainable_params=trainable_parameters(training.network, plan),
        total_params=sum(parameter.numel() for _, parameter in _kept_parameters(training.network))
        + _held(training.network),
    )


def _fit_head(training: Training, epoch: int) -> Scores:
    """Give the network the head that fits it behind `epoch`; returns scores of the training split.

    They are those of a network that stands still, unlike other trainings' own.
    """
    fitted = fit_head(training, epoch=epoch)
    assert fitted.train is not None
    training.network.load(fitted.tensors)
    return fitted.train


def _diagnosis(training: Training, epoch: int) -> Scores | None:
    """What the test split says of the network as it stands, where the suite asks for it."""
    if training.settings.diagnose is None:
        return None
    test = training.splits.test
    return score(training, predict(training, test, epoch=epoch), test)


def _val_logits(training: Training, *, epoch: int | None) -> Tensor:
    """What the network as it stands predicts; without a validation split no rows."""
    val = training.splits.val
    if not val.size:
        return torch.zeros(0, len(training.data.classes))
    return predict(training, val, epoch=epoch)


def _val_scores(training: Training, logits: Tensor) -> Scores | None:
    """Those of validation logits; None without a validation split."""
    return score(training, logits, training.splits.val) if len(logits) else None


def trainable_parameters(network: Network, plan: Plan) -> int:
    """How many parameters move in some stage: not frozen and with a multiplier above 0.

    Of a head that is fitted, how many values it holds.
    """
    return _held(network) + sum(
        parameter.numel()
        for name, parameter in _kept_parameters(network)
        if any(stage.rule_for(network.address_of(name)).lr for stage in plan.stages)
    )


def _kept_parameters(network: Network) -> Iterator[tuple[str, nn.Parameter]]:
    """Those of the network that is kept, without what trains beside it alone."""
    for name, parameter in network.model.named_parameters():
        if not is_companion(name):
            yield name, parameter


def _held(network: Network) -> int:
    """How many values a fitted head holds."""
    own = network.fitted_head
    return 0 if own is None else sum(tensor.numel() for tensor in own[1].held().values())


def _train_epoch(
    training: Training, epoch: int, val_losses: tuple[float, ...]
) -> tuple[Scores, float]:
    if training.network.fitted_head is not None:
        training.network.fitted_head[1].hold({})  # gives features on as they are
    capture = apply_stage(training.network, training.plan.stage_at(epoch))
    held = held_layers(training)
    training.compute.begin_epoch(training)
    boundary, pristine = start_of(training, epoch)
    if held and not pristine:
        boundary = None  # the starting network begins with other activations than this one
    train = training.splits.train
    inputs = EpochInputs(training, boundary, training.views, epoch, among=train, pristine=pristine)
    steps = steps_of(training, inputs, capture, held)
    training.rates = relative_rates(training, epoch, steps)
    first_lr = 0.0
    loss_sum = torch.zeros((), device=training.device)
    correct = torch.zeros((), device=training.device)
    for step in steps:
        progress = Progress(
            step=epoch * len(steps) + step.number,
            steps_per_epoch=len(steps),
            num_epochs=training.plan.epochs,
            val_losses=val_losses,
        )
        head_lr = set_lr(training, epoch, progress)
        first_lr = head_lr if step.number == 0 else first_lr
        logits, targets = train_step(training, step)
        targets = as_recorded(training, targets)
        if len(targets):
            loss_sum += step_loss(training, logits, targets) * len(targets)
            correct += hits(training, logits, targets)
    seen = sum(len(step.samples) for step in steps)
    loss, right = training.compute.total(torch.stack([loss_sum, correct])).tolist()
    return train_scores(training, loss / seen, right / seen), first_lr


def train_step(training: Training, step: Step) -> tuple[Tensor, Tensor]:
    """One optimiser step; returns logits, detached, and their targets, as of `Objective`."""
    training.optimizer.zero_grad(set_to_none=True)
    logits, targets = training.compute.add_gradients(training, step)
    scaler = training.scaler
    if scaler is not None:
        scaler.unscale_(training.optimizer)
    _add_penalty(training)
    if training.settings.grad_clip_norm is not None:
        nn.utils.clip_grad_norm_(training.network.parameters(), training.settings.grad_clip_norm)
    if scaler is None:
        training.optimizer.step()
    else:
        scaler.step(training.optimizer)  # unless a gradient is not finite
        scaler.update()
    return logits, targets


def _add_penalty(training: Training) -> None:
    """Add the gradients of the plan's penalties, once a step and the same on every device."""
    if not training.plan.penalties:
        return
    network = training.network
    moving = {
        network.address_of(name): parameter
        for name, parameter in _kept_parameters(network)
        if parameter.requires_grad
    }
    value = penalty(training.plan, moving, training.anchors)
    if value is None:
        return
    # Not by `backward`: several devices have averaged their gradients already.
    gradients = torch.autograd.grad(value, list(moving.values()), allow_unused=True)
    for parameter, gradient in zip(moving.values(), gradients, strict=True):
        if gradient is not None:
            before = parameter.grad
            parameter.grad = gradient if before is None else before.add_(gradient)


@contextmanager
def isolated(threads: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Run with `threads` intra-op threads on `device`, and touch no other device.

    The caller's count of threads and random state, that of `device` too, come back.
    """
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        place = torch.device(device)
        with own_random_state(place), gpu_arithmetic(place), _fixed_order_of_additions():
            yield
    finally:
        torch.set_num_threads(threads_before)


@contextmanager
def _fixed_order_of_additions() -> Iterator[None]:
    """With several threads, some gradients (of indexed tables, as in Swin) are otherwise summed in
    any order."""
    # Filling fresh memory, which comes with it, would cost time and change nothing.
    with deterministic(warns=True), _uninitialised_memory_left_alone():
        yield


@contextmanager
def _uninitialised_memory_left_alone() -> Iterator[None]:
    module: Any = torch.utils.deterministic
    fills = module.fill_uninitialized_memory
    module.fill_uninitialized_memory = False
    try:
        yield
    finally:
        module.fill_uninitialized_memory = fills
