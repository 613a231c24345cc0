"""A data set of texts before any of them is cut into tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from bench.data.dataset import (
    ClassMap,
    DataIssue,
    Groups,
    InputKind,
    SampleWeights,
    TestSets,
    Times,
    check_samples,
)
from bench.data.targets import Targets


@dataclass(frozen=True, kw_only=True, eq=False)
class TextDataset:
    """A labelled data set of `texts` [n]; other fields are those of `ImageDataset`."""

    kind: ClassVar[InputKind] = "text"
    native_size: ClassVar[None] = None

    name: str
    classes: tuple[str, ...]
    sample_ids: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    splits: npt.NDArray[np.int8]
    fingerprint: str
    texts: tuple[str, ...] = field(repr=False)
    class_map: ClassMap | None = None
    issues: tuple[DataIssue, ...] = ()
    generated: bool = False
    groups: Groups | None = None
    times: Times | None = None
    test_sets: TestSets | None = None
    sample_weights: SampleWeights | None = None
    targets: Targets | None = None

    def __post_init__(self) -> None:
        check_samples(self)
        assert len(self.texts) == len(self.sample_ids)

    def __len__(self) -> int:
        return len(self.sample_ids)
