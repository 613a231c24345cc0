"""Looking: what is in a folder of images, and what this machine trains on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data import (
    DATASETS,
    TEST,
    VAL,
    DataIssue,
    Groups,
    ImageDataset,
    PreparedData,
    Splits,
    class_counts,
    find_leakage,
    groups_on_both_sides,
    make_splits,
    open_dataset,
    prepare,
    strata_names,
    target_task_of,
)
from bench.data.copies import Pairs
from bench.data.dataset import NO_GROUPS, naming
from bench.data.images.prepared import ImageData
from bench.data.images.sizes import TOO_LARGE
from bench.data.layout import GivenSplits, SeveralTestSetsError
from bench.data.leakage import alike_pairs
from bench.data.table_guess import guessed_outputs
from bench.errors import DataError, counted
from bench.methods.target_tasks import CLASSIFICATION
from bench.runs.init.backbone import SEEDS, backbones_for, choose_image_size, size_of_weights
from bench.runs.init.groups import Suspicion, in_copies, in_exif, in_names, with_pairs
from bench.suite import Settings, TargetTaskName, reader_of
from bench.system.download import OnProgress
from bench.system.machine import describe_machine, half_precision, resolve_device

MEASURED = 500
SUSPECTED = "suspected-groups"
"""The kind of issue that tells what may be groups."""


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What was seen of the folder, or table of labels, and of this machine.

    `reader` is the data set that reads it, with the options `outputs` where a table says no class:
    then `outputs_named` are what is predicted (`task`). `counts` is {split: {class: images}}, or of
    strata; `drawn` names the splits that it does not have, which keep so many `groups` whole if
    there are any.
    `splits` are its folders of splits, if it has several test sets, `suspicion` is of groups that
    it does not name. `sizes` `[m, 2]` holds width and height in pixels of up to `MEASURED` images,
    `machine` what
    `describe_machine` says.
    """

    folder: Path
    counts: Mapping[str, Mapping[str, int]]
    drawn: tuple[str, ...]
    sizes: npt.NDArray[np.int64]
    issues: tuple[DataIssue, ...]
    device: str
    precision: str
    machine: Mapping[str, Any]
    reader: str = "folder"
    groups: int = 0
    splits: GivenSplits | None = None
    suspicion: Suspicion | None = None
    task: TargetTaskName = CLASSIFICATION.name
    outputs: Mapping[str, Any] = field(default_factory=dict)
    outputs_named: tuple[str, ...] = ()

    @property
    def has_classes(self) -> bool:
        """Whether an image has one class of several."""
        return self.task == CLASSIFICATION.name

    def total(self, split: str) -> int:
        """How many images a split has."""
        return sum(self.counts[split].values())

    @property
    def imbalance(self) -> float:
        """Training images of the largest class over those of the smallest."""
        train = self.counts["train"].values()
        return max(train) / min(train)

    @property
    def balanced_test_images(self) -> float:
        """How many test images of equal classes would tell as much of balanced accuracy.

        That is the mean of C shares of n images each, whose variance is a sum of those over 1/n.
        """
        counts = [count for count in self.counts["test"].values() if count]
        return len(counts) ** 2 / sum(1 / count for count in counts)


def examine(folder: Path, *, progress: OnProgress | None = None) -> Examined:
    """Decode the folder or table as a run would, and count, measure and compare what is in it."""
    device = resolve_device("auto")
    # A suite's path is resolved too, so that the run finds these images in the cache.
    root = folder.resolve()
    reader = reader_of(root)
    outputs = guessed_outputs(root) if reader == "table" else {}
    options = DATASETS.get(reader).options(path=str(root), **outputs).model_dump()
    try:
        dataset = _opened(reader, options, progress)
    except SeveralTestSetsError as error:
        options["splits"] = error.splits
        dataset = _opened(reader, options, progress)
    suspicion = None
    if dataset.groups is None:
        suspicion = in_names(dataset.sample_ids, dataset.labels)
    # With groups it is another data set: images are prepared for the one that is proposed.
    if suspicion is not None and suspicion.sure:
        dataset = _opened(reader, {**options, "group": suspicion.pattern}, progress)
    assert dataset.size_of is not None
    sizes = measure_sizes(dataset.size_of, len(dataset))
    data = _prepared(dataset, device, sizes, progress)
    alike = alike_pairs(data, progress=progress)
    if suspicion is not None and not suspicion.sure:
        suspicion = with_pairs(suspicion, data.sample_ids, alike)
        if suspicion.sure:
            dataset = _opened(reader, {**options, "group": suspicion.pattern}, progress)
            data = _prepared(dataset, device, sizes, progress)
    fractions = {key: options[key] for key in ("val_fraction", "test_fraction", "split_seed")}
    drawn = _drawn(data.given_splits)
    splits, told = _splits(data, fractions, by_group=bool(drawn) and data.groups is not None)
    by_group = bool(drawn) and data.groups is not None and not told
    return Examined(
        folder=folder,
        counts=class_counts(data.labels, splits[0], strata_names(data)),
        drawn=drawn,
        sizes=sizes,
        issues=(
            *data.issues,
            *told,
            *_parted(data, splits),
            *find_leakage(data, splits, progress=progress),
            *_suspected(dataset, data, suspicion, alike),
        ),
        device=device,
        precision=half_precision(device) or "fp32",
        machine=describe_machine(device),
        reader=reader,
        groups=len(set(data.groups or ())) if by_group else 0,
        splits=options.get("splits"),
        suspicion=suspicion,
        task=target_task_of(data),
        outputs=outputs,
        outputs_named=data.classes,
    )


def _opened(reader: str, options: Mapping[str, Any], progress: OnProgress | None) -> ImageDataset:
    dataset = open_dataset(reader, options, progress=progress)
    assert isinstance(dataset, ImageDataset)
    return dataset


def _prepared(
    dataset: ImageDataset,
    device: str,
    sizes: npt.NDArray[np.int64],
    progress: OnProgress | None,
) -> ImageData:
    weights_size = size_of_weights(backbones_for(device)[0])
    prepared = prepare(
        dataset,
        size=choose_image_size(sizes, weights_size) or weights_size,
        resize=Settings().resize,
        progress=progress,
    )
    return ImageData.open(prepared)


def _suspected(
    dataset: ImageDataset, data: ImageData, suspicion: Suspicion | None, alike: Pairs
) -> Iterator[DataIssue]:
    """What speaks for groups, if the data set does not name them itself."""
    if dataset.groups is not None and suspicion is None:
        return
    told = [] if suspicion is None else [f"{suspicion.why}."]
    if suspicion is None or not suspicion.sure:
        if dataset.source_of is not None:
            places = _spread(len(dataset))
            told.append(in_exif(dataset.source_of, places, dataset.labels, dataset.classes) or "")
        told.append(in_copies(data.sample_ids, alike) or "")
    for message in filter(None, told):
        yield DataIssue(kind=SUSPECTED, message=message, count=1)


def _splits(
    data: PreparedData, fractions: Mapping[str, Any], *, by_group: bool
) -> tuple[list[Splits], list[DataIssue]]:
    """The splits of the first seeds; where groups cannot be kept whole, image by image, told."""

    def drawn(groups: Groups | None) -> list[Splits]:
        return [
            make_splits(
                data.labels,
                data.given_splits,
                strata_names(data),
                seed=seed,
                shots=None,
                groups=groups,
                all_classes=data.targets is None,
                **fractions,
            )
            for seed in SEEDS
        ]

    if not by_group:
        return drawn(None), []
    try:
        return drawn(data.groups), []
    except DataError as error:
        message = f"Groups cannot be kept whole: {error}."
        return drawn(None), [DataIssue(kind=NO_GROUPS, message=message, count=1)]


def _parted(data: PreparedData, splits: Sequence[Splits]) -> Iterator[DataIssue]:
    """Groups on both sides of a split."""
    parted = groups_on_both_sides(data.groups, splits[0])
    if parted:
        yield DataIssue(
            kind=NO_GROUPS,
            message=f"{counted(len(parted), 'group')} of {len(set(data.groups or ())):,} on both "
            f"sides of a split: {naming(list(parted))}. An accuracy is too good for new groups.",
            count=len(parted),
        )


def measure_sizes(
    size_of: Callable[[int], tuple[int, int] | None], count: int
) -> npt.NDArray[np.int64]:
    """Width and height `[m, 2]` of up to `MEASURED` of so many images, evenly spread."""
    sizes = (size_of(index) for index in _spread(count))
    known = [size for size in sizes if size is not None and size != TOO_LARGE]
    return np.array(known, np.int64).reshape(-1, 2)


def _spread(count: int) -> list[int]:
    """Up to `MEASURED` of so many places, evenly spread."""
    places = np.linspace(0, count - 1, min(count, MEASURED)).round().astype(int)
    return [int(place) for place in np.unique(places)]


def wilson_half_width(accuracy: float, num_images: float) -> float:
    """Half of the 95% Wilson score interval of an accuracy measured on `num_images` images.

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    """
    z, n = 1.959964, num_images
    return z / (1 + z * z / n) * math.sqrt(accuracy * (1 - accuracy) / n + (z / (2 * n)) ** 2)


def _drawn(given_splits: npt.NDArray[np.int8]) -> tuple[str, ...]:
    has_test, has_val = bool(np.any(given_splits == TEST)), bool(np.any(given_splits == VAL))
    if has_test and has_val:
        return ()
    # A val split without a test split is used as the test split.
    return ("val",) if has_test or has_val else ("test", "val")
