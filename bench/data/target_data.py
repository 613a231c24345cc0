"""Target data beside the data that trains: other samples of the same classes, mostly unlabelled.

What trains and validates comes from the data set, what is tested from the target data, if that has
a test split. All its other samples are there without labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from bench.data.dataset import (
    SPLIT_NOTE,
    TEST,
    TEST_SET_NOTE,
    UNLABELLED,
    WEIGHTS_NOTE,
    DataIssue,
    Dataset,
    Decoded,
    Groups,
    ImageDataset,
    Reader,
    SampleWeights,
    TestSets,
    open_dataset,
)
from bench.data.images.folder import target_folder
from bench.data.images.table import target_table
from bench.data.splits import Samples
from bench.data.text.dataset import TextDataset
from bench.data.text.texts import target_texts
from bench.data.vectors import VectorDataset
from bench.errors import DataError, counted
from bench.keys import content_hash
from bench.suite.limits import Limits
from bench.system.download import OnProgress

ID_PREFIX = "target/"
"""What precedes the ids of its samples."""

WITHOUT_LABELS = ("target_data", "unlabelled_fraction")
"""Options of data sets that say what has no labels."""
SAY_WITHOUT_LABELS = "say dataset: {target_data: …} or {unlabelled_fraction: …}"
"""How to mend that there is none."""

TARGET_NOTE = "target-data"
"""The kind of issue that says what of the target data is used, and which of its labels."""

_TARGET_READERS: Mapping[str, Callable[..., Dataset]] = {
    "folder": target_folder,
    "table": target_table,
    "text": target_texts,
}
"""What reads data sets of which only what is tested needs labels."""

T = TypeVar("T")


def open_with_target(
    name: str,
    options: Mapping[str, Any],
    *,
    limits: Limits | None = None,
    progress: OnProgress | None = None,
) -> Dataset:
    """As `open_dataset`, with what has no labels as the shared options say."""
    given = options.get("target_data")
    _check_options(options)
    dataset = open_dataset(name, options, limits=limits, progress=progress)
    if options.get("unlabelled_fraction") is not None and dataset.targets is not None:
        raise DataError("unlabelled_fraction is for plain classes: leave it out")
    if given is None:
        return dataset
    return with_target(dataset, _open_target(given, dataset.classes, limits, progress))


def _check_options(options: Mapping[str, Any]) -> None:
    if options.get("target_data") is None:
        return
    if options.get("unlabelled_fraction") is not None:
        raise DataError(
            "target_data and unlabelled_fraction both say what has no labels; leave one out"
        )
    rule = options.get("split")
    if rule is not None and rule["by"] == "time":
        raise DataError("target_data beside `split: {by: time}` says twice what is tested; leave "
                        "one out")  # fmt: skip


def _open_target(
    given: Mapping[str, Any],
    classes: Sequence[str],
    limits: Limits | None,
    progress: OnProgress | None,
) -> Dataset:
    """The target data; files and tables need labels in their test split alone."""
    name = given["name"]
    own = {key: value for key, value in given.items() if key != "name"}
    read = _TARGET_READERS.get(name)
    says = [own.get(key) for key in ("splits", "target", "labels")]
    if read is None or any(each is not None for each in says):
        return open_dataset(name, own, limits=limits, progress=progress)

    def function(progress: OnProgress | None, **options: Any) -> Dataset:
        return read(progress, classes, **options)

    return open_dataset(name, own, function=function, limits=limits, progress=progress)


def with_target(source: Dataset, target: Dataset) -> Dataset:
    """The data set with `target` beside it; raises `DataError` where the two do not fit.

    The labels of what is without labels are gone: they are 0 and mean nothing.
    """
    _check(source, target)
    tests = target.splits == TEST
    tested = bool(tests.any())
    own = np.flatnonzero(source.splits != TEST) if tested else np.arange(len(source))
    joined: dict[str, Any] = {
        "sample_ids": (
            *(source.sample_ids[i] for i in own),
            *(ID_PREFIX + sample for sample in target.sample_ids),
        ),
        "labels": np.concatenate([source.labels[own], np.where(tests, target.labels, 0)]),
        "splits": np.concatenate(
            [source.splits[own], np.where(tests, TEST, UNLABELLED).astype(np.int8)]
        ),
        "fingerprint": content_hash([source.fingerprint, target.fingerprint, "target"], digits=64),
        "issues": (*_issues(source, target, tested=tested), _note(source, tests)),
        "groups": _groups(source, target, own),
        "times": None,
        "test_sets": _test_sets(source, target, own),
        "sample_weights": _weights(source, target, own),
    }
    if isinstance(source, ImageDataset) and isinstance(target, ImageDataset):
        joined.update(_images(source, target, own))
    elif isinstance(source, TextDataset) and isinstance(target, TextDataset):
        joined["generated"] = source.generated and target.generated
        joined["texts"] = (*(source.texts[i] for i in own), *target.texts)
    elif isinstance(source, VectorDataset) and isinstance(target, VectorDataset):
        joined["vectors"] = np.concatenate([source.vectors[own], target.vectors])
    found: Any = source
    both: Dataset = replace(found, **joined)
    return both


def _images(source: ImageDataset, target: ImageDataset, own: Samples) -> dict[str, Any]:
    """What only images have, of both."""
    count = len(own)

    def at(index: int) -> int:
        return int(own[index])

    return {
        "native_size": source.native_size if source.native_size == target.native_size else None,
        "squares": source.squares and target.squares,
        "read": _reader(source.read, target.read, own.tolist()),
        "current": _current(source, target),
        "limited": None,
        "size_of": _either(source.size_of, target.size_of, at, count),
        "source_of": _either(source.source_of, target.source_of, at, count),
    }


def _check(source: Dataset, target: Dataset) -> None:
    if source.kind != target.kind:
        raise DataError(
            f"target_data must be of the kind of the data set, {source.name} has {source.kind}s "
            f"and {target.name} {target.kind}s"
        )
    for each in (source, target):
        if each.targets is not None:
            raise DataError(
                f"target_data is for plain classes, but {each.name} has targets that are not "
                "classes"
            )
    if source.classes != target.classes:
        raise DataError(
            f"target_data must have the classes of the data set ({', '.join(source.classes)}), got "
            f"{', '.join(target.classes)}"
        )
    if source.native_size != target.native_size and source.kind == "vector":
        raise DataError(
            f"target_data must have vectors of the length of the data set's, "
            f"{source.native_size}, got {target.native_size}"
        )
    if isinstance(source, ImageDataset) and isinstance(target, ImageDataset):
        if source.form != target.form:
            raise DataError(
                "target_data must have channels and bits of the data set: say both alike"
            )
        if source.generated != target.generated:
            raise DataError("target_data is generated if the data set is, and only then")
    if not (target.splits != TEST).any():
        raise DataError(f"target_data has test {source.kind}s alone: none are left without labels")


def _groups(source: Dataset, target: Dataset, own: Samples) -> Groups | None:
    """Of both, if either has some; what has none is a group of its own."""
    if source.groups is None and target.groups is None:
        return None
    first = source.sample_ids if source.groups is None else source.groups
    alone = tuple(ID_PREFIX + sample for sample in target.sample_ids)
    return (*(first[i] for i in own), *(alone if target.groups is None else target.groups))


def _test_sets(source: Dataset, target: Dataset, own: Samples) -> TestSets | None:
    """The named sets of what is tested, which is of one of the two."""
    first, second = source.test_sets or ("",) * len(source), target.test_sets or ("",) * len(target)
    sets = (*(first[i] for i in own), *second)
    return sets if any(sets) else None


def _weights(source: Dataset, target: Dataset, own: Samples) -> SampleWeights | None:
    """Those of what trains: nothing of the target does."""
    if source.sample_weights is None:
        return None
    return np.concatenate([source.sample_weights[own], np.ones(len(target))])


def _issues(source: Dataset, target: Dataset, *, tested: bool) -> Iterator[DataIssue]:
    """What is wrong with either, without what is said of splits and weights that are not used."""
    unused = {SPLIT_NOTE, TEST_SET_NOTE} if tested else set()
    yield from (each for each in source.issues if each.kind not in unused)
    yield from (each for each in target.issues if each.kind not in (SPLIT_NOTE, WEIGHTS_NOTE))


def _note(source: Dataset, tests: npt.NDArray[np.bool_]) -> DataIssue:
    tested = int(tests.sum())
    without = counted(len(tests) - tested, source.kind)
    if tested:
        message = (
            f"Of the target data {without} are used without labels, and the labels of "
            f"{tested:,} for the test split alone: training, choosing and tuning see source labels "
            "only."
        )
    else:
        message = (
            f"Of the target data {without} are used without labels; it has no test split, so "
            "nothing about the target was measured: the test split is the source's."
        )
    return DataIssue(kind=TARGET_NOTE, message=message, count=1)


def _reader(source: Reader, target: Reader, own: Sequence[int]) -> Reader:
    def read(indices: Sequence[int]) -> list[Decoded]:
        first = [(at, own[i]) for at, i in enumerate(indices) if i < len(own)]
        second = [(at, i - len(own)) for at, i in enumerate(indices) if i >= len(own)]
        found: dict[int, Decoded] = {}
        for reader, asked in ((source, first), (target, second)):
            if asked:
                read_now = reader([i for _, i in asked])
                found.update(zip((at for at, _ in asked), read_now, strict=True))
        return [found[at] for at in range(len(indices))]

    return read


def _current(source: ImageDataset, target: ImageDataset) -> Callable[[], str] | None:
    if source.current is None and target.current is None:
        return None

    def current() -> str:
        both = [each.fingerprint if each.current is None else each.current()
                for each in (source, target)]  # fmt: skip
        return content_hash([*both, "target"], digits=64)

    return current


def _either(
    source: Callable[[int], T] | None,
    target: Callable[[int], T] | None,
    at: Callable[[int], int],
    count: int,
) -> Callable[[int], T] | None:
    """Of a sample's index in both what its own data set says; None unless both do."""
    if source is None or target is None:
        return None
    return lambda index: source(at(index)) if index < count else target(index - count)
