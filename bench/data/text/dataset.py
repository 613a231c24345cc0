"""A data set of texts before any of them is cut into tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bench.data.dataset import InputKind, LabelledSamples


@dataclass(frozen=True, kw_only=True, eq=False)
class TextDataset(LabelledSamples):
    """A labelled data set of `texts` [n]."""

    kind: ClassVar[InputKind] = "text"
    native_size: ClassVar[None] = None

    texts: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        assert len(self.texts) == len(self.sample_ids)
