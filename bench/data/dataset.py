"""A data set before anything of it is decoded, and the registry of data sets.

An entry of `DATASETS` is a function `(progress, /, *, option: type = default, ...)` that returns a
`Dataset`, such as an `ImageDataset`. Its only positional parameter takes an `OnProgress` callable
or `None`; its keyword-only parameters are the options that a suite may give.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.data.targets import Targets
from bench.data.times import as_moment
from bench.errors import DataError, bounded, nearest
from bench.keys import content_hash
from bench.suite.limits import Limits
from bench.suite.registry import NoTraits, Registry
from bench.suite.schema import TargetTaskName, reader_of
from bench.system.download import OnProgress
from bench.system.visible_text import reading

TRAIN, VAL, TEST, UNASSIGNED, UNLABELLED = 0, 1, 2, -1, 3
SPLIT_NAMES = {TRAIN: "train", VAL: "val", TEST: "test"}
SPLIT_NOTE = "split-note"
"""The kind of issue that says how the data set's own splits are taken; folds take none of them."""
TEST_SET_NOTE, WEIGHTS_NOTE = "test-set", "sample-weights"
"""The kinds of issues that say what a named test set lacks, and that samples have weights."""
NO_GROUPS, NO_TIMES = "no-groups", "no-times"
"""The kinds of issues that say why what may be groups, or times, is not taken."""

MAX_NAME = 200
"""Characters of a sample in a message."""
MAX_KEPT = 500
"""Samples, or pairs of them, that an issue keeps for whoever wants to look at all of them."""

Pixels = npt.NDArray[np.unsignedinteger[Any]]
"""An image [height, width, channels]: uint8 in RGB, unless a `PixelForm` says otherwise."""
ClassMap = Mapping[str, tuple[int | str, ...]]
Groups = tuple[str, ...]
"""Of every sample what it shares with others, such as the patient: [n]."""
TestSets = tuple[str, ...]
"""Of every test sample the named test set that it belongs to; of others the empty name: [n]."""
Times = npt.NDArray[np.int64]
"""When every sample was taken, in microseconds since 1970 began in UTC: [n]."""
SampleWeights = npt.NDArray[np.float64]
"""What every sample counts in the training loss, above 0: [n]."""

MAX_CHANNELS = 12

InputKind = Literal["image", "vector", "text"]
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


@dataclass(frozen=True, kw_only=True)
class PixelForm:
    """How the pixels of a data set are kept.

    Without `channels` as RGB in 8 bits, whatever files have. With `channels` as files have them:
    values of `deep` ones are uint16, of which so many `bits` are used, all others uint8.
    """

    channels: int | None = None
    bits: int = 16
    deep: bool = False

    @property
    def depth(self) -> int:
        """How many values a pixel has."""
        return self.channels or 3

    @property
    def white(self) -> int:
        """The largest value."""
        return (1 << self.bits) - 1 if self.deep else 255

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        """Of values."""
        return np.dtype(np.uint16) if self.deep else np.dtype(np.uint8)

    @property
    def pixel_bytes(self) -> int:
        """What a pixel takes."""
        return self.depth * self.dtype.itemsize


RGB = PixelForm()


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

    The fields are those of `LabelledSamples`; `native_size` is the length of vectors.
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
    def fingerprint(self) -> str: ...

    @property
    def native_size(self) -> int | None: ...

    @property
    def class_map(self) -> ClassMap | None: ...

    @property
    def issues(self) -> tuple[DataIssue, ...]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledSamples:
    """What data sets of all kinds have, beside the samples.

    `labels` is int64 [n], `splits` int8 [n] of TRAIN, VAL, TEST, or UNASSIGNED where the data set
    leaves the split to us; or UNLABELLED for target data, whose labels are 0 and mean nothing.
    `groups`, `times` and `sample_weights` are there if every sample has
    one, `test_sets` if the test split has several parts with names. `targets` are what is predicted
    where that are not classes: `labels` are strata then, and `classes` the names of targets, or
    labels. `fingerprint` is a hex hash of contents, labels, targets and splits (for generated data,
    of the recipe and its code version); `open_dataset` adds groups, times, weights and test sets to
    it. `class_map` names, per class, ImageNet classes (indices or names) that mean the same. What
    is `generated` was made and not collected.
    """

    name: str
    classes: tuple[str, ...]
    sample_ids: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    splits: npt.NDArray[np.int8]
    fingerprint: str
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

    def __len__(self) -> int:
        return len(self.sample_ids)


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageDataset(LabelledSamples):
    """A labelled image data set before anything is decoded.

    `native_size` is the side in pixels if all images are squares of one size, `squares` says
    that they are squares, whatever their sizes. Of the values of 16-bit files so many `bits` are
    used; with `channels`, and `deep`, pixels have the `form` that these say. `current` tells the
    fingerprint that the data have by now, where they can change. `limited(limits=…)` is the same
    data set under the `limits` of a suite, where it has files that these concern. `size_of` tells
    width and height by the header of a file, as far as there is one to read, and `source_of` gives
    what Pillow opens.

    `read` returns, for each index, the full-size image [height, width, channels], or why there is
    none. It must give the same pixels for the same index whatever else is read with it. A
    `generated` data set is read from one thread in chunks of a few hundred indices, and leakage is
    not looked for; any other data set is read from several threads at once, few indices at a time.
    """

    kind: ClassVar[InputKind] = "image"

    native_size: int | None
    read: Reader
    squares: bool = False
    bits: int = 16
    channels: int | None = None
    deep: bool = False
    current: Callable[[], str] | None = None
    limited: Callable[..., ImageDataset] | None = None
    size_of: Callable[[int], tuple[int, int] | None] | None = None
    source_of: Callable[[int], Path | io.BytesIO] | None = None

    @property
    def form(self) -> PixelForm:
        """How pixels are kept."""
        return PixelForm(channels=self.channels, bits=self.bits, deep=self.deep)


def check_samples(dataset: LabelledSamples) -> None:
    """What must hold of a data set of any kind, or whoever has written it has made a mistake."""
    count = len(dataset.sample_ids)
    assert dataset.labels.shape == dataset.splits.shape == (count,)
    assert dataset.labels.dtype == np.int64
    assert dataset.splits.dtype == np.int8
    assert len(set(dataset.sample_ids)) == count, "sample ids must be unique"
    assert dataset.groups is None or len(dataset.groups) == count
    assert dataset.times is None or dataset.times.shape == (count,)
    assert dataset.test_sets is None or len(dataset.test_sets) == count
    assert dataset.sample_weights is None or dataset.sample_weights.shape == (count,)
    assert len(set(dataset.classes)) == len(dataset.classes), "class names must be unique"
    if (targets := dataset.targets) is not None:
        assert targets.values.shape == (count, len(dataset.classes))
        assert targets.values.dtype == np.float32
        assert np.isfinite(targets.values).all(), "targets must be finite"
        assert dataset.labels.max() < len(targets.strata), "labels must be strata of the targets"


def plain_grouping(
    dataset: Dataset, samples: Sequence[int] | None = None
) -> dict[str, list[str] | list[int] | list[float]]:
    """Groups, times, test sets and weights of samples (None: of all) as prepared data keep them, if
    there are any."""
    kept = range(len(dataset)) if samples is None else samples
    plain: dict[str, list[str] | list[int] | list[float]] = {}
    if dataset.groups is not None:
        plain["groups"] = [dataset.groups[index] for index in kept]
    if dataset.times is not None:
        plain["times"] = [int(dataset.times[index]) for index in kept]
    if dataset.test_sets is not None:
        plain["test_sets"] = [dataset.test_sets[index] for index in kept]
    if dataset.sample_weights is not None:
        plain["sample_weights"] = [float(dataset.sample_weights[index]) for index in kept]
    return plain


def grouping_of(metadata: dict[str, Any]) -> dict[str, Any]:
    """What `plain_grouping` gave, taken out of the metadata of prepared data, by field."""
    names = ("groups", "times", "test_sets", "sample_weights")
    groups, times, sets, weights = (metadata.pop(name, None) for name in names)
    return {
        "groups": None if groups is None else tuple(groups),
        "times": None if times is None else np.array(times, np.int64),
        "test_sets": None if sets is None else tuple(sets),
        "sample_weights": None if weights is None else np.array(weights, np.float64),
    }


class SplitRule(BaseModel):
    """How splits are drawn, if not image by image: see the option `split`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    by: Literal["group", "time"]
    at: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> SplitRule:
        if self.by == "time" and (self.at is None or as_moment(self.at) is None):
            raise ValueError("must say at which date testing begins, such as {by: time, "
                             "at: 2024-06-01}")  # fmt: skip
        if self.by == "group" and self.at is not None:
            raise ValueError("must have no `at` where groups are kept together")
        return self


def _with_one_group(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"must be a regular expression ({error})") from None
    if groups != 1:
        raise ValueError("must be a regular expression with one group in brackets")
    return pattern


def _checked_target(given: str | Mapping[str, Any]) -> dict[str, Any]:
    """The name of the data set, and all options of its own; a path alone says what reads it."""
    options = {"name": reader_of(given), "path": given} if isinstance(given, str) else dict(given)
    name = options.pop("name", None)
    if not isinstance(name, str) or name not in DATASETS:
        raise ValueError(f"must have the name of a data set{nearest(str(name), DATASETS)}")
    shared = sorted(options.keys() & DATASETS.shared_options.keys())
    if shared:
        raise ValueError(f"must have options of {name} alone, without {', '.join(shared)}")
    try:
        checked = DATASETS.get(name).options.model_validate(options).model_dump()
    except ValidationError as error:
        (detail, *_) = error.errors()
        key = ".".join(map(str, detail["loc"]))
        raise ValueError(f"{name}: {key} {detail['msg']}, got {detail['input']!r}") from None
    own = {key: value for key, value in checked.items() if key not in DATASETS.shared_options}
    return {"name": name, **own}


def plain_targets(
    dataset: Dataset, samples: Sequence[int] | None = None
) -> dict[str, dict[str, Any]]:
    """Targets of samples (None: of all) as prepared data keep them; nothing of classes."""
    targets = dataset.targets
    if targets is None:
        return {}
    return {"targets": (targets if samples is None else targets.of(samples)).plain()}


def targets_of(metadata: dict[str, Any]) -> Targets | None:
    """What `plain_targets` gave, taken out of the metadata of prepared data."""
    plain = metadata.pop("targets", None)
    return None if plain is None else Targets.from_plain(plain, len(metadata["classes"]))


class Labelled(Protocol):
    """What has labels: a data set, before it is prepared or after."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def labels(self) -> npt.NDArray[np.int64]: ...

    @property
    def targets(self) -> Targets | None: ...


def strata_names(samples: Labelled) -> tuple[str, ...]:
    """What the `labels` count: classes, or the strata of numbers or of several labels a sample."""
    return samples.classes if samples.targets is None else samples.targets.strata


def label_text(samples: Labelled, sample: int) -> str:
    """What is known of a sample, in words: its class, its numbers, or its labels."""
    if samples.targets is None:
        return str(samples.classes[samples.labels[sample]])
    return samples.targets.text(sample, samples.classes)


def target_task_of(samples: Labelled) -> TargetTaskName:
    """What can be predicted of the samples."""
    return "classification" if samples.targets is None else samples.targets.task


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
    "split": (
        Annotated[
            SplitRule | None,
            Field(
                description="How the splits that the data set lacks are drawn. `{by: group}`: no "
                "group, such as a patient, is on two sides, in folds neither, and classes have "
                "their shares as far as groups allow. `{by: time, at: DATE}`: what was taken then "
                "or later tests, what comes last before it validates. null: image by image.",
                examples=[{"by": "group"}, {"by": "time", "at": "2024-06-01"}],
            ),
        ],
        None,
    ),
    "group": (
        Annotated[
            Annotated[str, AfterValidator(_with_one_group)] | None,
            Field(
                description="A regular expression that finds the group of an image in its path "
                "below the data set, as what is in the brackets. null: the groups that the data "
                "set has, if it has any.",
                examples=["(patient_\\d+)"],
            ),
        ],
        None,
    ),
    "target_data": (
        Annotated[
            Annotated[dict[str, Any] | str, AfterValidator(_checked_target)] | None,
            Field(
                description="What the model is for, mostly without labels: another data set, by "
                "its path or its `name` and options. Folders and tables need no labels. Its test "
                "split, if it has one, is what is tested; all its other samples are there without "
                "labels, for penalties such as `mcc`. null: none.",
                examples=[{"path": "./phone"}],
            ),
        ],
        None,
    ),
    "unlabelled_fraction": (
        Annotated[
            SplitFraction | None,
            Field(
                description="Share of the training split that gives up its labels, drawn by `seed` "
                "with equal shares of all classes: it does not train, and is there for penalties "
                "such as `mcc`, as images of target data are. null: none.",
                examples=[0.8],
            ),
        ],
        None,
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
    function: Callable[..., Any] | None = None,
    limits: Limits | None = None,
    progress: OnProgress | None = None,
) -> Dataset:
    """Open the data set `name` with the options of a suite, shared options and limits among them.

    Downloads and hashes what is needed, decodes nothing. `function` reads it, None: the one that is
    registered. Raises `BenchError` for an unknown name and `DataError` for data that is missing or
    unusable.
    """
    registered = DATASETS.get(name)
    own = {key: value for key, value in options.items() if key not in DATASETS.shared_options}
    dataset: Any = (function or registered.function)(progress, **own)
    if limits is not None and limits != Limits() and takes_limits(dataset):
        dataset = dataset.limited(limits=limits)
    if registered.origin is not None:
        dataset = _told_apart(dataset, registered.origin)
    if (pattern := options.get("group")) is not None:
        dataset = replace(dataset, groups=_found_groups(pattern, dataset))
    if grouping := plain_grouping(dataset):
        dataset = _told_apart(dataset, grouping)
    _check_split_rule(options.get("split"), dataset)
    if lacking := tuple(_of_test_sets(dataset)):
        dataset = replace(dataset, issues=(*dataset.issues, *lacking))
    class_map = options.get("class_map")
    if class_map is not None:
        dataset = replace(dataset, class_map=_checked_class_map(class_map, dataset))
    opened: Dataset = dataset
    return opened


def _found_groups(pattern: str, dataset: Dataset) -> Groups:
    """The groups of the samples by their ids."""
    found = [re.search(pattern, sample) for sample in dataset.sample_ids]
    groups = [match[1] if match is not None else None for match in found]
    without = [name for name, group in zip(dataset.sample_ids, groups, strict=True) if not group]
    if without:
        raise DataError(
            f"group must find the group of every sample, but {pattern!r} finds none in "
            f"{naming(without)}"
        )
    return tuple(str(group) for group in groups)


def _check_split_rule(rule: Mapping[str, Any] | None, dataset: Dataset) -> None:
    """Raise `DataError` where the data set lacks what its splits are to be drawn by."""
    if rule is None:
        return
    by_group = rule["by"] == "group"
    if (dataset.groups if by_group else dataset.times) is not None:
        return
    kind = NO_GROUPS if by_group else NO_TIMES
    why = next((f". {issue.message}" for issue in dataset.issues if issue.kind == kind), "")
    if by_group:
        mend = "a column of a table says it, or `group:` finds it in paths"
    else:
        mend = "a column of a table says it"
    raise DataError(
        f"split: {{by: {rule['by']}}} needs the {rule['by']} of every sample, which {dataset.name} "
        f"does not have ({mend}){why.removesuffix('.')}"
    )


def _of_test_sets(dataset: Dataset) -> Iterator[DataIssue]:
    """Which classes a named test set lacks: its figures say nothing of them."""
    if dataset.test_sets is None:
        return
    sets = np.array(dataset.test_sets, dtype=object)
    for name in sorted({each for each in dataset.test_sets if each}):
        own = set(dataset.labels[sets == name].tolist())
        lacking = [each for label, each in enumerate(dataset.classes) if label not in own]
        if lacking:
            yield DataIssue(
                kind=TEST_SET_NOTE,
                message=f"The test set {name} has no image of {naming(lacking)}: its figures say "
                "nothing of that.",
                count=len(lacking),
            )


def takes_limits(dataset: Dataset) -> bool:
    """Whether the `limits` of a suite are for data sets of this kind: those of image files."""
    return getattr(dataset, "limited", None) is not None


def _told_apart(dataset: Any, by: Any) -> Any:
    """The data set with fingerprints that tell this too, and so does what is prepared: the code of
    a plugin, or groups, times, test sets and weights."""

    def also(fingerprint: str) -> str:
        return content_hash([fingerprint, by], digits=64)

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
    targets: Targets | None = None,
) -> str:
    """The hex fingerprint of a data set whose samples have the content hashes `contents`."""
    digest = hashlib.sha256()
    for text in (*classes, "", *sample_ids, "", *contents):
        digest.update(text.encode() + b"\0")
    digest.update(labels.astype("<i8").tobytes())
    digest.update(splits.astype("<i1").tobytes())
    if targets is not None:
        digest.update(targets.task.encode() + b"\0" + targets.values.astype("<f4").tobytes())
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
