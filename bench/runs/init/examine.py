"""Looking: what is in a folder of images, and what this machine trains on."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data import (
    DATASETS,
    TEST,
    VAL,
    DataIssue,
    class_counts,
    find_leakage,
    make_splits,
    open_data,
    open_dataset,
    prepare,
)
from bench.runs.init.backbone import SEEDS, backbones_for, choose_image_size, size_of_weights
from bench.suite import Settings
from bench.system.download import OnProgress
from bench.system.machine import describe_machine, half_precision, resolve_device

MEASURED = 500


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What was seen of the folder and of this machine.

    `counts` is {split: {class: images}}; `drawn` names the splits that the folder does not have.
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
    """Decode the folder as a run would, and count, measure and compare what is in it."""
    device = resolve_device("auto")
    # A suite's path is resolved too, so that the run finds these images in the cache.
    root = folder.resolve()
    options = DATASETS.get("folder").options(path=str(root)).model_dump()
    dataset = open_dataset("folder", options, progress=progress)
    sizes = measure_sizes(root, dataset.sample_ids)
    weights_size = size_of_weights(backbones_for(device)[0])
    prepared = prepare(
        dataset,
        size=choose_image_size(sizes, weights_size) or weights_size,
        resize=Settings().resize,
        progress=progress,
    )
    data = open_data(prepared)
    fractions = {key: options[key] for key in ("val_fraction", "test_fraction", "split_seed")}
    splits = [
        make_splits(
            data.labels, data.given_splits, data.classes, seed=seed, shots=None, **fractions
        )
        for seed in SEEDS
    ]
    return Examined(
        folder=folder,
        counts=class_counts(data.labels, splits[0], data.classes),
        drawn=_drawn(data.given_splits),
        sizes=sizes,
        issues=(*data.issues, *find_leakage(data, splits, progress=progress)),
        device=device,
        precision=half_precision(device) or "fp32",
        machine=describe_machine(device),
    )


def measure_sizes(root: Path, sample_ids: Sequence[str]) -> npt.NDArray[np.int64]:
    """Width and height `[m, 2]` of up to `MEASURED` images, evenly spread, from their headers."""
    from PIL import Image

    from bench.data.images.decode import available_formats

    count = len(sample_ids)
    sizes = []
    for index in np.unique(np.linspace(0, count - 1, min(count, MEASURED)).round().astype(int)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with Image.open(root / sample_ids[index], formats=available_formats()) as image:
                    sizes.append(image.size)
            except Exception:  # Pillow's plugins raise almost anything; decoding tells of it
                continue
    return np.array(sizes, np.int64).reshape(-1, 2)


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
