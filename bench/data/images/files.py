"""Image sources made of image files under one folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.data.dataset import ClassMap, DataIssue, ImageDataset, fingerprint_of
from bench.data.images.decode import read_files
from bench.data.images.file_hashes import file_hashes
from bench.data.images.sizes import square_sides
from bench.errors import DataError, nearest
from bench.system.download import OnProgress


@dataclass(frozen=True, kw_only=True)
class LabelledFile:
    """An image file, the class it belongs to, and its split (or UNASSIGNED)."""

    path: Path
    class_name: str
    split: int


def existing_folder(path: str) -> Path:
    """The absolute path of a folder; `DataError` with the nearest name if there is none."""
    root = Path(path).expanduser().absolute()
    if root.is_dir():
        return root
    if root.exists():
        raise DataError(f"path must be a folder, got the file {root}")
    if not root.parent.is_dir():
        raise DataError(f"there is no folder {root}; {root.parent} does not exist either")
    siblings = [entry.name for entry in os.scandir(root.parent) if entry.is_dir()]
    raise DataError(f"there is no folder {root}{nearest(root.name, siblings)}")


def sample_id(root: Path, path: Path) -> str:
    """The path below `root`, with / on every platform and Unicode whatever its encoding."""
    return name_text(path.relative_to(root).as_posix())


def name_text(name: str) -> str:
    """A file name as Unicode: bytes that are not UTF-8 stand there as `\\xe9`.

    Neither parquet nor JSON nor a terminal takes what Python puts in their place.
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def dataset_from_files(
    *,
    name: str,
    root: Path,
    files: Sequence[LabelledFile],
    progress: OnProgress | None,
    class_map: ClassMap | None = None,
    issues: Sequence[DataIssue] = (),
) -> ImageDataset:
    """A data set of files under `root`; sample ids are the paths below it."""
    by_id: dict[str, LabelledFile] = {}
    for file in files:
        other = by_id.setdefault(sample_id(root, file.path), file)
        if other is not file:
            raise DataError(f"two files in {root} both read {sample_id(root, file.path)!r}")
    sample_ids = tuple(sorted(by_id))
    ordered = [by_id[identifier] for identifier in sample_ids]
    classes = tuple(sorted({file.class_name for file in files}))
    class_index = {class_name: index for index, class_name in enumerate(classes)}
    labels = np.array([class_index[file.class_name] for file in ordered], np.int64)
    splits = np.array([file.split for file in ordered], np.int8)
    paths = [file.path for file in ordered]
    sides = square_sides(paths)

    fingerprint = partial(_fingerprint, root, paths, classes, sample_ids, labels, splits)
    return ImageDataset(
        name=name,
        classes=classes,
        sample_ids=sample_ids,
        labels=labels,
        splits=splits,
        fingerprint=fingerprint(progress),
        native_size=min(sides) if len(sides) == 1 else None,
        squares=bool(sides),
        read=partial(read_files, paths),
        class_map=class_map,
        issues=tuple(issues),
        current=fingerprint,
    )


def _fingerprint(
    root: Path,
    paths: Sequence[Path],
    classes: tuple[str, ...],
    sample_ids: tuple[str, ...],
    labels: npt.NDArray[np.int64],
    splits: npt.NDArray[np.int8],
    progress: OnProgress | None = None,
) -> str:
    return fingerprint_of(
        classes=classes,
        sample_ids=sample_ids,
        labels=labels,
        splits=splits,
        contents=file_hashes(root, paths, progress=progress),
    )
