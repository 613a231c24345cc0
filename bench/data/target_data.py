"""Target data beside the data that trains: other images of the same classes, mostly unlabelled.

What trains and validates comes from the data set, what is tested from the target data, if that has
a test split. All its other images are there without labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from bench.data.dataset import (
    SPLIT_NOTE,
    TEST,
    UNLABELLED,
    DataIssue,
    Dataset,
    Decoded,
    ImageDataset,
    Reader,
    open_dataset,
)
from bench.errors import DataError, counted
from bench.keys import content_hash
from bench.suite.limits import Limits
from bench.system.download import OnProgress

ID_PREFIX = "target/"
"""What precedes the ids of its samples."""

TARGET_NOTE = "target-data"
"""The kind of issue that says what of the target data is used, and which of its labels."""

T = TypeVar("T")


def open_with_target(
    name: str,
    options: Mapping[str, Any],
    *,
    limits: Limits | None = None,
    progress: OnProgress | None = None,
) -> Dataset:
    """As `open_dataset`, with the option `target_data` beside it if that is there."""
    given = options.get("target_data")
    if given is not None and options.get("split") is not None:
        raise DataError("target_data beside `split` says twice what is tested; leave one out")
    dataset = open_dataset(name, options, limits=limits, progress=progress)
    if given is None:
        return dataset
    own = {key: value for key, value in given.items() if key != "name"}
    return with_target(dataset, open_dataset(given["name"], own, limits=limits, progress=progress))


def with_target(source: Dataset, target: Dataset) -> ImageDataset:
    """The data set with `target` beside it; raises `DataError` where the two do not fit.

    The labels of what is without labels are gone: they are 0 and mean nothing.
    """
    _check(source, target)
    assert isinstance(source, ImageDataset)
    assert isinstance(target, ImageDataset)
    tests = target.splits == TEST
    own = np.flatnonzero(source.splits != TEST) if tests.any() else np.arange(len(source))
    count = len(own)

    def at(index: int) -> int:
        return int(own[index])

    groups = None
    if source.groups is not None and target.groups is not None:
        groups = (*(source.groups[i] for i in own), *target.groups)
    return replace(
        source,
        sample_ids=(
            *(source.sample_ids[i] for i in own),
            *(ID_PREFIX + sample for sample in target.sample_ids),
        ),
        labels=np.concatenate([source.labels[own], np.where(tests, target.labels, 0)]),
        splits=np.concatenate(
            [source.splits[own], np.where(tests, TEST, UNLABELLED).astype(np.int8)]
        ),
        fingerprint=content_hash([source.fingerprint, target.fingerprint, "target"], digits=64),
        issues=(*_issues(source, target, tested=bool(tests.any())), _note(tests)),
        groups=groups,
        times=None,
        native_size=source.native_size if source.native_size == target.native_size else None,
        squares=source.squares and target.squares,
        read=_reader(source.read, target.read, own.tolist()),
        current=_current(source, target),
        limited=None,
        size_of=_either(source.size_of, target.size_of, at, count),
        source_of=_either(source.source_of, target.source_of, at, count),
    )


def _check(source: Dataset, target: Dataset) -> None:
    if not isinstance(source, ImageDataset) or not isinstance(target, ImageDataset):
        raise DataError(
            f"target_data needs images on both sides, {source.name} has {source.kind}s and "
            f"{target.name} {target.kind}s"
        )
    for each in (source, target):
        for what, own in (
            ("targets that are not classes", each.targets),
            ("weights of samples", each.sample_weights),
            ("test sets with names", each.test_sets),
        ):
            if own is not None:
                raise DataError(f"target_data is for plain classes, but {each.name} has {what}")
    if source.classes != target.classes:
        raise DataError(
            f"target_data must have the classes of the data set ({', '.join(source.classes)}), got "
            f"{', '.join(target.classes)}"
        )
    if source.form != target.form:
        raise DataError("target_data must have channels and bits of the data set: say both alike")
    if source.generated != target.generated:
        raise DataError("target_data is generated if the data set is, and only then")
    if (source.groups is None) != (target.groups is None):
        raise DataError("target_data has groups if the data set has, and only then")
    if not (target.splits != TEST).any():
        raise DataError("target_data has test images alone: none are left without labels")


def _issues(source: ImageDataset, target: ImageDataset, *, tested: bool) -> Iterator[DataIssue]:
    """What is wrong with either, without how splits of their own are taken that are not used."""
    for own, splits in ((source, not tested), (target, False)):
        yield from (each for each in own.issues if splits or each.kind != SPLIT_NOTE)


def _note(tests: np.ndarray[tuple[int], np.dtype[np.bool]]) -> DataIssue:
    tested = int(tests.sum())
    without = counted(len(tests) - tested, "image")
    if tested:
        message = (
            f"Of the target data {without} are used without labels, and the labels of "
            f"{tested} for the test split alone: training, choosing and tuning see source labels "
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
