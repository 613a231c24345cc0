"""What a network takes, whatever it is: only `data` and `models` know images from texts.

A data set is *prepared* once for every size that a suite uses, and opened by every process. From
what is open, trials get `Inputs`: batches of one trial's views.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field

from bench.data.dataset import (
    MAX_CHANNELS,
    DataIssue,
    Groups,
    InputKind,
    PixelForm,
    Pixels,
    SampleWeights,
    TestSets,
    Times,
)
from bench.data.splits import Samples
from bench.data.targets import Targets
from bench.suite import Entry, Interpolation
from bench.system.checked_json import checked_json

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PREPROCESSING = "preprocessing"
"""What the metadata of a checkpoint calls it."""

MAX_SIDE, MAX_LENGTH, MAX_CLASSES, MAX_TOKENIZER = 8192, 10**7, 100_000, 2**26
"""Of what a checkpoint may say: sides of images, lengths of vectors, classes, tokenizers."""

CENTRAL = ("central",)
"""The name of the views without variation, whatever the epoch."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What turns a sample into the network's input, and what its outputs mean.

    `size` is what the network sees: the side of an image in pixels, the length of a vector, or the
    most tokens of a text, which `tokenizer` cuts it into (JSON of the library `tokenizers`). An
    image is resized by the rule `resize` to `resized_to` pixels, of which the centre is taken,
    scaled to [0, 1] and normalised with `mean` and `std` for each channel. Of the values of 16-bit
    files so many `bits` are used; `channels` and `deep` are those of the `form` of pixels.
    `classes` are the outputs, in order.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    kind: InputKind
    size: Annotated[int, Field(ge=1, le=MAX_LENGTH)]
    classes: Annotated[tuple[str, ...], Field(min_length=1, max_length=MAX_CLASSES)]
    resize: Literal["crop", "squash", "pad"] | None = None
    resized_to: Annotated[int, Field(ge=1, le=MAX_SIDE)] | None = None
    interpolation: Interpolation | None = None
    mean: tuple[float, ...] = ()
    std: tuple[Annotated[float, Field(gt=0)], ...] = ()
    bits: Annotated[int, Field(ge=1, le=16)] = 16
    channels: Annotated[int, Field(ge=1, le=MAX_CHANNELS)] | None = None
    deep: bool = False
    tokenizer: Annotated[str, Field(max_length=MAX_TOKENIZER)] | None = None

    @property
    def form(self) -> PixelForm:
        """How pixels are kept."""
        return PixelForm(channels=self.channels, bits=self.bits, deep=self.deep)

    def described(self) -> dict[str, Any]:
        """The fields as files have them; earlier versions knew RGB alone, which is not said."""
        unsaid = {"channels", "deep"} if self.channels is None else set()
        if self.tokenizer is None:
            unsaid.add("tokenizer")
        return {name: value for name, value in asdict(self).items() if name not in unsaid}

    def to_json(self) -> str:
        """As checkpoints keep it: with its tokenizer packed, which may be as long as a book."""
        content = self.described()
        if self.tokenizer is not None:
            content["tokenizer"] = _packed(self.tokenizer)
        return json.dumps(content)

    @classmethod
    def from_json(cls, text: str) -> Preprocessing:
        """What `to_json` gave; raises `ValueError` for anything else."""
        found = checked_json(cls, text)
        if found.tokenizer is not None:
            found = replace(found, tokenizer=_unpacked(found.tokenizer))
        if found.kind == "image":
            known = (found.resize, found.resized_to, found.interpolation)
            depth = found.form.depth
            if None in known or len(found.mean) != depth or len(found.std) != depth:
                raise ValueError("it does not say how images are resized and normalised")
            if not found.size <= (found.resized_to or 0):
                raise ValueError("it says that the network sees more than images have")
        if (found.kind == "text") != (found.tokenizer is not None):
            raise ValueError("of texts alone it says what cuts them into tokens")
        if len(set(found.classes)) < len(found.classes):
            raise ValueError("it names a class twice")
        return found


def _packed(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode("ascii")


def _unpacked(packed: str) -> str:
    """What was packed; raises `ValueError` for anything else, and for more than is allowed."""
    reader = zlib.decompressobj()
    try:
        content = reader.decompress(base64.b64decode(packed, validate=True), MAX_TOKENIZER)
    except zlib.error as error:
        raise ValueError(f"its tokenizer cannot be unpacked ({error})") from error
    if not reader.eof:
        raise ValueError("its tokenizer ends too early, or never")
    return content.decode()


class Inputs(Protocol):
    """One trial's samples under one augmentation, as the network takes them."""

    @property
    def varies(self) -> bool:
        """Whether a sample looks different in every epoch."""

    @property
    def mixes(self) -> bool:
        """Whether `mix` changes training batches."""

    def view(self, epoch: int) -> tuple[Any, ...]:
        """What names the views of `epoch`: equal names mean equal inputs of every sample."""

    def batch(self, samples: Samples, epoch: int) -> Tensor:
        """The views of `samples` `[n, ...]`, on the device; a view depends on its sample alone."""

    def mix(self, batch: Tensor, labels: Tensor, *, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """A mixed batch and its soft labels `[n, classes]`, or mixed targets `[n, outputs]`."""


@runtime_checkable
class KeepsViews(Protocol):
    """`Inputs` whose views can be kept, so that other trials need not make them again."""

    def keep_views(self, key: str, among: Samples, *, epochs: int) -> None:
        """Keep the views of the samples `among` for as many `epochs`, if that saves time.

        `key` names what decides about them beside what `view` names.
        """


class PreparedData(Protocol):
    """A prepared data set, opened: cheap, as its samples are mapped and not read.

    `labels` is int64 [n], `given_splits` int8 [n] of TRAIN, VAL, TEST or UNASSIGNED. `groups`,
    `times`, `test_sets`, `sample_weights` and `targets` are those of the data set.
    """

    @property
    def folder(self) -> Path: ...

    @property
    def name(self) -> str: ...

    @property
    def labels(self) -> npt.NDArray[np.int64]: ...

    @property
    def given_splits(self) -> npt.NDArray[np.int8]: ...

    @property
    def groups(self) -> Groups | None: ...

    @property
    def times(self) -> Times | None: ...

    @property
    def test_sets(self) -> TestSets | None: ...

    @property
    def sample_weights(self) -> SampleWeights | None: ...

    @property
    def targets(self) -> Targets | None: ...

    @property
    def sample_ids(self) -> tuple[str, ...]: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def issues(self) -> tuple[DataIssue, ...]: ...

    @property
    def input_size(self) -> int:
        """The side of an image that a network sees, the length of a vector, or a text's tokens."""

    def __len__(self) -> int: ...

    def preprocessing(self, mean: Sequence[float], std: Sequence[float]) -> Preprocessing:
        """What networks that expect this mean and deviation are given."""

    def inputs(
        self, augmentation: Entry, preprocessing: Preprocessing, *, seed: int, device: torch.device
    ) -> Inputs:
        """The samples under an augmentation, with the draws of `seed`."""

    def pictures(self, sample_ids: Sequence[str]) -> dict[str, Pixels]:
        """What a report can show of these samples; nothing where they are no images."""
