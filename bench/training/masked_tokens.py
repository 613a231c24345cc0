"""Pretraining by masked tokens (Devlin et al., BERT, 2019): gaps in sentences are filled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.data.text.tokens import Tokens
from bench.keys import derive_seed
from bench.methods.schedules import Progress, one_cycle
from bench.models.evaluation import one_thread
from bench.system.token_rows import PADDING

PRETRAINING_VERSION = 1
"""Part of the weights' fingerprint: raise it with every change that alters what is learned."""

CHOSEN = 0.15
"""Of the tokens so many are to be told."""
MASKED, EXCHANGED = 0.8, 0.1
"""Of these so many are hidden, and so many another token; the rest stays."""
MAX_NORM = 1.0
WEIGHT_DECAY = 0.01
WARM_FRACTION = 0.1


@dataclass(frozen=True, kw_only=True)
class Masking:
    """Which ids rows of tokens are hidden with: `mask`, and those from `first` up to `words`."""

    mask: int
    first: int
    words: int


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How long, at which peak of a one-cycle schedule, in batches of how many rows."""

    epochs: int
    lr: float
    batch_size: int
    seed: int


def pretrain_masked(
    body: nn.Module,
    embeddings: nn.Embedding,
    rows: Tokens,
    *,
    masking: Masking,
    recipe: Recipe,
    on_epoch: Callable[[int], None],
) -> list[float]:
    """Train `body` to tell hidden tokens of `rows` int32 [n, length]; the mean loss of each epoch.

    Its states are compared with the rows of `embeddings`, which are its own. What is drawn depends
    on (seed, epoch) and the row alone; it is computed by one thread, so that it is the same
    wherever a processor computes the same. `on_epoch` is told how many epochs are done.
    """
    bias = nn.Parameter(torch.zeros(embeddings.num_embeddings))
    parameters = [*body.parameters(), bias]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=WEIGHT_DECAY)
    steps = -(-len(rows) // recipe.batch_size)
    losses: list[float] = []
    body.train()
    with one_thread():
        for epoch in range(recipe.epochs):
            total = 0.0
            for step, batch in enumerate(_batches(rows, masking, recipe, epoch)):
                at = Progress(
                    step=epoch * steps + step, steps_per_epoch=steps, num_epochs=recipe.epochs
                )
                for group in optimizer.param_groups:
                    group["lr"] = recipe.lr * one_cycle(at, warm_fraction=WARM_FRACTION)
                optimizer.zero_grad()
                loss = _loss(body, embeddings.weight, bias, *batch)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(parameters, MAX_NORM)
                optimizer.step()
                total += loss.item()
            losses.append(total / steps)
            on_epoch(epoch + 1)
    body.eval()
    return losses


def _loss(
    body: nn.Module, words: Tensor, bias: Tensor, shown: Tensor, chosen: Tensor, truth: Tensor
) -> Tensor:
    mask = shown != PADDING
    ids = shown.where(mask, 0).long()
    states = body(input_ids=ids, attention_mask=mask).last_hidden_state
    logits = states[chosen] @ words.T + bias
    # A batch in which nothing is hidden has nothing to say.
    return F.cross_entropy(logits, truth.long(), reduction="sum") / max(1, len(truth))


def _batches(
    rows: Tokens, masking: Masking, recipe: Recipe, epoch: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rows as they are shown, where they are to be told, and what is right there."""
    shown, chosen = hide(rows, masking, seed=recipe.seed, epoch=epoch)
    order = np.random.default_rng(derive_seed(recipe.seed, "order", epoch)).permutation(len(rows))
    for start in range(0, len(rows), recipe.batch_size):
        own = order[start : start + recipe.batch_size]
        width = int((rows[own] != PADDING).sum(axis=1).max())
        hidden, told = shown[own, :width], chosen[own, :width]
        truth = rows[own, :width][told]
        yield torch.from_numpy(hidden), torch.from_numpy(told), torch.from_numpy(truth)


def hide(
    rows: Tokens, masking: Masking, *, seed: int, epoch: int
) -> tuple[Tokens, npt.NDArray[np.bool_]]:
    """`rows` as they are shown in an epoch, and which of their tokens are to be told."""
    draws = np.random.default_rng(derive_seed(seed, "hidden", epoch))
    which, how, other = np.moveaxis(draws.random((*rows.shape, 3)), -1, 0)
    others = masking.first + (other * (masking.words - masking.first)).astype(np.int32)
    chosen = (which < CHOSEN) & (rows != PADDING)
    shown = rows.copy()
    shown[chosen & (how < MASKED)] = masking.mask
    exchanged = chosen & (how >= MASKED) & (how < MASKED + EXCHANGED)
    shown[exchanged] = others[exchanged]
    return shown, chosen
