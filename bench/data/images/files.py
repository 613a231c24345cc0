"""Image sources made of image files under one folder."""

from __future__ import annotations

import io
from collections.abc import Callable, Container, Sequence
from functools import partial
from pathlib import Path

from bench.data.archives import StoredFile, opened
from bench.data.dataset import ClassMap, DataIssue, ImageDataset, PixelForm, fingerprint_of
from bench.data.files import SampleFiles, sample_id
from bench.data.images.channels import ARRAY_SUFFIXES, read_as, size_as
from bench.data.images.decode import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    is_image_by_content,
    missing_reader,
)
from bench.data.images.file_facts import Reading, find_reading
from bench.data.images.sizes import image_size, square_sides
from bench.data.samples import LabelledFile, labelled_fields
from bench.errors import DataError
from bench.suite import Limits, TargetTaskName
from bench.system.download import OnProgress


def image_files(suffixes: Container[str]) -> SampleFiles:
    """Which files of a folder are images: those with one of `suffixes`, or none and the content."""
    return SampleFiles(
        noun="image",
        is_one=partial(is_image, suffixes=suffixes),
        why_none=partial(_why_no_image, suffixes=suffixes),
        by_suffix=NO_IMAGE,
        kind="not-an-image",
    )


NO_IMAGE = "not an image by the suffix"
NO_CHANNELS = "arrays (.npy, .npz), read with `channels: N`"


def _why_no_image(path: Path, suffixes: Container[str]) -> str | None:
    if not is_image(path, suffixes):
        if path.suffix.lower() in ARRAY_SUFFIXES:
            return NO_CHANNELS
        return NO_IMAGE if path.suffix else "no suffix, and not an image by its first bytes"
    mend = missing_reader(path)
    return None if mend is None else f"this installation does not read {path.suffix} files; {mend}"


def is_image(path: Path, suffixes: Container[str] = IMAGE_SUFFIXES) -> bool:
    """Whether the name says so by one of `suffixes`, or without a suffix the content.

    A broken link counts, which is told when it is decoded; a pipe or device must not be opened.
    """
    if not path.suffix:
        return is_image_by_content(path)
    if path.suffix.lower() not in suffixes:
        return False
    return path.is_file() or (path.is_symlink() and not path.exists())


def dataset_from_files(
    *,
    name: str,
    root: Path,
    files: Sequence[LabelledFile],
    progress: OnProgress | None,
    class_map: ClassMap | None = None,
    issues: Sequence[DataIssue] = (),
    bits: int | None = None,
    channels: int | None = None,
    limits: Limits | None = None,
    classes: Sequence[str] | None = None,
    task: TargetTaskName = "classification",
) -> ImageDataset:
    """A data set of files under `root`, a folder or an archive; sample ids are the paths below it.

    `classes` are those of the files in the order of their indices; None: sorted. With another
    `task` they are the names of the `values` that files have instead.
    So many `bits` of 16-bit values are used; None: as many as the largest value of all needs. With
    `channels` files have as many, of the depth that is theirs.
    The limits, bits and channels are in the fingerprint where they change what becomes of a file.
    """
    by_id: dict[str, LabelledFile] = {}
    for file in files:
        other = by_id.setdefault(sample_id(root, file.path), file)
        if other is not file:
            raise DataError(
                f"two files in {root} have names that look the same, "
                f"{sample_id(root, file.path)!r}; rename one"
            )
    sample_ids = tuple(sorted(by_id))
    ordered = [by_id[identifier] for identifier in sample_ids]
    classes = tuple(classes or sorted({file.class_name for file in files}))
    fields, told = labelled_fields(ordered, classes, task, "image")
    paths = [file.path for file in ordered]
    max_pixels = (limits or Limits()).pixels or MAX_PIXELS
    reading_of = partial(find_reading, root, paths, sample_ids, bits=bits, max_pixels=max_pixels,
                         channels=channels)  # fmt: skip
    found = reading_of(progress=progress)
    fingerprint = partial(
        fingerprint_of,
        sample_ids=sample_ids,
        **{name: fields[name] for name in ("classes", "labels", "splits", "targets")},
    )
    form = PixelForm(channels=channels, bits=found.bits, deep=found.deep)
    size_of = image_size if channels is None else partial(size_as, channels=channels)
    sides = square_sides(paths, size_of)
    return ImageDataset(
        name=name,
        sample_ids=sample_ids,
        fingerprint=fingerprint(contents=found.contents),
        native_size=min(sides) if len(sides) == 1 else None,
        squares=bool(sides),
        channels=channels,
        bits=found.bits,
        deep=found.deep,
        read=partial(read_as, paths, form=form, max_pixels=max_pixels),
        class_map=class_map,
        issues=(*issues, *found.issues, *told),
        size_of=partial(_size_of, paths, size_of),
        source_of=partial(_source_of, paths),
        current=partial(_current, fingerprint, reading_of),
        limited=partial(
            dataset_from_files, name=name, root=root, files=tuple(files), progress=progress,
            class_map=class_map, issues=tuple(issues), bits=bits, channels=channels,
            classes=classes, task=task,
        ),
        **fields,
    )  # fmt: skip


def _source_of(paths: Sequence[StoredFile], index: int) -> Path | io.BytesIO:
    return opened(paths[index])


def _size_of(
    paths: Sequence[StoredFile],
    size_of: Callable[[StoredFile], tuple[int, int] | None],
    index: int,
) -> tuple[int, int] | None:
    return size_of(paths[index])


def _current(fingerprint: Callable[..., str], reading_of: Callable[[], Reading]) -> str:
    return fingerprint(contents=reading_of().contents)
