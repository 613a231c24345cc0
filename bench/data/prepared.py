"""What prepared data sets of all kinds of inputs have in common: fields, metadata, damage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data.dataset import (
    DataIssue,
    Dataset,
    Groups,
    SampleWeights,
    TestSets,
    Times,
    grouping_of,
    plain_grouping,
    plain_targets,
    targets_of,
)
from bench.data.targets import Targets
from bench.errors import DataError


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedSamples:
    """The fields of `PreparedData`: all but what the samples are.

    `generated` ones are made and not collected.
    """

    folder: Path
    name: str
    labels: npt.NDArray[np.int64]
    given_splits: npt.NDArray[np.int8]
    sample_ids: tuple[str, ...]
    classes: tuple[str, ...]
    fingerprint: str
    issues: tuple[DataIssue, ...] = ()
    generated: bool = False
    groups: Groups | None = None
    times: Times | None = None
    test_sets: TestSets | None = None
    sample_weights: SampleWeights | None = None
    targets: Targets | None = None

    def __len__(self) -> int:
        return len(self.labels)


def plain_samples(
    dataset: Dataset, *, fingerprint: str, issues: Iterable[DataIssue]
) -> dict[str, Any]:
    """The metadata of a prepared data set that has all samples, for JSON; `samples_of` reads it."""
    return {
        "name": dataset.name,
        "fingerprint": fingerprint,
        "classes": dataset.classes,
        "sample_ids": dataset.sample_ids,
        "labels": dataset.labels.tolist(),
        "given_splits": dataset.splits.tolist(),
        "issues": plain_issues(issues),
        **plain_grouping(dataset),
        **plain_targets(dataset),
    }


def samples_of(metadata: dict[str, Any]) -> dict[str, Any]:
    """Fields of `PreparedSamples`, taken out of metadata; strings and flags stay there."""
    grouping, targets = grouping_of(metadata), targets_of(metadata)
    return {
        **grouping,
        "targets": targets,
        "labels": np.array(metadata.pop("labels"), np.int64),
        "given_splits": np.array(metadata.pop("given_splits"), np.int8),
        "sample_ids": tuple(metadata.pop("sample_ids")),
        "classes": tuple(metadata.pop("classes")),
        "issues": tuple(
            DataIssue(**{**issue, "samples": tuple(issue["samples"])})
            for issue in metadata.pop("issues")
        ),
    }


def plain_issues(issues: Iterable[DataIssue]) -> list[dict[str, Any]]:
    """Issues for JSON."""
    return [{**asdict(issue), "samples": list(issue.samples)} for issue in issues]


@contextmanager
def opening(what: str, folder: Path) -> Iterator[None]:
    """Raise `DataError` for whatever goes wrong while `what` is opened in the `folder`."""
    try:
        yield
    except Exception as error:  # of a damaged file NumPy raises almost anything
        raise DataError(
            f"the prepared {what} in {folder} are missing or damaged ({error}); run the same "
            "command again to rebuild them"
        ) from error
