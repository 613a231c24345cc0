"""Heads that start from texts: zero-shot, Tip-Adapter with its keys, CoOp with its words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.errors import BenchError
from bench.keys import derive_seed
from bench.methods.prompts import class_names, class_texts
from bench.training.fits.base import Candidate, ClassTexts, Samples, TextTower, path, single

ALPHAS = (0.0, 0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 13.0)
BETAS = (0.1, 0.5, 1.0, 2.0, 3.0, 4.0, 5.5, 7.0, 9.0, 13.0)
"""What validation chooses from: the range that the method's authors search, without their 4,000
pairs, which a small validation split cannot tell apart."""

START_ALPHA, START_BETA = 2.0, 1.0
"""With which keys train."""
_KEYS_BATCH, _EPSILON = 256, 1e-4
FILLER = "X"
"""The word that stands where learned vectors are put."""
_SPREAD, _FIRST_RATE = 0.02, 1e-5


def _texts(samples: Samples) -> ClassTexts:
    assert samples.texts is not None, "the network knows no texts"
    return samples.texts


def zero_shot(
    samples: Samples,
    *,
    templates: Sequence[str],
    names: Mapping[str, str],
    prompts: Mapping[str, Sequence[str]],
) -> Iterator[Candidate]:
    """The cosine between a sample and the texts of each class, times the model's scale."""
    texts = _texts(samples)
    wording = class_texts(texts.classes, templates=templates, names=names, prompts=prompts)
    yield Candidate(chosen={}, tensors={"directions": texts.directions(wording)})


def tip_adapter(
    samples: Samples,
    *,
    alpha: float | None,
    beta: float | None,
    train: int,
    rate: float,
    templates: Sequence[str],
    names: Mapping[str, str],
    prompts: Mapping[str, Sequence[str]],
) -> Iterator[Candidate]:
    """Zero-shot with a cache of training samples; the texts alone come first."""
    (found,) = zero_shot(samples, templates=templates, names=names, prompts=prompts)
    directions = found.tensors["directions"]
    values = single(samples.answers if samples.weights is None else _weighed(samples))
    start = {"alpha": START_ALPHA if alpha is None else alpha}
    start["beta"] = START_BETA if beta is None else beta
    keys = F.normalize(samples.features, dim=1)
    if train and start["alpha"]:
        keys = _trained_keys(samples, keys, values, directions, epochs=train, lr=rate, **start)
    for count in path(alpha, ALPHAS):
        if not count:  # every β gives the same
            yield Candidate(
                chosen={"alpha": 0.0, "beta": start["beta"]}, tensors={"directions": directions}
            )
            continue
        for sharpness in path(beta, BETAS):
            tensors = {
                "directions": directions,
                "keys": keys,
                "values": values,
                "alpha": torch.tensor(float(count)),
                "beta": torch.tensor(float(sharpness)),
            }
            yield Candidate(chosen={"alpha": count, "beta": sharpness}, tensors=tensors)


def _weighed(samples: Samples) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    assert samples.weights is not None
    return samples.answers * samples.weights[:, None]


def _trained_keys(
    samples: Samples,
    keys: Tensor,
    values: Tensor,
    directions: Tensor,
    *,
    epochs: int,
    lr: float,
    alpha: float,
    beta: float,
) -> Tensor:
    """The keys after so many epochs: AdamW, a cosine to 0, batches of 256; the last ones.

    They start at length 1, which training need not keep.
    """
    features, wanted = keys.clone(), torch.from_numpy(samples.answers).float()
    trained = keys.clone().requires_grad_()
    optimizer = torch.optim.AdamW([trained], lr=lr, eps=_EPSILON)
    draw = np.random.default_rng(derive_seed(samples.seed, "order"))
    count = len(features)
    steps = epochs * math.ceil(count / _KEYS_BATCH)
    step = 0
    for _ in range(epochs):
        order = draw.permutation(count)
        for at in range(0, count, _KEYS_BATCH):
            rows = torch.from_numpy(order[at : at + _KEYS_BATCH])
            optimizer.param_groups[0]["lr"] = lr * _cosine(step, steps)
            near = (-beta * (1 - features[rows] @ trained.T)).exp()
            logits = features[rows] @ directions.T + alpha * (near @ values)
            optimizer.zero_grad()
            torch.autograd.backward(_loss(logits, wanted[rows], samples, rows))
            optimizer.step()
            step += 1
    return trained.detach()


def _cosine(step: int, steps: int) -> float:
    return (1 + math.cos(math.pi * step / steps)) / 2


def _loss(logits: Tensor, wanted: Tensor, samples: Samples, rows: Tensor) -> Tensor:
    losses = F.cross_entropy(logits, wanted, reduction="none")
    if samples.weights is not None:
        losses = losses * torch.from_numpy(samples.weights).to(losses)[rows]
    return losses.mean()


def coop(
    samples: Samples,
    *,
    context: int,
    train: int,
    batch: int,
    rate: float,
    names: Mapping[str, str],
) -> Iterator[Candidate]:
    """Learned vectors in front of the names of all classes, as the text tower reads them."""
    texts = _texts(samples)
    prompts = Prompted(texts.tower(), class_names(texts.classes, names), context, samples.seed)
    features = F.normalize(samples.features, dim=1)
    wanted = torch.from_numpy(samples.answers).float()
    optimizer = torch.optim.SGD([prompts.context], lr=rate, momentum=0.9, weight_decay=5e-4)
    draw = np.random.default_rng(derive_seed(samples.seed, "order"))
    for epoch in range(train):
        # The first epoch warms up; as long as it is the only one, it trains.
        first = epoch == 0 and train > 1
        optimizer.param_groups[0]["lr"] = _FIRST_RATE if first else rate * _cosine(epoch, train)
        order = draw.permutation(len(features))
        for at in range(0, len(features), batch):
            rows = torch.from_numpy(order[at : at + batch])
            optimizer.zero_grad()
            logits = features[rows] @ prompts.directions().T
            torch.autograd.backward(_loss(logits, wanted[rows], samples, rows))
            optimizer.step()
    with torch.no_grad():
        yield Candidate(chosen={}, tensors={"directions": prompts.directions()})


class Prompted:
    """The names of classes behind `context` vectors `[count, width]`, which alone can learn."""

    def __init__(self, tower: TextTower, names: Sequence[str], count: int, seed: int) -> None:
        self._tower = tower
        places = " ".join([FILLER] * count)
        self._ids = tower.tokens([f"{places} {name}." for name in names])
        self._check(tower.tokens([f"{name}." for name in names]), count)
        generator = torch.Generator().manual_seed(derive_seed(seed, "context") % 2**63)
        start = _SPREAD * torch.randn(count, tower.width, generator=generator)
        self.context = start.requires_grad_()

    def _check(self, names: Tensor, count: int) -> None:
        """Raise `BenchError` unless the vectors stand between a first token and whole names."""
        length = names.shape[1]
        behind, alone = self._ids[:, 1 + count :], names[:, 1 : max(1, length - count)]
        same_start = torch.equal(self._ids[:, 0], names[:, 0])
        if not (same_start and torch.equal(behind, alone)):
            raise BenchError(
                f"coop: {count} vectors and the names of classes do not fit into the "
                f"{length} tokens of a text, or the tokenizer of this model puts no token in "
                "front; use a smaller context"
            )

    def directions(self) -> Tensor:
        """Of each class `[classes, features]`: products with features of length 1 are logits."""
        with self._tower.with_context(self.context):
            return self._tower.scale * self._tower.embeddings(self._ids)
