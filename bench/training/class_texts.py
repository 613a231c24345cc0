"""Texts of classes as a network sees them: by its text tower, or as its own inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.data.text.tokens import tokenise
from bench.keys import content_hash
from bench.methods.plan import HEAD
from bench.methods.prompts import class_texts
from bench.models.fitted_head import linear_of
from bench.models.image_text.towers import TextTower
from bench.system.transfers import on_device
from bench.training.trial import Training

TEMPERATURE = 0.07
"""What cosines of a text encoder, which has no scale of its own, are divided by."""


def texts_of_classes(training: Training) -> OfTower | OfEncoder | None:
    """What the training's network knows of texts; None: nothing."""
    if training.network.knows_texts:
        return OfTower(training)
    return OfEncoder(training) if training.network.takes_texts else None


def zero_shot_head(training: Training) -> dict[str, Tensor]:
    """A linear head at the zero-shot classifier of the words in its options, by `model`'s names.

    Features of an image–text model have length √d, so rows are directions times scale, over √d.
    """
    layers = training.network.head_layers()
    assert layers is not None, "the head of an image tower is a linear layer"
    ((name, layer),) = layers
    texts = OfTower(training)
    rows = texts.directions(class_texts(texts.classes, **training.settings.head.options))
    tensors = linear_of({"directions": rows})
    return {f"{name}.{own}": tensors[own] for own, _ in layer.named_parameters()}


@dataclass(frozen=True)
class OfTower:
    """Texts by the text tower of an image–text model; see `ClassTexts`.

    What it makes of them is kept: the trials of a suite ask for the same texts.
    """

    training: Training

    @property
    def classes(self) -> Sequence[str]:
        """Their names."""
        return self.training.data.classes

    def directions(self, texts: Sequence[Sequence[str]]) -> Tensor:
        """See `ClassTexts`."""

        def compute() -> Iterator[Tensor]:
            tower = self.tower()
            yield tower.scale * tower.directions(texts)

        key = content_hash(["texts of classes", self.training.trunk_key, texts], digits=32)
        found = self.training.features.view(key, compute, count=len(texts))
        assert found is not None, "a few vectors are never too large to be kept"
        return found

    def tower(self) -> TextTower:
        """See `ClassTexts`."""
        found: TextTower = cast(Any, self.training.network.model).text_tower()
        return found


@dataclass(frozen=True)
class OfEncoder:
    """Texts as the inputs of a network that classifies texts; see `ClassTexts`."""

    training: Training

    @property
    def classes(self) -> Sequence[str]:
        """Their names."""
        return self.training.data.classes

    @torch.no_grad()
    def directions(self, texts: Sequence[Sequence[str]]) -> Tensor:
        """See `ClassTexts`."""
        training, rows = self.training, [text for own in texts for text in own]
        tokenizer = training.preprocessing.tokenizer
        assert tokenizer is not None, "texts are cut by a tokenizer"
        ids = tokenise(rows, tokenizer, length=training.preprocessing.size).ids
        batch = on_device(torch.from_numpy(ids), training.device)
        training.network.eval()
        found = torch.cat(list(training.trunk(HEAD)([batch]))).float().cpu()
        by_class = torch.split(F.normalize(found, dim=1), [len(own) for own in texts])
        means = torch.stack([own.mean(dim=0) for own in by_class])
        return F.normalize(means, dim=1) / TEMPERATURE

    def tower(self) -> TextTower:
        """Raises `AssertionError`: it has none, which is told with the suite."""
        raise AssertionError("a text encoder has no tower beside it")
