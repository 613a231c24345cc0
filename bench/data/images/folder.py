"""The data set `folder`: image files in class folders, the layout of torchvision's `ImageFolder`.

Either `ROOT/CLASS/*.jpg`, or `ROOT/train/CLASS/*.jpg` with `val` (also `valid`, `validation`) and
`test` beside `train`. Folders inside a class folder are searched too, each once. Symbolic links are
followed, but for those to pipes and devices: such a file might never end.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from bench.data.dataset import (
    DATASETS,
    SPLIT_NAMES,
    TEST,
    TRAIN,
    UNASSIGNED,
    VAL,
    DataIssue,
    ImageDataset,
    naming,
    val_as_test_issue,
)
from bench.data.images.decode import IMAGE_SUFFIXES
from bench.data.images.files import (
    LabelledFile,
    dataset_from_files,
    existing_folder,
    name_text,
    sample_id,
)
from bench.errors import DataError, counted
from bench.system.download import OnProgress

SPLIT_FOLDERS = {"train": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": TEST}
HIDDEN_NAMES = frozenset({"thumbs.db", "desktop.ini", "__macosx"})

FolderIds = frozenset[tuple[int, int]]
"""(device, inode) of a folder and of those above it: a link back to one of them is a loop."""


@DATASETS.register("folder")
def folder(
    progress: OnProgress | None,
    /,
    *,
    path: Annotated[
        str,
        Field(
            description="The folder of images; a relative path starts at the suite's folder.",
            examples=["photos"],
        ),
    ],
) -> ImageDataset:
    """Image files in class folders, with or without train, val and test folders above them.

    Raises `DataError` if the folder is missing or is not laid out so, and if a class has no image
    in one of the splits.
    """
    root = existing_folder(path)
    try:
        return _open_folder(root, progress)
    except PermissionError as error:
        raise DataError(f"{error.filename} must be readable, but permission is denied") from error
    except OSError as error:  # a path that is too long, a disk that fails
        reason = error.strerror or str(error)
        raise DataError(f"cannot read {error.filename or root}: {reason}") from error


def _open_folder(root: Path, progress: OnProgress | None) -> ImageDataset:
    split_folders = _split_folders(root)
    found = {split: _class_files(where, root) for split, where in split_folders.items()}
    images, others = _partition_by_suffix(found)
    _check_classes(root, split_folders, found, images)
    splits = np.array(list(split_folders), np.int8)
    return dataset_from_files(
        name=name_text(root.name),
        root=root,
        files=images,
        progress=progress,
        issues=(
            *_left_out(root, split_folders, others),
            *val_as_test_issue(splits),
        ),
    )


def _split_folders(root: Path) -> dict[int, Path]:
    """The folders that hold the class folders, by split; {UNASSIGNED: root} for one flat set.

    `train` is a split, and not a class of that name, if there are folders inside it.
    """
    subfolders = _subfolders(root, _ids(root))
    named = [entry for entry in subfolders if entry.name.lower() in SPLIT_FOLDERS]
    nested = [entry for entry in named if _subfolders(entry)]
    if any(SPLIT_FOLDERS[entry.name.lower()] == TRAIN for entry in nested):
        return _by_split(root, named)
    if nested or (named and named == subfolders):
        names = naming([entry.name for entry in named])
        raise DataError(
            f"{root} has the folders {names}, but no train folder with class folders in it; "
            f"training images belong into {root / 'train' / 'CLASS'}"
        )
    if subfolders:
        return {UNASSIGNED: root}
    count = sum(_has_image_suffix(path) for path in _files(root))
    raise DataError(
        f"{root} holds {counted(count, 'image')} but no class folders; "
        f"the images of a class belong into a folder named after it ({root / 'CLASS'})"
    )


def _by_split(root: Path, named: Sequence[Path]) -> dict[int, Path]:
    by_split: dict[int, Path] = {}
    for entry in named:
        split = SPLIT_FOLDERS[entry.name.lower()]
        if split in by_split:
            raise DataError(
                f"{root} holds two {SPLIT_NAMES[split]} splits, {by_split[split].name} and "
                f"{entry.name}; keep one of them"
            )
        by_split[split] = entry
    return by_split


def _class_files(split_folder: Path, root: Path) -> dict[str, list[Path]]:
    above = _ids(root) | _ids(split_folder)
    found: dict[str, list[Path]] = {}
    for class_folder in _subfolders(split_folder, above):
        name = name_text(class_folder.name)
        if name in found:
            raise DataError(f"{split_folder} holds two classes that both read {name!r}; rename one")
        found[name] = _files_below(class_folder, above)
    return found


def _partition_by_suffix(
    found: dict[int, dict[str, list[Path]]],
) -> tuple[list[LabelledFile], list[Path]]:
    images, others = [], []
    for split, by_class in found.items():
        for class_name, paths in by_class.items():
            for path in paths:
                if _has_image_suffix(path):
                    images.append(LabelledFile(path=path, class_name=class_name, split=split))
                else:
                    others.append(path)
    return images, others


def _check_classes(
    root: Path,
    split_folders: dict[int, Path],
    found: dict[int, dict[str, list[Path]]],
    images: Sequence[LabelledFile],
) -> None:
    filled = {(image.split, image.class_name) for image in images}
    classes = sorted({class_name for by_class in found.values() for class_name in by_class})
    empty = [
        f"class {class_name!r} has no image{_in_split(split)} ({where / class_name})"
        for split, where in split_folders.items()
        for class_name in classes
        if (split, class_name) not in filled
    ]
    if empty:
        raise DataError(f"every class needs images in every split: {naming(empty)}")
    if len(classes) < 2:
        raise DataError(
            f"a classification task needs at least two classes, {root} holds only {classes[0]!r}; "
            "path must be the folder that holds the class folders or the train folder"
        )


def _in_split(split: int) -> str:
    return "" if split == UNASSIGNED else f" in the {SPLIT_NAMES[split]} split"


def _left_out(
    root: Path, split_folders: dict[int, Path], others: Sequence[Path]
) -> list[DataIssue]:
    strays = [
        path
        for where in {root, *split_folders.values()}
        for path in _files(where)
        if _has_image_suffix(path)
    ]
    flat = UNASSIGNED in split_folders
    subfolders = [] if flat else _subfolders(root, _ids(root))
    unused = [entry for entry in subfolders if entry not in split_folders.values()]
    reasons = [
        ("not-an-image", others, "file", "not an image by the suffix"),
        ("outside-classes", strays, "image", "outside the class folders"),
        ("ignored-folder", unused, "folder", "beside train, but no split by the name"),
    ]
    return [
        _left_out_issue(kind, noun, reason, sorted(sample_id(root, path) for path in paths))
        for kind, paths, noun, reason in reasons
        if paths
    ]


def _left_out_issue(kind: str, noun: str, reason: str, names: Sequence[str]) -> DataIssue:
    return DataIssue(
        kind=kind,
        message=f"{counted(len(names), noun)} left out ({reason}): {naming(names)}.",
        count=len(names),
        samples=tuple(names[:5]),
    )


def _subfolders(folder: Path, above: FolderIds = frozenset()) -> list[Path]:
    entries = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    return [entry for entry in entries if not _is_hidden(entry) and not _ids(entry) <= above]


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.is_dir() and not _is_hidden(path)]


def _files_below(folder: Path, above: FolderIds) -> list[Path]:
    """All files below `folder`. Links that lead to one folder on many ways do not multiply it."""
    found: list[Path] = []
    seen, waiting = set(above), [folder]
    while waiting:
        current = waiting.pop()
        if _ids(current) <= seen:
            continue
        seen |= _ids(current)
        found += _files(current)
        waiting += reversed(_subfolders(current, frozenset(seen)))
    return found


def _ids(folder: Path) -> FolderIds:
    stat = folder.stat()
    return frozenset({(stat.st_dev, stat.st_ino)})


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in HIDDEN_NAMES


def _has_image_suffix(path: Path) -> bool:
    """Whether the name says so; a broken link counts, a pipe or device must not be opened."""
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return False
    return path.is_file() or (path.is_symlink() and not path.exists())
