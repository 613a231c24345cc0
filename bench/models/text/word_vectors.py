"""Word vectors as a network: one vector a text, of those of its words, in front of a classifier."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.methods.plan import HEAD
from bench.models.network import LayerGroup, layer_group
from bench.models.text.vector_files import MAX_VALUES
from bench.system.token_rows import SHARE_ONE

MEAN, TFIDF, SIF = "mean", "tfidf", "sif"
LEARNED = {MEAN: (), TFIDF: ("word_weights",), SIF: ("word_weights", "common")}
"""What each pooling knows of the training texts, by the names of buffers."""

SIF_A = 1e-3
"""How rare a word must be to count half (Arora et al., A Simple but Tough-to-Beat Baseline for
Sentence Embeddings, 2017)."""

EMBEDDING = "embedding"
"""What holds the vectors, in files of weights too."""
_CLASSES = 1000

Floats = npt.NDArray[np.float64]


class WordVectorModel(nn.Module):
    """Vectors of `words` words, pooled, and a linear `classifier`.

    Takes int32 `[n, length]` of token ids, or `[n, 3, length]` of two texts and the share of the
    first (`bench.system.token_rows`); what is no word's (padding, and words without a vector)
    counts for nothing, and a text without words is 0. `pooling` is their `mean`; the mean weighted
    by how rare a word is among the training texts (`tfidf`); or `sif`, the mean of a / (a + p) with
    the word's share p of all training words, without the direction that training texts have most
    in common.
    """

    takes_texts = True
    word_weights: Tensor
    common: Tensor

    def __init__(self, words: int, dimensions: int, *, pooling: str) -> None:
        super().__init__()
        if pooling not in LEARNED:
            raise ValueError(f"pooling must be {MEAN}, {TFIDF} or {SIF}, got {pooling!r}")
        self.pooling = pooling
        # Where nothing has values, its own way to draw them would import much of torch.
        self.embedding = nn.Embedding(words, dimensions, _weight=torch.randn(words, dimensions))
        if "word_weights" in LEARNED[pooling]:
            self.register_buffer("word_weights", torch.ones(words))
        if "common" in LEARNED[pooling]:
            self.register_buffer("common", torch.zeros(dimensions))
        self.classifier = nn.Linear(dimensions, _CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits `[n, classes]`."""
        logits: Tensor = self.classifier(self.features(ids))
        return logits

    def features(self, ids: Tensor) -> Tensor:
        """One vector a text `[n, dimensions]`; of two that are mixed, the mixture of both."""
        if ids.ndim == 3:
            first, second, shares = ids.unbind(dim=1)
            share = shares[:, :1].to(self.embedding.weight.dtype) / SHARE_ONE
            return share * self.features(first) + (1 - share) * self.features(second)
        table = self.embedding.weight
        known = (ids >= 0) & (ids < len(table))
        ids = ids.where(known, 0).long()
        weights = known.to(table.dtype)
        if "word_weights" in LEARNED[self.pooling]:
            weights = weights * self.word_weights[ids].to(table.dtype)
        # Row by row, so that neither companions nor padding change a bit.
        if torch.compiler.is_exporting():  # which would take no batch of a single text
            total = (table[ids] * weights[..., None]).sum(dim=1)
        else:
            total = F.embedding_bag(ids, table, mode="sum", per_sample_weights=weights)
        shares = weights if self.pooling == TFIDF else known.to(table.dtype)
        counts = shares.double().sum(dim=1, keepdim=True).to(table.dtype)
        mean = total / counts.where(counts > 0, 1.0)
        if self.pooling == SIF:
            mean = mean - (mean * self.common).sum(dim=1, keepdim=True) * self.common
        return mean

    @property
    def learned_buffers(self) -> tuple[str, ...]:
        """The names of the buffers that depend on the training texts."""
        return LEARNED[self.pooling]

    def learned(self, ids: Tensor) -> dict[str, Tensor]:
        """The buffers that the training texts `[n, length]` give, by name."""
        table = self.embedding.weight.detach().cpu().double().numpy()
        texts = [row[(row >= 0) & (row < len(table))] for row in ids.cpu().numpy()]
        if self.pooling == TFIDF:
            return {"word_weights": _single(_rarity(texts, len(table)))}
        weights = _smooth_inverse_frequency(texts, len(table))
        means = np.stack([_mean(table[text] * weights[text, None]) for text in texts])
        return {"word_weights": _single(weights), "common": _single(_common_direction(means))}


def _rarity(texts: list[npt.NDArray[np.int32]], words: int) -> Floats:
    """log((1 + n) / (1 + texts with the word)) + 1, as scikit-learn smooths it."""
    having = np.zeros(words)
    for text in texts:
        having[np.unique(text)] += 1
    rarity: Floats = np.log((1 + len(texts)) / (1 + having)) + 1
    return rarity


def _smooth_inverse_frequency(texts: list[npt.NDArray[np.int32]], words: int) -> Floats:
    counts = np.bincount(np.concatenate(texts), minlength=words).astype(np.float64)
    shares: Floats = counts / max(counts.sum(), 1)
    return SIF_A / (SIF_A + shares)


def _mean(vectors: Floats) -> Floats:
    return np.asarray(vectors.mean(axis=0)) if len(vectors) else np.zeros(vectors.shape[1])


def _common_direction(means: Floats) -> Floats:
    """The first right singular vector; its largest part is positive, which changes nothing."""
    direction = np.linalg.eigh(means.T @ means)[1][:, -1]
    largest = direction[np.abs(direction).argmax()]
    return np.asarray(direction * np.sign(largest)) if means.any() else np.zeros(means.shape[1])


def _single(values: Floats) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def build(described: str) -> WordVectorModel:
    """The model that `StoredVectors.described` describes, with random vectors.

    Raises `ValueError` for what describes none, or one of more than `MAX_VALUES`.
    """
    said = json.loads(described)
    if not 1 <= said["words"] * said["dimensions"] <= MAX_VALUES:
        raise ValueError(f"word vectors have at most {MAX_VALUES:,} values in all")
    return WordVectorModel(said["words"], said["dimensions"], pooling=said["pooling"] or MEAN)


def groups(model: WordVectorModel) -> tuple[LayerGroup, ...]:
    """The vectors, with what pools them, and the head."""
    own = (EMBEDDING, *model.learned_buffers)
    return (
        LayerGroup(name="embeddings", prefixes=own, run=_features, steps=(_features,)),
        layer_group(HEAD, "classifier"),
    )


def _features(model: Any, ids: Tensor) -> Tensor:
    features: Tensor = model.features(ids)
    return features
