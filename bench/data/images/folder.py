"""The data set `folder`: image files in class folders, the layout of torchvision's `ImageFolder`.

Either `ROOT/CLASS/*.jpg`, or `ROOT/train/CLASS/*.jpg` with folders of the other splits beside
`train` (`layout` says which names and structures are known).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from bench.data.class_folders import ClassFolders, open_class_folders, open_target_folder
from bench.data.dataset import DATASETS, ImageDataset
from bench.data.files import reading_errors_told
from bench.data.images.channels import ChannelNumber, suffixes_of
from bench.data.images.files import dataset_from_files, image_files
from bench.system.download import OnProgress


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
    found = open_class_folders(path, splits, image_files(suffixes_of(channels)))
    return _of_files(found, progress, bits=bits, channels=channels)


def target_folder(
    progress: OnProgress | None, classes: Sequence[str], /, **options: Any
) -> ImageDataset:
    """All image files of a folder of target data, with labels in the test split alone.

    `options` are those of `folder` without `splits`, `classes` those of the data set that trains.
    Raises `DataError` as `open_target_folder` does.
    """
    bits, channels = options["bits"], options["channels"]
    found = open_target_folder(options["path"], classes, image_files(suffixes_of(channels)))
    return _of_files(found, progress, classes, bits=bits, channels=channels)


def _of_files(
    found: ClassFolders,
    progress: OnProgress | None,
    classes: Sequence[str] | None = None,
    *,
    bits: int | None,
    channels: int | None,
) -> ImageDataset:
    with reading_errors_told(found.root):
        return dataset_from_files(
            name=found.name,
            root=found.root,
            files=found.files,
            classes=classes,
            bits=bits,
            channels=channels,
            progress=progress,
            issues=found.issues,
        )
