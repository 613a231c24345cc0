"""Heads on a frozen trunk, trained together: one batched operation for many trials.

Trials that train nothing but a head see the same activations, so their heads are stacked and every
layer is one batched matrix product, with learning rate, weight decay, momentum, schedule and seed
of its own for each. The products of a batch do not touch one another: a head among many has the
same bits as the same head alone. This is the only way in which such heads are trained, also
without reuse. Trials with equal epoch keys are one row of the stack until their keys part.

Heads compute in fp32 and with one intra-op thread, whatever the trunk does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.data import Samples, Splits
from bench.errors import BenchError
from bench.keys import content_hash, derive_seed
from bench.methods.objectives import StackedObjective, stacked
from bench.methods.plan import HEAD
from bench.methods.schedules import Progress, lr_factor
from bench.models import Network
from bench.models.evaluation import one_thread
from bench.suite import Entry, Settings
from bench.system.transfers import on_device
from bench.training.state import EpochRecord, Scores, State, chosen_record, val_losses
from bench.training.trial import (
    EpochInputs,
    Step,
    Training,
    TrainingDivergedError,
    as_recorded,
    batch_order,
    check_finite,
    hits,
    penalty,
    score,
    stops_early,
    train_scores,
    training_batch,
)

EVALUATION_BATCH = 256
ADAM_BETAS, ADAM_EPSILON = (0.9, 0.999), 1e-8
"""The defaults of `torch.optim.Adam`."""

Layers = Sequence[tuple[str, nn.Module]]
Tensors = dict[str, Tensor]


@dataclass(kw_only=True)
class HeadTrial:
    """A trial whose first `epochs` epochs train its head alone.

    `keys` are its epoch keys, the start's first: trials with equal keys share a row. Without keys
    it has a row of its own. `start` are the head's parameters (None: the network's own), so that
    trials of many seeds may share one network. `state` and `error` say how it ended.
    """

    training: Training
    epochs: int
    start: Tensors | None = None
    keys: tuple[str, ...] | None = None
    state: State = field(default_factory=State)
    error: BenchError | None = None

    @property
    def settings(self) -> Settings:
        """Those of its training."""
        return self.training.settings

    def key(self, epochs: int) -> object:
        """What names its state after so many epochs."""
        return id(self) if self.keys is None else self.keys[epochs]

    @property
    def going_on(self) -> bool:
        """Whether it trains another epoch."""
        return (
            self.error is None
            and self.state.epochs < self.epochs
            and not stops_early(self.training.plan, self.settings, self.state.records)
        )


def stack_key(
    trunk_key: str,
    settings: Settings,
    augmentation: Entry,
    *,
    fold: int | None,
    train_samples: int,
) -> str:
    """What the heads of one stack agree in: equal keys may be trained together.

    `trunk_key` names the frozen trunk and the data. What is not here, each head has of its own.
    The seed could differ too; but where views vary with it, nothing is shared by one stack. Folds
    differ by an image in size, and of groups that stay whole the splits of seeds do: a stack takes
    as many steps of as many samples for all of its heads.
    """
    return content_hash(
        [
            trunk_key,
            settings.head.identity(),
            augmentation.identity(),
            settings.seed if augmentation.name != "none" else None,
            settings.shots,
            fold,
            train_samples,
            settings.batch_size,
            settings.optimizer,
            settings.nesterov,
            settings.cpu_threads,
        ]
    )


def train_heads(trials: Sequence[HeadTrial]) -> Iterator[tuple[list[HeadTrial], EpochRecord]]:
    """Train all `trials`, epoch by epoch; yields each new record with the trials that it is of.

    They must have one `stack_key`, but for their seeds. A trial whose loss is not finite gets its
    `error` and leaves; the others go on.
    """
    stack = _Stack(trials)
    while stack.trials:
        yield from stack.train_epoch()


class _Stack:
    """The heads that are still trained, a row for each distinct epoch key."""

    def __init__(self, trials: Sequence[HeadTrial]) -> None:
        first = trials[0].training
        first.load({})  # an earlier task may have left the network in another state
        layers = first.network.head_layers()
        assert layers is not None
        self._layers: Layers = layers
        self._device = first.device
        self._streams = _streams(trials)
        self._rows: list[list[HeadTrial]] = [[trial] for trial in trials]
        self._parameters = _stacked([_start(trial) for trial in trials])
        self._slots: dict[str, Tensors] = {}
        self._epoch = 0
        self._bytes = 0
        self._merge()

    @property
    def trials(self) -> list[HeadTrial]:
        """Those that go on."""
        return [trial for row in self._rows for trial in row]

    def train_epoch(self) -> Iterator[tuple[list[HeadTrial], EpochRecord]]:
        started = time.perf_counter()
        for stream in self._streams.values():
            stream.network.eval()
        scores, lrs = self._train()
        trained = time.perf_counter()
        vals = self._scored(lambda splits: splits.val)
        share = 1 / len(self._rows)
        train_seconds = (trained - started) * share
        val_seconds = (time.perf_counter() - trained) * share
        diagnosed = self._rows[0][0].settings.diagnose is not None
        tests = self._scored(lambda splits: splits.test) if diagnosed else [None] * len(vals)
        peak = self._rows[0][0].training.peak_memory_mib()
        self._epoch += 1
        news = []
        for index, row in enumerate(self._rows):
            record = EpochRecord(
                epoch=self._epoch,
                lr=lrs[index],
                train=scores[index],
                val=vals[index],
                test=tests[index],
                train_seconds=train_seconds,
                val_seconds=val_seconds,
                peak_memory_mib=peak,
                shared_memory_mib=(1 - share) * self._bytes / 2**20,
            )
            if self._note(index, row, record):
                news.append((list(row), record))
        self._merge()
        yield from news

    def _note(self, index: int, row: list[HeadTrial], record: EpochRecord) -> bool:
        """Give the row's trials their record; whether the losses are finite."""
        try:
            lr = row[0].training.settings.lr
            check_finite(lr, record.epoch - 1, record.train, record.val)
        except TrainingDivergedError as error:
            for trial in row:
                trial.error = error
            return False
        state = row[0].state
        records = (*state.records, record)
        best = state.best
        model = {name: tensor[index].clone() for name, tensor in self._parameters.items()}
        if chosen_record(records, row[0].settings) is record:
            best = model
        optimizer = {
            name: {slot: tensor[index].clone() for slot, tensor in slots.items()}
            for name, slots in self._slots.items()
        }
        state = State(records=records, model=model, best=best, optimizer=optimizer)
        for trial in row:
            trial.state = state
        return True

    def _merge(self) -> None:
        """A row for every key of the coming epoch: rows part, end and, at the start, merge."""
        rows: dict[object, tuple[int, list[HeadTrial]]] = {}
        for index, row in enumerate(self._rows):
            for trial in row:
                if trial.going_on:
                    rows.setdefault(trial.key(self._epoch + 1), (index, []))[1].append(trial)
        self._rows = [row for _, row in rows.values()]
        chosen = [index for index, _ in rows.values()]
        self._parameters = _chosen(self._parameters, chosen)
        self._slots = {name: _chosen(slots, chosen) for name, slots in self._slots.items()}

    # Training -----------------------------------------------------------------------------

    def _train(self) -> tuple[list[Scores], list[float]]:
        epoch, trainings = self._epoch, [row[0].training for row in self._rows]
        streams = list({id(stream): stream for stream in self._streams_of(trainings)}.values())
        stream_of = self._vector(
            [streams.index(w) for w in self._streams_of(trainings)], torch.long
        )
        inputs = [
            EpochInputs(w, HEAD, w.views, epoch, among=w.splits.train, pristine=True)
            for w in streams
        ]
        orders = [batch_order(stream, epoch) for stream in streams]
        steps = len(orders[0])
        lrs = self._learning_rates(trainings, steps)
        rates = on_device(lrs, _with_doubles(self._device))
        loss_sum = torch.zeros(len(trainings), device=self._device)
        correct = torch.zeros(len(trainings), device=self._device)
        losses = stacked(
            [training.objective for training in trainings],
            len(trainings[0].data.classes),
            lambda tensor: on_device(tensor, self._device),
        )
        self._anchors = [self._start_by_address(row[0]) for row in self._rows]
        optimizer = _Optimizer(trainings, self._decays(trainings), self._device)
        for step in range(steps):
            batches = [
                training_batch(w, Step(inputs=i, samples=order[step], number=step))
                for w, i, order in zip(streams, inputs, orders, strict=True)
            ]
            features = torch.stack([batch.float() for batch, _ in batches])[stream_of]
            targets = torch.stack([targets for _, targets in batches])[stream_of]
            self._note_bytes(features)
            masks = self._masks(streams, stream_of, features.shape[1], step)
            with one_thread():
                logits = self._step(features, targets, masks, losses, optimizer, rates[:, step])
                targets = as_recorded(trainings[0], targets)
                loss_sum += losses.recorded(logits, targets) * features.shape[1]
            correct += hits(trainings[0], logits, targets)
        seen = sum(len(batch) for batch in orders[0])
        sums = torch.stack([loss_sum, correct], dim=1).tolist()
        scores = [
            train_scores(training, loss / seen, right / seen)
            for training, (loss, right) in zip(trainings, sums, strict=True)
        ]
        return scores, lrs[:, 0].tolist()

    def _step(
        self,
        features: Tensor,
        targets: Tensor,
        masks: Sequence[Tensor],
        losses: StackedObjective,
        optimizer: _Optimizer,
        lr: Tensor,
    ) -> Tensor:
        """One optimiser step of every row; returns the logits."""
        for tensor in self._parameters.values():
            tensor.requires_grad_()
        logits = _run(self._layers, self._parameters, features, masks)
        gradients = torch.autograd.grad(
            self._with_penalties(losses.loss(logits, targets).sum()),
            list(self._parameters.values()),
        )
        self._parameters = optimizer.step(
            self._parameters,
            dict(zip(self._parameters, gradients, strict=True)),
            self._slots,
            lr=lr,
        )
        return logits.detach()

    def _with_penalties(self, loss: Tensor) -> Tensor:
        """The loss of all rows and the penalties of each, which touch its own parameters alone."""
        for index, row in enumerate(self._rows):
            training = row[0].training
            if not training.plan.penalties:
                continue
            address = training.network.address_of
            own = {address(name): tensor[index] for name, tensor in self._parameters.items()}
            value = penalty(training.plan, own, self._anchors[index])
            loss = loss if value is None else loss + value
        return loss

    def _start_by_address(self, trial: HeadTrial) -> Tensors:
        """What the trial's penalties hold its head to."""
        if not trial.training.plan.penalties:
            return {}
        address = trial.training.network.address_of
        return {address(name): tensor for name, tensor in _start(trial).items()}

    def _decays(self, trainings: Sequence[Training]) -> dict[str, Tensor]:
        """The weight decay `[rows]` of every parameter, as rules have it."""
        decays = {}
        for name, parameter in self._parameters.items():
            values = []
            for training in trainings:
                rule = training.plan.stage_at(self._epoch).rule_for(
                    training.network.address_of(name)
                )
                values.append(training.settings.weight_decay * rule.decay(parameter.ndim - 1))
            decays[name] = self._vector(values, torch.float32)
        return decays

    def _streams_of(self, trainings: Sequence[Training]) -> list[Training]:
        return [self._streams[_stream_key(training)] for training in trainings]

    def _learning_rates(self, trainings: Sequence[Training], steps: int) -> Tensor:
        """`[rows, steps]` in double precision, as `set_lr` computes them."""
        rates = np.empty((len(trainings), steps))
        for row, (training, trials) in enumerate(zip(trainings, self._rows, strict=True)):
            stage = training.plan.stage_at(self._epoch)
            (name, *_) = self._parameters
            multiplier = stage.rule_for(training.network.address_of(name)).lr or 0.0
            losses = val_losses(trials[0].state.records)
            for step in range(steps):
                progress = Progress(
                    step=self._epoch * steps + step,
                    steps_per_epoch=steps,
                    num_epochs=training.plan.epochs,
                    val_losses=losses,
                )
                factor = lr_factor(training.schedule, progress)
                rates[row, step] = training.settings.lr * multiplier * factor
        return torch.from_numpy(rates)

    def _masks(
        self, streams: Sequence[Training], stream_of: Tensor, batch: int, step: int
    ) -> list[Tensor]:
        """One `[rows, batch, width]` for each dropout layer: the draws of the seed, epoch, step."""
        dropouts = [layer for _, layer in self._layers if isinstance(layer, nn.Dropout)]
        if not any(layer.p for layer in dropouts):
            return []
        drawn: list[list[Tensor]] = []
        for stream in streams:
            key = (stream.settings.seed, "dropout", self._epoch, step, HEAD)
            torch.manual_seed(derive_seed(*key))
            widths = _dropout_widths(self._layers)
            drawn.append(
                [
                    F.dropout(torch.ones(batch, width, device=self._device), layer.p)
                    for layer, width in zip(dropouts, widths, strict=True)
                ]
            )
        return [torch.stack(masks)[stream_of] for masks in zip(*drawn, strict=True)]

    # Evaluation ---------------------------------------------------------------------------

    def _scored(self, samples_of: Callable[[Splits], Samples]) -> list[Scores | None]:
        """The scores of every row on a split; None without samples."""
        trainings = [row[0].training for row in self._rows]
        places, found = [], []
        for stream in self._streams.values():
            rows = [i for i, w in enumerate(self._streams_of(trainings)) if w is stream]
            samples, logits = samples_of(stream.splits), []
            if not rows or not samples.size:
                continue
            inputs = EpochInputs(
                stream, HEAD, stream.central, self._epoch, among=samples, pristine=True
            )
            parameters = _chosen(self._parameters, rows)
            for start in range(0, len(samples), EVALUATION_BATCH):
                part = samples[start : start + EVALUATION_BATCH]
                features = inputs.of(part).float()
                stacked = features.expand(len(rows), *features.shape).contiguous()
                self._note_bytes(stacked)
                with torch.no_grad(), one_thread():
                    logits.append(_run(self._layers, parameters, stacked, []))
            places.append((rows, samples))
            found.append(torch.cat(logits, dim=1))
        scores = {
            row: score(trainings[row], own, samples)
            for (rows, samples), all_own in zip(places, _on_host(found), strict=True)
            for row, own in zip(rows, all_own, strict=True)
        }
        return [scores.get(row) for row in range(len(trainings))]

    def _note_bytes(self, features: Tensor) -> None:
        """What all rows together take at most in a step that begins with these features.

        Parameters, their gradients and what comes of them, optimiser slots; activations twice.
        """
        slots = [tensor for own in self._slots.values() for tensor in own.values()]
        parameters = sum(tensor.nbytes for tensor in self._parameters.values())
        widest = max(tensor.shape[1] for tensor in self._parameters.values())
        activations = features.nbytes * (1 + 2 * widest / features.shape[-1])
        taken = 4 * parameters + 2 * sum(tensor.nbytes for tensor in slots) + int(activations)
        self._bytes = max(self._bytes, taken)

    def _vector(self, values: Sequence[Any], dtype: torch.dtype) -> Tensor:
        return on_device(torch.tensor(values, dtype=dtype), self._device)


def _stream_key(training: Training) -> tuple[object, ...]:
    return (training.settings.seed, training.settings.sampler)


def _streams(trials: Sequence[HeadTrial]) -> dict[tuple[object, ...], Training]:
    """One training for each seed and sampler: what its features, batches and draws come from."""
    streams: dict[tuple[object, ...], Training] = {}
    for trial in trials:
        streams.setdefault(_stream_key(trial.training), trial.training)
    return streams


def _start(trial: HeadTrial) -> Tensors:
    if trial.start is not None:
        device = trial.training.device
        return {name: on_device(tensor, device) for name, tensor in trial.start.items()}
    return head_parameters(trial.training.network)


def head_parameters(network: Network) -> Tensors:
    """The parameters of a head that can be stacked."""
    layers = network.head_layers()
    assert layers is not None
    return {
        f"{name}.{own}": parameter.detach().clone()
        for name, layer in layers
        for own, parameter in layer.named_parameters()
    }


def _stacked(heads: Sequence[Tensors]) -> Tensors:
    return {name: torch.stack([head[name] for head in heads]) for name in heads[0]}


def _chosen(tensors: Mapping[str, Tensor], rows: Sequence[int]) -> Tensors:
    places = {tensor.device for tensor in tensors.values()}
    numbers = torch.tensor(rows, dtype=torch.long)
    chosen = {place: on_device(numbers, place) for place in places}
    return {name: tensor.detach()[chosen[tensor.device]] for name, tensor in tensors.items()}


def _on_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of one device on the CPU, by one copy: for each of several the host would wait."""
    if not tensors or tensors[0].device.type == "cpu":
        return list(tensors)
    together = torch.cat([tensor.flatten() for tensor in tensors]).cpu()
    pieces = torch.split(together, [tensor.numel() for tensor in tensors])
    return [own.view(tensor.shape) for own, tensor in zip(pieces, tensors, strict=True)]


def _dropout_widths(layers: Layers) -> list[int]:
    """The width of what flows into each dropout layer."""
    linear = [layer for _, layer in layers if isinstance(layer, nn.Linear)]
    width, widths = linear[0].in_features, []
    for _, layer in layers:
        if isinstance(layer, nn.Linear):
            width = layer.out_features
        elif isinstance(layer, nn.Dropout):
            widths.append(width)
    return widths


def _run(
    layers: Layers, parameters: Mapping[str, Tensor], features: Tensor, masks: Sequence[Tensor]
) -> Tensor:
    """Logits `[rows, n, classes]` of `features` `[rows, n, width]`.

    On a CUDA device a single row has a twin: cuBLAS has another kernel for one product than for
    several, which adds up in another order.
    """
    if features.is_cuda and len(features) == 1:
        twins = {name: torch.cat([tensor, tensor]) for name, tensor in parameters.items()}
        both = torch.cat([features, features])
        return _run(layers, twins, both, [torch.cat([mask, mask]) for mask in masks])[:1]
    remaining = list(masks)
    for name, layer in layers:
        if isinstance(layer, nn.Linear):
            weight = parameters[f"{name}.weight"].transpose(1, 2)
            bias = parameters.get(f"{name}.bias")
            if bias is None:
                features = torch.bmm(features, weight)
            else:
                features = torch.baddbmm(bias[:, None, :], features, weight)
        elif isinstance(layer, nn.ReLU):
            features = features.relu()
        elif isinstance(layer, nn.Dropout) and remaining:
            features = features * remaining.pop(0)
    return features


class _Optimizer:
    """The steps of `torch.optim.SGD`, `Adam` and `AdamW`, a row with settings of its own each."""

    def __init__(
        self, trainings: Sequence[Training], decays: Mapping[str, Tensor], device: torch.device
    ) -> None:
        settings = [training.settings for training in trainings]
        self._decays = decays
        self._double = _with_doubles(device)
        self._name, self._nesterov = settings[0].optimizer, settings[0].nesterov
        infinite = float("inf")
        self._momentum, self._clip = (
            on_device(torch.tensor(values, dtype=torch.float32), device)
            for values in (
                [s.momentum for s in settings],
                [infinite if s.grad_clip_norm is None else s.grad_clip_norm for s in settings],
            )
        )

    def step(
        self, parameters: Tensors, gradients: Tensors, slots: dict[str, Tensors], *, lr: Tensor
    ) -> Tensors:
        """The parameters after one step; `slots` are changed, `lr` is `[rows]` in double precision,
        where that is computed."""
        squares = [(g * g).flatten(1).sum(dim=1) for g in gradients.values()]
        norm = torch.stack(squares).sum(dim=0).sqrt()
        scale = (self._clip / (norm + 1e-6)).clamp(max=1.0)
        scale = torch.where(self._clip.isinf(), 1.0, scale)  # inf / inf where a square overflows
        after = {}
        for name, before in parameters.items():
            gradient = gradients[name] * _like(scale, before)
            own = slots.setdefault(name, {})
            old = before.detach()
            if self._name == "sgd":
                after[name] = self._sgd(old, gradient, own, lr, self._decays[name])
            else:
                after[name] = self._adam(old, gradient, own, lr, self._decays[name])
        return after

    def _sgd(
        self, before: Tensor, gradient: Tensor, slots: Tensors, lr: Tensor, decay: Tensor
    ) -> Tensor:
        momentum = _like(self._momentum, before)
        gradient = gradient + _like(decay, before) * before
        # From zero, the first step stores the gradient itself, as torch does.
        buffer = slots.get("momentum_buffer")
        buffer = gradient if buffer is None else momentum * buffer + gradient
        slots["momentum_buffer"] = buffer
        step = gradient + momentum * buffer if self._nesterov else buffer
        return before - _single(lr, before) * step

    def _adam(
        self, before: Tensor, gradient: Tensor, slots: Tensors, lr: Tensor, decay: Tensor
    ) -> Tensor:
        beta1, beta2 = ADAM_BETAS
        if self._name == "adamw":
            before = before * (1 - _single(lr * decay.to(self._double), before))
        else:
            gradient = gradient + _like(decay, before) * before
        zeros = torch.zeros_like(before)
        mean = slots.get("exp_avg", zeros) * beta1 + gradient * (1 - beta1)
        square = slots.get("exp_avg_sq", zeros) * beta2 + gradient * gradient * (1 - beta2)
        steps = slots.get("step", torch.zeros(len(before))) + 1
        slots.update(exp_avg=mean, exp_avg_sq=square, step=steps)
        count = on_device(steps.double(), self._double)
        size = lr / (1 - beta1**count)
        denominator = square.sqrt() / _single((1 - beta2**count).sqrt(), before)
        return before - _single(size, before) * (mean / (denominator + ADAM_EPSILON))


def _with_doubles(device: torch.device) -> torch.device:
    """Where double precision is computed for `device`: there, or on the CPU if it has none."""
    return torch.device("cpu") if device.type == "mps" else device


def _single(values: Tensor, tensor: Tensor) -> Tensor:
    """`values` `[rows]`, rounded to single precision, to be multiplied with `tensor`."""
    return _like(values.float().to(tensor.device), tensor)


def _like(values: Tensor, tensor: Tensor) -> Tensor:
    """`values` `[rows]`, to be multiplied with `tensor` `[rows, …]`."""
    return values.view(-1, *[1] * (tensor.ndim - 1))
