"""Batches computed on one device: what a step adds to the gradients, and the logits of samples."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import Tensor

from bench.data import Samples
from bench.methods.objectives import Share
from bench.methods.plan import HEAD
from bench.models.evaluation import evaluation_batch
from bench.system.token_rows import SHARE_ONE
from bench.training.feature_penalties import Outputs, Rows, feature_penalty
from bench.training.fixed_order import in_fixed_order
from bench.training.state import States
from bench.training.trial import (
    EpochInputs,
    Step,
    Training,
    batch_edges,
    forward,
    training_batch,
)

AUXILIARY_WEIGHT = 0.4
"""Weight of an auxiliary classifier's loss (Szegedy et al., Rethinking Inception, 2016)."""


class OneDevice:
    """Every batch as a whole, here; with `micro_batch` in pieces whose gradients add up."""

    def begin_epoch(self, training: Training) -> None:
        """Nothing has to be prepared."""

    def add_gradients(self, training: Training, step: Step) -> tuple[Tensor, Tensor]:
        """Add the gradients of the mean loss over the batch; see `Compute`."""
        return in_fixed_order(training, step, lambda: self._add_gradients(training, step))

    def _add_gradients(self, training: Training, step: Step) -> tuple[Tensor, Tensor]:
        pieces = pieces_of(training, step)
        activations, targets = training_batch(training, step)
        logits = []
        for number, piece in enumerate(pieces):
            cut, own = len(pieces) > 1, targets[piece]
            loss, piece_logits = loss_and_logits(
                training,
                activations[piece],
                own,
                step,
                piece=number if cut else None,
                share=training.objective.share(own, targets) if cut else None,
            )
            training.scaled(loss).backward()  # type: ignore[no-untyped-call]
            logits.append(piece_logits)
        return torch.cat(logits), targets

    def logits(self, training: Training, inputs: EpochInputs, samples: Samples) -> Tensor:
        """The logits of all samples; see `Compute`."""
        starts = range(0, len(samples), evaluation_batch(training.device))
        return evaluated(training, inputs, samples, starts)

    def total(self, values: Tensor) -> Tensor:
        """What is found here is all."""
        return values

    def states(self, own: States) -> States:
        """Nobody else looks for states."""
        return own


def pieces_of(training: Training, step: Step) -> list[slice]:
    """The batch in pieces of `micro_batch`; none is of one sample, as batch statistics need two."""
    count, micro_batch = len(step.samples), training.settings.micro_batch
    together = training.plan.together
    edges = [0] if micro_batch is None else batch_edges(count, micro_batch, together=together)
    return [slice(start, end) for start, end in pairwise([*edges, count])]


def loss_and_logits(
    training: Training,
    activations: Tensor,
    targets: Tensor,
    step: Step,
    *,
    piece: int | None,
    share: Share | None,
    times: int = 1,
) -> tuple[Tensor, Tensor]:
    """The mean loss over these rows, auxiliary ones and penalties of features included, and their
    logits, detached.

    With `share` their part of the mean over the batch; what sums over samples counts `times`.
    `piece` is the number of the piece that the rows are of, where the batch has several: each has
    dropout masks of its own.
    """
    epoch, boundary = step.inputs.epoch, step.inputs.boundary
    sources, target = len(activations), None
    if step.beside is not None:
        assert step.beside_inputs is not None
        assert share is None, "a batch that is aligned is never cut"
        beside = step.beside_inputs.of(step.beside)
        activations = torch.cat([activations, _as_rows_of(activations, beside)])
    of_step = (training.settings.seed, "dropout", epoch, step.number)
    dropout = of_step if piece is None else (*of_step, piece)
    logits, captured = forward(
        training,
        activations,
        start=boundary,
        capture=step.capture,
        held=step.held,
        dropout=dropout,
    )
    if step.beside is not None:
        target = Outputs(captured[HEAD][sources:], logits[sources:])
        activations, logits = activations[:sources], logits[:sources]
        captured = {name: each[:sources] for name, each in captured.items()}
    loss = training.objective.loss(logits, targets, share)
    for name in step.capture:
        if name in captured:
            own = training.objective.loss(captured[name].float(), targets, share)
            loss = loss + AUXILIARY_WEIGHT * own
    if step.held is not None:
        rows = Rows(activations, captured, targets, dropout, share, times, logits, target)
        loss = loss + feature_penalty(training, step, rows)
    return loss, logits.detach()


def _as_rows_of(activations: Tensor, beside: Tensor) -> Tensor:
    """What passes together with `activations`: beside texts mixed in pairs, each text with itself.

    See `bench.system.token_rows`.
    """
    if activations.ndim == beside.ndim:
        return beside
    return torch.stack([beside, beside, torch.full_like(beside, SHARE_ONE)], dim=1)


def evaluated(
    training: Training, inputs: EpochInputs, samples: Samples, starts: Iterable[int]
) -> Tensor:
    """Logits `[samples, classes]` on the CPU of the batches that begin at `starts`, else zeros.

    They come to the CPU together: for that alone the host waits.
    """
    logits = torch.zeros(len(samples), len(training.data.classes), device=training.device)
    with torch.no_grad():
        for start in starts:
            rows = slice(start, start + evaluation_batch(training.device))
            activations = inputs.of(samples[rows])
            logits[rows] = forward(training, activations, start=inputs.boundary)[0]
    return logits.cpu()
