"""Texts as their bytes, in front of a head that counts n-grams: a network without any values."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor, nn

from bench.methods.plan import HEAD
from bench.models.network import LayerGroup, layer_group
from bench.models.text.ngrams import NGrams

_CLASSES = 1000


class TextBytes(nn.Module):
    """Gives on int32 `[n, length]` of bytes as numbers, as `classifier` takes them.

    Which `ngrams` of them count is for the head that is fitted in its place.
    """

    def __init__(self, ngrams: NGrams, length: int) -> None:
        super().__init__()
        self.ngrams = ngrams
        # It has no values, and says where the network is.
        self.place = nn.Parameter(torch.empty(0))
        self.classifier = nn.Linear(length, _CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits `[n, classes]`."""
        logits: Tensor = self.classifier(as_numbers(self, ids))
        return logits


def as_numbers(model: Any, ids: Tensor) -> Tensor:
    """The bytes `[n, length]` of texts, -1 behind them."""
    return ids.float()


def build(described: str, length: int) -> TextBytes:
    """The network that `ngrams.describe` describes, for texts of at most `length` bytes."""
    return TextBytes(NGrams(**json.loads(described)["ngrams"]), length)


def groups(model: TextBytes) -> tuple[LayerGroup, ...]:
    """The bytes and the head."""
    return (
        LayerGroup(name="bytes", prefixes=("place",), run=as_numbers, steps=(as_numbers,)),
        layer_group(HEAD, "classifier"),
    )
