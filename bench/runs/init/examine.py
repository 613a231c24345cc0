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
    open_data,
    open_dataset,
    prepare,
    strata_names,
    target_task_of,
)
from bench.data.dataset import NO_GROUPS, naming
from bench.data.images.sizes import TOO_LARGE
from bench.data.images.table_guess import guessed_outputs
from bench.errors import DataError, counted
from bench.methods.target_tasks import CLASSIFICATION
from bench.runs.init.backbone import SEEDS, backbones_for, choose_image_size, size_of_weights
from bench.suite import Settings, TargetTaskName, reader_of
from bench.system.download import OnProgress
from bench.system.machine import describe_machine, half_precision, resolve_device

MEASURED = 500


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What was seen of the folder, or table of labels, and of this machine.

    `reader` is the data set that reads it, with the options `outputs` where a table says no class:
    then `outputs_named` are what is predicted (`task`). `counts` is {split: {class: images}}, or of
    strata; `drawn` names the splits that it does not have, which keep so many `groups` whole if
    there are any.
    `sizes` `[m, 2]` holds width and height in pixels of up to `MEASURED` images, `machine` what
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
    dataset = open_dataset(reader, options, progress=progress)
    assert isinstance(dataset, ImageDataset)
    assert dataset.size_of is not None
    sizes = measure_sizes(dataset.size_of, len(dataset))
    weights_size = size_of_weights(backbones_for(device)[0])
    prepared = prepare(
        dataset,
        size=choose_image_size(sizes, weights_size) or weights_size,
        resize=Settings().resize,
        progress=progress,
    )
    data = open_data(prepared)
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
        ),
        device=device,
        precision=half_precision(device) or "fp32",
        machine=describe_machine(device),
        reader=reader,
        groups=len(set(data.groups or ())) if by_group else 0,
        task=target_task_of(data),
        outputs=outputs,
        outputs_named=data.classes,
    )


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
    places = np.unique(np.linspace(0, count - 1, min(count, MEASURED)).round().astype(int))
    sizes = (size_of(index) for index in places.tolist())
    known = [size for size in sizes if size is not None and size != TOO_LARGE]
    return np.array(known, np.int64).reshape(-1, 2)


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
