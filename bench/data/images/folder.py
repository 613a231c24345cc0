"""The data set `folder`: image files in class folders, the layout of torchvision's `ImageFolder`.

Either `ROOT/CLASS/*.jpg`, or `ROOT/train/CLASS/*.jpg` with folders of the other splits beside
`train` (`layout` says which names and structures are known). Folders inside a class folder are
searched too, each once. Symbolic links are followed, but for those to pipes and devices: such a
file might never end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from bench.data.dataset import (
    DATASETS,
    SPLIT_NAMES,
    SPLIT_NOTE,
    TRAIN,
    UNASSIGNED,
    DataIssue,
    ImageDataset,
    naming,
    val_as_test_issue,
)
from bench.data.images.archives import is_archive, open_archive
from bench.data.images.channels import ARRAY_SUFFIXES, ChannelNumber, suffixes_of
from bench.data.images.decode import missing_reader
from bench.data.images.files import (
    LabelledFile,
    archive_issues,
    dataset_from_files,
    existing_file,
    existing_folder,
    files_below,
    files_in,
    folder_ids,
    is_image,
    name_text,
    reading_errors_told,
    sample_id,
    subfolders,
)
from bench.data.images.layout import Layout, find_layout, split_of_name
from bench.errors import DataError, counted
from bench.system.download import OnProgress
from bench.system.visible_text import reading


@DATASETS.register("folder")
def folder(
    progress: OnProgress | None,
    /,
    *,
    path: Annotated[
        str,
        Field(
            description="The folder of images, or a zip or tar archive of one, which is read in "
            "place; a relative path starts at the suite's folder.",
            examples=["photos", "photos.zip"],
        ),
    ],
    splits: Annotated[
        dict[Literal["train", "val", "test"], str | dict[str, str]] | None,
        Field(
            description="The folder of each split, below `path`; `.` is `path` itself. Several "
            "test sets have a name each: `test: {clinic_a: FOLDER, clinic_b: FOLDER}`. `{}`: "
            "there are no split folders, each folder is a class. null: recognised by structure "
            "and names; a layout that can be read in two ways is refused.",
            examples=[{"train": "Training", "test": "Testing"}],
        ),
    ] = None,
    bits: Annotated[
        Annotated[int, Field(ge=8, le=16)] | None,
        Field(
            description="How many bits the values of 16-bit files really have: 2^bits − 1 is "
            "white. null: the smallest of 8, 10, 12, 14 and 16 that holds the largest value of "
            "all files.",
            examples=[12],
        ),
    ] = None,
    channels: ChannelNumber = None,
) -> ImageDataset:
    """Image files in class folders, with or without train, val and test folders above them.

    An archive is read where it lies. Raises `DataError` if the folder is missing, is not laid out
    so or can be read in two ways, and if a class has no image in one of the splits.
    """
    packed = is_archive(path) and not Path(path).expanduser().is_dir()
    root = existing_file(path) if packed else existing_folder(path)
    with reading_errors_told(root):
        if packed:
            return _open_archive(root, splits, bits, channels, progress)
        images, issues = _read_folder(root, splits, suffixes_of(channels))
        return _dataset(root, root.name, images, issues, bits, channels, progress)


def _open_archive(
    path: Path,
    splits: Mapping[Any, Any] | None,
    bits: int | None,
    channels: int | None,
    progress: OnProgress | None,
) -> ImageDataset:
    """The archive as if it were unpacked: names alone say what is a split and what a class."""
    archive = open_archive(path)
    with archive.skeleton() as root:
        try:
            images, issues = _read_folder(root, splits, suffixes_of(channels))
        except DataError as error:
            raise DataError(str(error).replace(str(root), str(path))) from error
        files = [
            replace(file, path=archive.members[Path(str(file.path)).relative_to(root).as_posix()])
            for file in images
        ]
    issues += archive_issues(archive)
    return _dataset(path, path.name.partition(".")[0], files, issues, bits, channels, progress)


def _dataset(
    root: Path,
    name: str,
    files: Sequence[LabelledFile],
    issues: Sequence[DataIssue],
    bits: int | None,
    channels: int | None,
    progress: OnProgress | None,
) -> ImageDataset:
    return dataset_from_files(
        name=name_text(name),
        root=root,
        files=files,
        bits=bits,
        channels=channels,
        progress=progress,
        issues=issues,
    )


def _read_folder(
    root: Path, splits: Mapping[Any, Any] | None, suffixes: Container[str]
) -> tuple[list[LabelledFile], list[DataIssue]]:
    """The images of a folder, and what is to be told of it."""
    layout = find_layout(root, splits, suffixes)
    images, others = _files(root, layout, suffixes)
    _check_classes(root, layout, images, others)
    return images, [
        *_taken(layout),
        *_left_out(root, layout, others, suffixes),
        *val_as_test_issue(np.array([each.split for each in layout.class_folders], np.int8)),
    ]


def _files(
    root: Path, layout: Layout, suffixes: Container[str]
) -> tuple[list[LabelledFile], list[tuple[Path, str]]]:
    """The images, and the other files in class folders with the reason why they are none.

    A class has the name that its folder has in the first split.
    """
    above = folder_ids(root)
    for parent in {parent for parents in layout.parents.values() for parent in parents}:
        above |= folder_ids(parent)
    names: dict[str, str] = {}
    images, others = [], []
    for folder in layout.class_folders:
        name = names.setdefault(reading(folder.name), folder.name)
        for path in files_below(folder.path, above - folder_ids(folder.path)):
            why = _why_no_image(path, suffixes)
            if why is None:
                file = LabelledFile(
                    path=path, class_name=name, split=folder.split, test_set=folder.test_set
                )
                images.append(file)
            else:
                others.append((path, why))
    return images, others


NO_IMAGE = "not an image by the suffix"
NO_CHANNELS = "arrays (.npy, .npz), read with `channels: N`"


def _why_no_image(path: Path, suffixes: Container[str]) -> str | None:
    if not is_image(path, suffixes):
        if path.suffix.lower() in ARRAY_SUFFIXES:
            return NO_CHANNELS
        return NO_IMAGE if path.suffix else "no suffix, and not an image by its first bytes"
    mend = missing_reader(path)
    return None if mend is None else f"this installation does not read {path.suffix} files; {mend}"


def _check_classes(
    root: Path,
    layout: Layout,
    images: Sequence[LabelledFile],
    others: Sequence[tuple[Path, str]],
) -> None:
    filled = {(image.split, reading(image.class_name)) for image in images}
    classes = {reading(each.name): each.name for each in reversed(layout.class_folders)}
    empty = [
        f"class {name!r} has no image{_in_split(split)} ({where}){_instead(where, others)}"
        for split in layout.parents
        for key, name in sorted(classes.items())
        if (split, key) not in filled
        for where in [_place(layout, split, key, name)]
    ]
    if empty:
        hint = _splits_inside(layout)
        raise DataError(f"every class needs images in every split: {naming(empty)}{hint}")
    if len(classes) < 2:
        (only,) = classes.values()
        raise DataError(
            f"a classification task needs at least two classes, {root} holds only {only!r}; "
            "path must be the folder that holds the class folders or the train folder"
            f"{_inner_path(root, layout)}"
        )


def _splits_inside(layout: Layout) -> str:
    """The first folder that was taken for a class and holds splits, as `images` beside `labels`."""
    for each in layout.class_folders:
        inner = subfolders(each.path, folder_ids(each.path))
        splits = [n for path in inner if split_of_name(n := name_text(path.name)) is not None]
        if splits:
            return f"; did you mean path: {each.path}, which holds {naming(splits)}?"
    return ""


def _inner_path(root: Path, layout: Layout) -> str:
    """The first folder below that has several folders in it, if each above it has just one."""
    folder, seen = layout.class_folders[0].path, folder_ids(root)
    while len(inner := subfolders(folder, seen)) == 1:
        seen |= folder_ids(folder)
        folder = inner[0]
    return f"; did you mean path: {folder}?" if inner else ""


def _place(layout: Layout, split: int, key: str, name: str) -> Path:
    """Where the images of a class are, or should be, in a split."""
    own = [each for each in layout.class_folders if reading(each.name) == key]
    for folder in own:
        if folder.split == split:
            return folder.path
    inside_classes = len(layout.parents.get(TRAIN, ())) > 1
    return own[0].path.parent if inside_classes else layout.parents[split][0] / name


def _instead(folder: Path, others: Sequence[tuple[Path, str]]) -> str:
    """What is in a folder that has no image, and why it is none."""
    inside = [(path, why) for path, why in others if folder in path.parents]
    reasons = Counter(why for _, why in inside)
    suffixes = naming(sorted({path.suffix for path, why in inside if why == NO_IMAGE}))
    told = [
        f"{counted(count, 'file')}: {why}{f' ({suffixes})' if why == NO_IMAGE else ''}"
        for why, count in reasons.most_common()
    ]
    return f", but {'; '.join(told)}" if told else ""


def _in_split(split: int) -> str:
    return "" if split == UNASSIGNED else f" in the {SPLIT_NAMES[split]} split"


def _taken(layout: Layout) -> Iterator[DataIssue]:
    if layout.taken is not None:
        yield DataIssue(kind=SPLIT_NOTE, message=layout.taken, count=len(layout.parents))


def _left_out(
    root: Path, layout: Layout, others: Sequence[tuple[Path, str]], suffixes: Container[str]
) -> Iterator[DataIssue]:
    """What is beside the images of the classes, and why it is left out."""
    by_reason: dict[str, list[Path]] = {}
    for path, why in others:
        by_reason.setdefault(why, []).append(path)
    for why, paths in by_reason.items():
        yield _left_out_issue(root, "not-an-image", "file", why, paths)
    parents = {root, *(parent for parents in layout.parents.values() for parent in parents)}
    strays = [path for where in parents for path in files_in(where) if is_image(path, suffixes)]
    unlabelled = [
        path
        for where in layout.unlabelled
        for path in files_below(where, folder_ids(root))
        if is_image(path, suffixes)
    ]
    placeholders = [
        path
        for each in layout.class_folders
        for path in each.path.iterdir()
        if path.name.startswith(".") and path.suffix == ".icloud"
    ]
    reasons = [
        ("placeholder", placeholders, "file", "still in iCloud; download them"),
        ("outside-classes", strays, "image", "outside the class folders"),
        ("unlabelled", unlabelled, "image", _why_unlabelled(root, layout)),
        (
            "ignored-folder",
            layout.unused,
            "folder",
            "beside the split folders, and not one of them",
        ),
    ]
    for kind, found, noun, reason in reasons:
        if found:
            yield _left_out_issue(root, kind, noun, reason, found)


def _why_unlabelled(root: Path, layout: Layout) -> str:
    folders = naming([sample_id(root, path) for path in layout.unlabelled])
    return f"without labels, in {folders}"


def _left_out_issue(
    root: Path, kind: str, noun: str, reason: str, paths: Sequence[Path]
) -> DataIssue:
    names = sorted(sample_id(root, path) for path in paths)
    return DataIssue(
        kind=kind,
        message=f"{counted(len(names), noun)} left out ({reason}): {naming(names)}.",
        count=len(names),
        samples=tuple(names[:5]),
    )
