"""Looking: what is in a folder of images or texts, and what this machine trains on."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

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
    TextData,
    class_counts,
    find_leakage,
    groups_on_both_sides,
    make_splits,
    open_dataset,
    prepare,
    strata_names,
    target_task_of,
)
from bench.data.archives import is_archive, open_archive
from bench.data.copies import Pairs
from bench.data.dataset import NO_GROUPS, naming
from bench.data.images.decode import IMAGE_SUFFIXES
from bench.data.images.files import image_files
from bench.data.images.prepared import ImageData
from bench.data.images.sizes import TOO_LARGE
from bench.data.layout import GivenSplits, SeveralTestSetsError
from bench.data.leakage import alike_pairs
from bench.data.table_guess import guessed_outputs, has_texts
from bench.data.text.texts import SUFFIXES, text_files
from bench.errors import DataError, counted
from bench.methods.target_tasks import CLASSIFICATION
from bench.models import describe_weights
from bench.models.weights import PRETRAINED
from bench.runs.init.backbone import (
    SEEDS,
    TEXT_BACKBONE,
    backbones_for,
    choose_image_size,
    size_of_weights,
)
from bench.runs.init.groups import Suspicion, in_copies, in_exif, in_names, with_pairs
from bench.suite import Entry, Settings, TargetTaskName, reader_of
from bench.system.download import OnProgress
from bench.system.machine import describe_machine, half_precision, resolve_device

Noun = Literal["image", "text"]
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
    `lengths` `[n]` the tokens of texts, `machine` what `describe_machine` says. `noun` is what is
    counted; `latin` says that most letters of texts are.
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
    noun: Noun = "image"
    lengths: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    latin: bool = True

    @property
    def has_classes(self) -> bool:
        """Whether an image has one class of several."""
        return self.task == CLASSIFICATION.name

    def total(self, split: str) -> int:
        """How many images, or texts, a split has."""
        return sum(self.counts[split].values())

    @property
    def imbalance(self) -> float:
        """Training samples of the largest class over those of the smallest."""
        train = self.counts["train"].values()
        return max(train) / min(train)

    @property
    def balanced_test_samples(self) -> float:
        """How many test samples of equal classes would tell as much of balanced accuracy.

        That is the mean of C shares of n samples each, whose variance is a sum of those over 1/n.
        """
        counts = [count for count in self.counts["test"].values() if count]
        return len(counts) ** 2 / sum(1 / count for count in counts)


def examine(folder: Path, *, progress: OnProgress | None = None) -> Examined:
    """Read the folder or table as a run would, and count, measure and compare what is in it."""
    device = resolve_device("auto")
    # A suite's path is resolved too, so that the run finds these samples in the cache.
    root = folder.resolve()
    if holds_texts(root):
        return _examine_texts(folder, root, device, progress)
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
    found = _of_data(folder, data, reader, options, device, progress)
    suspected = _suspected(dataset, data, suspicion, alike)
    return replace(
        found,
        sizes=sizes,
        issues=(*found.issues, *suspected),
        suspicion=suspicion,
        outputs=outputs,
    )


def _of_data(
    folder: Path,
    data: PreparedData,
    reader: str,
    options: Mapping[str, Any],
    device: str,
    progress: OnProgress | None,
) -> Examined:
    """What can be said of prepared data of any kind."""
    fractions = {key: options[key] for key in ("val_fraction", "test_fraction", "split_seed")}
    drawn = _drawn(data.given_splits)
    splits, told = _splits(data, fractions, by_group=bool(drawn) and data.groups is not None)
    by_group = bool(drawn) and data.groups is not None and not told
    return Examined(
        folder=folder,
        counts=class_counts(data.labels, splits[0], strata_names(data)),
        drawn=drawn,
        sizes=np.zeros((0, 2), np.int64),
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
        splits=options.get("splits"),
        task=target_task_of(data),
        outputs_named=data.classes,
    )


def holds_texts(path: Path) -> bool:
    """Whether a table has a column of texts and none of image files, or a folder or an archive
    files of text and no images."""
    if reader_of(path) == "table":
        return has_texts(path)
    if is_archive(path) and path.is_file():
        suffixes = {Path(name).suffix.lower() for name in open_archive(path).members}
        return bool(suffixes & SUFFIXES) and not suffixes & IMAGE_SUFFIXES
    if reader_of(path) != "folder" or not path.is_dir():
        return False
    kinds = (image_files(IMAGE_SUFFIXES), text_files())
    images, texts = (partial(kind.below, path, frozenset()) for kind in kinds)
    return not images() and texts()


def _examine_texts(folder: Path, root: Path, device: str, progress: OnProgress | None) -> Examined:
    outputs = guessed_outputs(root, content="text") if reader_of(root) == "table" else {}
    options = DATASETS.get("text").options(path=str(root), **outputs).model_dump()
    try:
        dataset = open_dataset("text", options, progress=progress)
    except SeveralTestSetsError as error:
        options["splits"] = error.splits
        dataset = open_dataset("text", options, progress=progress)
    weights = describe_weights(TEXT_BACKBONE, Entry(name=PRETRAINED))
    prepared = prepare(
        dataset,
        size=weights.input_size,
        resize=Settings().resize,
        tokenizer=weights.tokenizer,
        progress=progress,
    )
    data = TextData.open(prepared)
    found = _of_data(folder, data, "text", options, device, progress)
    return replace(
        found,
        noun="text",
        lengths=(data.tokens >= 0).sum(axis=1),
        latin=_is_latin(data.texts[:MEASURED]),
        outputs=outputs,
    )


def _is_latin(texts: Iterable[str]) -> bool:
    letters = [character for text in texts for character in text if character.isalpha()]
    latin = sum(unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
    return 2 * latin >= len(letters)


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
