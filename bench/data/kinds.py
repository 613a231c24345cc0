"""Data sets of every kind of input, prepared and opened: what differs by kind stands here alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.dataset import DataIssue, Dataset, ImageDataset, InputKind, PixelForm, Pixels
from bench.data.images.prepared import (
    BILINEAR,
    FORMAT_VERSION,
    ImageData,
    Resize,
    image_preprocessing,
    prepare_images,
    prepared_fingerprint,
    resolve_resize,
    stored_size,
)
from bench.data.inputs import PreparedData, Preprocessing
from bench.data.leakage import leakage
from bench.data.splits import Splits
from bench.data.text.dataset import TextDataset
from bench.data.text.leakage import text_leakage
from bench.data.text.prepared import FORMAT_VERSION as TEXT_FORMAT_VERSION
from bench.data.text.prepared import (
    TOKENS_FILE,
    TextData,
    noise_tokens,
    prepare_texts,
    text_preprocessing,
    texts_fingerprint,
)
from bench.data.vectors import FORMAT_VERSION as VECTOR_FORMAT_VERSION
from bench.data.vectors import (
    VECTORS_FILE,
    VectorData,
    VectorDataset,
    prepare_vectors,
    vector_leakage,
    vectors_fingerprint,
)
from bench.suite import Interpolation
from bench.system.download import OnProgress

Floats = Sequence[float]


@dataclass(frozen=True)
class _Reading:
    """How samples are read, which fixes what is prepared: see `prepare`."""

    size: int
    resize: Resize
    interpolation: Interpolation
    tokenizer: str | None

    def cutter(self) -> str:
        """What cuts texts."""
        assert self.tokenizer is not None, "texts need a tokenizer"
        return self.tokenizer


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """What is done with data sets of one kind."""

    format_version: int
    prepare: Callable[[Any, _Reading, OnProgress | None], Path]
    fingerprint: Callable[[Any, _Reading], str]
    preprocessing: Callable[[Any, _Reading, Floats, Floats], Preprocessing]
    open: Callable[[Path], PreparedData]
    sample_bytes: Callable[[Any, int, Resize], int]
    stand_in: Callable[[Any, int, int, Resize], PreparedData]
    leakage: Callable[[Any, Sequence[Splits], OnProgress | None], list[DataIssue]]


def prepare(
    dataset: Dataset,
    *,
    size: int,
    resize: Resize,
    interpolation: Interpolation = BILINEAR,
    tokenizer: str | None = None,
    progress: OnProgress | None = None,
) -> Path:
    """Prepare the data set for networks that see `size`, once; the folder for `open_data`.

    Texts are cut by a `tokenizer`. Raises `DataError` as `prepare_images` does.
    """
    reading = _Reading(size, resize, interpolation, tokenizer)
    return _KINDS[dataset.kind].prepare(dataset, reading, progress)


def data_fingerprint(
    dataset: Dataset,
    *,
    size: int,
    resize: Resize,
    interpolation: Interpolation = BILINEAR,
    tokenizer: str | None = None,
) -> str:
    """The fingerprint that the prepared data will have, if every sample can be read."""
    reading = _Reading(size, resize, interpolation, tokenizer)
    return _KINDS[dataset.kind].fingerprint(dataset, reading)


def preprocessing_of(
    dataset: Dataset,
    *,
    size: int,
    resize: Resize,
    interpolation: Interpolation,
    mean: Floats,
    std: Floats,
    tokenizer: str | None = None,
) -> Preprocessing:
    """The `preprocessing` of the prepared data, before anything is prepared."""
    reading = _Reading(size, resize, interpolation, tokenizer)
    return _KINDS[dataset.kind].preprocessing(dataset, reading, mean, std)


def prepared_bytes(dataset: Dataset, *, size: int, resize: Resize) -> int:
    """About how many bytes of disk the prepared data set takes."""
    return len(dataset) * _KINDS[dataset.kind].sample_bytes(dataset, size, resize)


def open_data(folder: Path) -> PreparedData:
    """Open what `prepare` returned; raises `DataError` if it is missing or damaged."""
    files: dict[str, InputKind] = {VECTORS_FILE: "vector", TOKENS_FILE: "text"}
    kinds = (kind for file, kind in files.items() if (folder / file).is_file())
    return _KINDS[next(kinds, "image")].open(folder)


def format_version(dataset: Dataset) -> int:
    """The version of how its kind is stored, which ids of trials have."""
    return _KINDS[dataset.kind].format_version


def stand_in(dataset: Dataset, *, count: int, size: int, resize: Resize) -> PreparedData:
    """So many samples of noise, of the data set's kind and classes, to be timed."""
    return _KINDS[dataset.kind].stand_in(dataset, count, size, resize)


def find_leakage(
    data: PreparedData, splits: Sequence[Splits], *, progress: OnProgress | None = None
) -> list[DataIssue]:
    """Equal or nearly equal samples on different sides of a split."""
    kinds: dict[type, InputKind] = {VectorData: "vector", TextData: "text"}
    return _KINDS[kinds.get(type(data), "image")].leakage(data, splits, progress)


def _noise_images(dataset: ImageDataset, count: int, size: int, resize: Resize) -> ImageData:
    resize = resolve_resize(resize, dataset)
    side = stored_size(size, resize)
    return ImageData(
        folder=Path(),
        name="noise",
        images=_noise(dataset.form, count, side),
        bits=dataset.bits,
        channels=dataset.channels,
        deep=dataset.deep,
        image_size=size,
        resize=resize,
        generated=True,
        **_noise_labels(dataset, count),
    )


def _noise(form: PixelForm, count: int, side: int) -> Pixels:
    shape = (count, side, side, form.depth)
    return np.random.default_rng(0).integers(0, form.white + 1, shape, form.dtype)


def _noise_vectors(dataset: VectorDataset, count: int, size: int, resize: Resize) -> VectorData:
    vectors = np.random.default_rng(0).normal(size=(count, size)).astype(np.float32)
    return VectorData(folder=Path(), name="noise", vectors=vectors, **_noise_labels(dataset, count))


def _noise_labels(dataset: Dataset, count: int) -> dict[str, Any]:
    targets = dataset.targets
    if targets is not None:
        turns = np.arange(count)[:, None] + np.arange(len(dataset.classes))
        targets = replace(targets, values=(turns % 2).astype(np.float32))
    return {
        "labels": np.arange(count) % len(dataset.classes),
        "targets": targets,
        "given_splits": np.zeros(count, np.int8),
        "sample_ids": tuple(str(index) for index in range(count)),
        "classes": dataset.classes,
        "fingerprint": "noise",
        "issues": (),
    }


def _noise_texts(dataset: TextDataset, count: int, size: int, resize: Resize) -> TextData:
    noise = noise_tokens(count, size)
    return TextData(
        folder=Path(),
        name="noise",
        texts=("",) * count,
        tokens=noise.ids,
        words=noise.words,
        tokenizer="",
        **_noise_labels(dataset, count),
    )


_KINDS: Mapping[InputKind, _Kind] = {
    "image": _Kind(
        format_version=FORMAT_VERSION,
        prepare=lambda dataset, reading, progress: prepare_images(
            dataset,
            image_size=reading.size,
            resize=reading.resize,
            interpolation=reading.interpolation,
            progress=progress,
        ),
        fingerprint=lambda dataset, reading: prepared_fingerprint(
            dataset, reading.size, resolve_resize(reading.resize, dataset), reading.interpolation
        ),
        preprocessing=lambda dataset, reading, mean, std: image_preprocessing(
            reading.size,
            resolve_resize(reading.resize, dataset),
            reading.interpolation,
            dataset.classes,
            mean,
            std,
            dataset.form,
        ),
        open=ImageData.open,
        sample_bytes=lambda dataset, size, resize: (
            dataset.form.pixel_bytes * stored_size(size, resolve_resize(resize, dataset)) ** 2
        ),
        stand_in=_noise_images,
        leakage=lambda data, splits, progress: leakage(data, splits, progress=progress),
    ),
    "vector": _Kind(
        format_version=VECTOR_FORMAT_VERSION,
        prepare=lambda dataset, *_: prepare_vectors(dataset),
        fingerprint=lambda dataset, *_: vectors_fingerprint(dataset),
        preprocessing=lambda dataset, *_: Preprocessing(
            kind="vector", size=dataset.native_size, classes=dataset.classes
        ),
        open=VectorData.open,
        sample_bytes=lambda dataset, size, resize: 4 * size,
        stand_in=_noise_vectors,
        leakage=lambda data, splits, progress: vector_leakage(data, splits),
    ),
    "text": _Kind(
        format_version=TEXT_FORMAT_VERSION,
        prepare=lambda dataset, reading, progress: prepare_texts(
            dataset, length=reading.size, tokenizer=reading.cutter()
        ),
        fingerprint=lambda dataset, reading: texts_fingerprint(
            dataset, reading.size, reading.cutter()
        ),
        preprocessing=lambda dataset, reading, mean, std: text_preprocessing(
            reading.size, reading.cutter(), dataset.classes
        ),
        open=TextData.open,
        sample_bytes=lambda dataset, size, resize: 8 * size,
        stand_in=_noise_texts,
        leakage=text_leakage,
    ),
}
