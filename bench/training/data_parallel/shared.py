"""The batches of a trial shared among ranks: what `OneDevice` computes, by several processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bench.data import Samples
from bench.methods.objectives import Share
from bench.models.evaluation import evaluation_batch
from bench.training.data_parallel.ranks import Ranks, Shard
from bench.training.data_parallel.whole_batch import whole_batch
from bench.training.one_device import evaluated, loss_and_logits, pieces_of
from bench.training.state import State, States
from bench.training.trial import EpochInputs, Step, Training, training_batch


class SharedBatches:
    """Each rank computes its rows of every piece of a batch; all of them must call alike."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks

    def begin_epoch(self, training: Training) -> None:
        """From here on gradients are averaged; see `Ranks.train`."""
        self._ranks.train(p for p in training.network.parameters() if p.requires_grad)

    def add_gradients(self, training: Training, step: Step) -> tuple[Tensor, Tensor]:
        """Add the gradients of the mean loss over the whole batch; see `Compute`."""
        pieces = pieces_of(training, step)
        shards = [self._ranks.shard(piece, training.plan.together) for piece in pieces]
        activations, targets = training_batch(training, step, rows=[s.rows for s in shards])
        of_shards = torch.split(activations, [shard.size for shard in shards])
        logits = [
            self._add_own(
                training,
                own,
                targets,
                shard,
                step,
                piece=number if len(pieces) > 1 else None,
                last=number == len(shards) - 1,
            )
            for number, (shard, own) in enumerate(zip(shards, of_shards, strict=True))
        ]
        counting = [targets[shard.rows if shard.counts else slice(0)] for shard in shards]
        return torch.cat(logits), torch.cat(counting)

    def _add_own(
        self,
        training: Training,
        activations: Tensor,
        targets: Tensor,
        shard: Shard,
        step: Step,
        *,
        piece: int | None,
        last: bool,
    ) -> Tensor:
        """Add the part of this rank; returns the logits of the rows that count, detached."""
        own = targets[shard.rows]
        share = Share(0.0, 0.0)
        if shard.counts:  # gradients are averaged over the ranks
            share = training.objective.share(own, targets, times=self._ranks.count)

        def compute() -> tuple[Tensor, Tensor]:
            with whole_batch(shard):
                return loss_and_logits(
                    training,
                    activations,
                    own,
                    step,
                    piece=piece,
                    share=share,
                    times=self._ranks.count if shard.counts else 0,
                )

        loss, logits = self._ranks.compute(compute, last=last)
        training.scaled(loss).backward()  # type: ignore[no-untyped-call]
        return logits if shard.counts else logits[:0]

    def logits(self, training: Training, inputs: EpochInputs, samples: Samples) -> Tensor:
        """The ranks share out whole batches: a logit has the same bits on however many."""
        size = evaluation_batch(training.device)
        first, step = self._ranks.rank * size, self._ranks.count * size
        starts = range(first, len(samples), step)
        return self._ranks.total(evaluated(training, inputs, samples, starts))

    def total(self, values: Tensor) -> Tensor:
        """The sum over all ranks."""
        return self._ranks.total(values)

    def states(self, own: States) -> States:
        """The states that the first rank finds; the others might look when they are gone."""
        return _StatesOfFirst(own, self._ranks)


class _StatesOfFirst:
    def __init__(self, own: States, ranks: Ranks) -> None:
        self._own = own
        self._ranks = ranks

    def save(self, key: str, state: State) -> None:
        """Keep `state`, once for all ranks."""
        if self._ranks.leads:
            self._own.save(key, state)

    def deepest(self, keys: Sequence[str]) -> State | None:
        """What the first rank finds."""
        return self._ranks.from_first(lambda: self._own.deepest(keys))
