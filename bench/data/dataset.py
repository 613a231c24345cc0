"""A data set before anything of it is decoded, and the registry of data sets.

An entry of `DATASETS` is a function `(progress, /, *, option: type = default, ...)` that returns a
`Dataset`, such as an `ImageDataset`. Its only positional parameter takes an `OnProgress` callable
or `None`; its keyword-only parameters are the options that a suite may give.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import Field

from bench.errors import DataError, bounded, nearest
from bench.keys import content_hash
from bench.suite.limits import Limits
from bench.suite.registry import NoTraits, Registry
from bench.system.download import OnProgress
from bench.system.visible_text import reading

TRAIN, VAL, TEST, UNASSIGNED = 0, 1, 2, -1
SPLIT_NAMES = {TRAIN: "train", VAL: "val", TEST: "test"}
SPLIT_NOTE = "split-note"
"""The kind of issue that says how the data set's own splits are taken; folds take none of them."""

MAX_NAME = 200
"""Characters of a sample in a message."""
MAX_KEPT = 500
"""Samples, or pairs of them, that an issue keeps for whoever wants to look at all of them."""

Pixels = npt.NDArray[np.uint8]
ClassMap = Mapping[str, tuple[int | str, ...]]

InputKind = Literal["image", "vector"]
"""What a network takes."""


@dataclass(frozen=True, kw_only=True)
class DataIssue:
    """Something about the data that the report must tell.

    `message` is one sentence that names a few samples; `count` counts all of them (for leakage:
    pairs). `samples` are the named ones, pairs one after the other; of what is wrong with single
    samples, or with their labels, the first `MAX_KEPT`.
    """

    kind: str
    message: str
    count: int
    samples: tuple[str, ...] = ()


@dataclass(frozen=True)
class DecodeFailure:
    """An image that could not be decoded, and why."""

    reason: str


@dataclass(frozen=True, eq=False)
class Converted:
    """An image that was decoded by a choice the user should know of, and which (`note`)."""

    pixels: Pixels
    note: str


Decoded = Pixels | Converted | DecodeFailure
Reader = Callable[[Sequence[int]], Sequence[Decoded]]


class Dataset(Protocol):
    """A labelled data set of any kind of input, before anything is read of it.

    The fields are those of `ImageDataset`; `native_size` is the length of vectors.
    """

    kind: ClassVar[InputKind]

    @property
    def name(self) -> str: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def sample_ids(self) -> tuple[str, ...]: ...

    @property
    def labels(self) -> npt.NDArray[np.int64]: ...

    @property
    def splits(self) -> npt.NDArray[np.int8]: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def native_size(self) -> int | None: ...

    @property
    def class_map(self) -> ClassMap | None: ...

    @property
    def issues(self) -> tuple[DataIssue, ...]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageDataset:
    """A labelled image data set before anything is decoded.

    `labels` is int64 [n], `splits` int8 [n] of TRAIN, VAL, TEST, or UNASSIGNED where the data set
    leaves the split to us. `fingerprint` is a hex hash of contents, labels and splits (for
    generated data, of the recipe and its code version). `native_size` is the side in pixels if all
    images are squares of one size, `squares` says that they are squares, whatever their sizes.
    Of the values of 16-bit files so many `bits` are used.
    `class_map` names, per class, ImageNet classes (indices or names) that mean the same. `current`
    tells the fingerprint that the data have by now, where they can change. `limited(limits=…)` is
    the same data set under the `limits` of a suite, where it has files that these concern.

    `read` returns, for each index, the full-size image as uint8 [height, width, 3], or why there is
    none. It must give the same pixels for the same index whatever else is read with it. A
    `generated` data set is read from one thread in chunks of a few hundred indices, and leakage is
    not looked for; any other data set is read from several threads at once, few indices at a time.
    """

    kind: ClassVar[InputKind] = "image"

    name: str
    classes: tuple[str, ...]
    sample_ids: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    splits: npt.NDArray[np.int8]
    fingerprint: str
    native_size: int | None
    read: Reader
    class_map: ClassMap | None = None
    issues: tuple[DataIssue, ...] = ()
    generated: bool = False
    squares: bool = False
    bits: int = 16
    current: Callable[[], str] | None = None
    limited: Callable[..., ImageDataset] | None = None

    def __post_init__(self) -> None:
        check_samples(self)

    def __len__(self) -> int:
        return len(self.sample_ids)


def check_samples(dataset: Dataset) -> None:
    """What must hold of a data set of any kind, or whoever has written it has made a mistake."""
    count = len(dataset.sample_ids)
    assert dataset.labels.shape == dataset.splits.shape == (count,)
    assert dataset.labels.dtype == np.int64
    assert dataset.splits.dtype == np.int8
    assert len(set(dataset.sample_ids)) == count, "sample ids must be unique"
    assert len(set(dataset.classes)) == len(dataset.classes), "class names must be unique"


SplitFraction = Annotated[float, Field(gt=0, lt=1)]
SHARED_OPTIONS: Mapping[str, tuple[Any, Any]] = {
    "val_fraction": (
        Annotated[
            float,
            Field(
                ge=0,
                lt=1,
                description="Share of the remaining images that becomes the validation split, "
                "drawn by `seed`, if the data set has none. 0: no validation split, these images "
                "train; it needs `choose: last`.",
                examples=[0.2],
            ),
        ],
        0.2,
    ),
    "test_fraction": (
        Annotated[
            SplitFraction,
            Field(
                description="Share of the images that becomes the test split, drawn by "
                "`split_seed`, if the data set has none.",
                examples=[0.2],
            ),
        ],
        0.2,
    ),
    "split_seed": (
        Annotated[
            int,
            Field(ge=0, description="Seed of the draw of the test split.", examples=[0]),
        ],
        0,
    ),
    "class_map": (
        Annotated[
            dict[str, list[int | str]] | None,
            Field(
                description="For each class the ImageNet classes (index or name) that mean the "
                "same; `pretrained_head` needs it. null: the data set's own map, if it has one.",
                examples=[{"ants": [310], "bees": ["bee"]}],
            ),
        ],
        None,
    ),
}

DATASETS: Registry[Callable[..., Any], NoTraits] = Registry(
    "dataset", NoTraits, takes=("progress",), shared_options=SHARED_OPTIONS
)


def open_dataset(
    name: str,
    options: Mapping[str, Any],
    *,
    limits: Limits | None = None,
    progress: OnProgress | None = None,
) -> Dataset:
    """Open the data set `name` with the options of a suite, shared options and limits among them.

    Downloads and hashes what is needed, decodes nothing. Raises `BenchError` for an unknown name
    and `DataError` for data that is missing or unusable.
    """
    registered = DATASETS.get(name)
    own = {key: value for key, value in options.items() if key not in DATASETS.shared_options}
    dataset: Any = registered.function(progress, **own)
    if limits is not None and limits != Limits() and takes_limits(dataset):
        dataset = dataset.limited(limits=limits)
    if registered.origin is not None:
        dataset = _made_by(registered.origin, dataset)
    class_map = options.get("class_map")
    if class_map is not None:
        dataset = replace(dataset, class_map=_checked_class_map(class_map, dataset))
    opened: Dataset = dataset
    return opened


def takes_limits(dataset: Dataset) -> bool:
    """Whether the `limits` of a suite are for data sets of this kind: those of image files."""
    return getattr(dataset, "limited", None) is not None


def _made_by(origin: str, dataset: Any) -> Any:
    """The data set of a plugin: its fingerprints, and so what is prepared, tell its code too."""

    def also(fingerprint: str) -> str:
        return content_hash([fingerprint, origin], digits=64)

    changes: dict[str, Any] = {"fingerprint": also(dataset.fingerprint)}
    current: Callable[[], str] | None = getattr(dataset, "current", None)
    if current is not None:
        changes["current"] = lambda: also(current())
    return replace(dataset, **changes)


def naming(names: Sequence[str], *, at_most: int = 5) -> str:
    """The first few of `names` and how many there are besides, for a message."""
    rest = len(names) - at_most
    shown = ", ".join(bounded(name, MAX_NAME) for name in names[:at_most])
    return shown + (f" and {rest} more" if rest > 0 else "")


def val_as_test_issue(splits: npt.NDArray[np.int8]) -> tuple[DataIssue, ...]:
    """What to tell if a data set has a val split but no test split (see `make_splits`)."""
    if not (np.any(splits == VAL) and not np.any(splits == TEST)):
        return ()
    message = (
        "The data set has a val split but no test split: its val split is used as the test split, "
        "and a part of its train split as the val split."
    )
    return (DataIssue(kind=SPLIT_NOTE, message=message, count=1),)


def fingerprint_of(
    *,
    classes: Sequence[str],
    sample_ids: Sequence[str],
    labels: npt.NDArray[np.int64],
    splits: npt.NDArray[np.int8],
    contents: Sequence[str],
) -> str:
    """The hex fingerprint of a data set whose samples have the content hashes `contents`."""
    digest = hashlib.sha256()
    for text in (*classes, "", *sample_ids, "", *contents):
        digest.update(text.encode() + b"\0")
    digest.update(labels.astype("<i8").tobytes())
    digest.update(splits.astype("<i1").tobytes())
    return digest.hexdigest()


def _checked_class_map(class_map: Mapping[str, Sequence[int | str]], dataset: Dataset) -> ClassMap:
    by_reading = {reading(name): name for name in dataset.classes}
    checked = {}
    for name, targets in class_map.items():
        known = name if name in dataset.classes else by_reading.get(reading(name))
        if known is None:
            raise DataError(
                f"class_map must name classes of {dataset.name}, "
                f"got {name!r}{nearest(name, dataset.classes)}"
            )
        checked[known] = tuple(targets)
    return checked
