"""What is written into a file: the network of a trial, with its preprocessing or without."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.data.dataset import Pixels
from bench.data.images.prepared import resize_image
from bench.data.inputs import Preprocessing
from bench.models.adapters import merge
from bench.prediction.export.resize import PillowResize
from bench.prediction.model import TrainedModel

Place: TypeAlias = Literal["inside", "beside"]
"""Where the preprocessing is: in the file, or in a file beside it."""

DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
"""In which a network computes, and keeps its values."""


class Preprocess(nn.Module):
    """Images uint8 [n, height, width, channels] to what the network takes, as in training."""

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        assert preprocessing.resized_to is not None
        assert preprocessing.resize is not None
        self.resize = PillowResize(preprocessing.resized_to, preprocessing.resize)
        self.size = preprocessing.size
        self.before = round((preprocessing.resized_to - preprocessing.size) / 2)
        for name in ("mean", "std"):
            values = torch.tensor(getattr(preprocessing, name)).view(1, -1, 1, 1)
            self.register_buffer(name, values)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [n, channels, size, size]."""
        centre = slice(self.before, self.before + self.size)
        pixels: Tensor = self.resize(images)[:, :, centre, centre]
        return (pixels / 255 - self.mean) / self.std


class Deployed(nn.Module):
    """Samples to logits [n, outputs] in fp32; the network itself computes in `dtype`.

    Of regression to values in the targets' own units, in double precision: some lie far from 0.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, model: TrainedModel, *, place: Place, dtype: str) -> None:
        super().__init__()
        self.preprocess = Preprocess(model.preprocessing) if place == "inside" else nn.Identity()
        network = deepcopy(model.network).cpu().requires_grad_(False)
        merge(network.model)
        self.network = network.to(  # type: ignore[call-overload]
            DTYPES[dtype], memory_format=torch.contiguous_format
        ).eval()
        self._dtype = DTYPES[dtype]
        known = model.outputs.standardised
        self._in_units = known is not None
        for name in ("mean", "sd") if known is not None else ():
            self.register_buffer(name, torch.tensor(getattr(known, name), dtype=torch.float64))

    def forward(self, samples: Tensor) -> Tensor:
        """The answer to images (uint8 [n, height, width, 3]), or to what the network takes.

        Texts are int64 `[n, length]` of token ids, with `PADDING` behind them.
        """
        given = samples if self.network.takes_texts else self.preprocess(samples).to(self._dtype)
        logits: Tensor = self.network(given)
        if self._in_units:
            return logits.double() * self.sd + self.mean
        return logits.float()


def kept(model: TrainedModel, samples: Sequence[Pixels] | npt.NDArray[Any]) -> npt.NDArray[Any]:
    """As training kept samples: images [n, side, side, 3] resized by Pillow, vectors, texts."""
    side, rule = model.preprocessing.resized_to, model.preprocessing.resize
    if side is None or rule is None:
        return np.asarray(samples)
    return np.stack([resize_image(np.asarray(pixels), side, rule) for pixels in samples])


def given(model: TrainedModel, samples: npt.NDArray[Any], place: Place) -> npt.NDArray[Any]:
    """What a file gets of samples that are as training kept them; texts its card makes ready."""
    if place == "inside" or model.preprocessing.kind == "text":
        return samples
    return np.asarray(model.inputs(samples).contiguous().numpy())


def example(model: TrainedModel, place: Place) -> Tensor:
    """Two samples as a file takes them."""
    size, kept = model.preprocessing.size, model.preprocessing.resized_to
    channels = model.preprocessing.form.depth
    if model.preprocessing.kind == "text":
        return torch.zeros(2, min(size, 7), dtype=torch.int64)
    if model.preprocessing.kind == "vector":
        return torch.zeros(2, size)
    if place == "beside":
        return torch.zeros(2, channels, size, size)
    assert kept is not None
    # Of other sizes than any that the network knows, which would be taken for the same.
    return torch.zeros(2, kept + 7, kept + 11, channels, dtype=torch.uint8)
