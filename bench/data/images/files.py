"""Image sources made of image files under one folder."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from bench.data.dataset import (
    TEST,
    VAL,
    ClassMap,
    DataIssue,
    ImageDataset,
    PixelForm,
    fingerprint_of,
)
from bench.data.images.archives import Archive, ImageFile, Member, opened
from bench.data.images.channels import read_as, size_as
from bench.data.images.decode import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    is_image_by_content,
)
from bench.data.images.file_facts import Reading, find_reading
from bench.data.images.sizes import image_size, square_sides
from bench.data.targets import Targets, multi_label_targets, regression_targets
from bench.errors import DataError, counted, nearest
from bench.suite import Limits, TargetTaskName
from bench.suite.schema import WHERE_PATHS_START
from bench.system.download import OnProgress
from bench.system.visible_text import reading, visible

SYSTEM_NAMES = frozenset({
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini", "icon\r",
    "__macosx", "network trash folder", "temporary items",  # macOS
    "$recycle.bin", "recycler", "recycled", "system volume information", "found.000",  # Windows
    "lost+found", "__pycache__", "_gsdata_",
    "@eadir", "@tmp", "@sharebin", "@recycle", "@recently-snapshot", "@__thumb",  # network drives
    "#recycle", "#snapshot", "~snapshot",
})  # fmt: skip
"""What systems put beside images, in lower case; as hidden as what begins with a dot."""

T = TypeVar("T")

FolderIds = frozenset[tuple[int, int]]
"""(device, inode) of a folder and of those above it: a link back to one of them is a loop."""


@dataclass(frozen=True, kw_only=True)
class LabelledFile:
    """An image file, in an archive or not, the class it belongs to, and its split (or UNASSIGNED).

    `group`, `time` and `weight` (see `Groups`, `Times`, `SampleWeights`) are given to all files of
    a data set, or to none. `test_set` is the name of one of several test sets. Where no classes are
    predicted, `values` are the numbers of the file, or 1 for each label that it has and 0 for
    others.
    """

    path: ImageFile
    class_name: str
    split: int
    group: str | None = None
    time: int | None = None
    test_set: str = ""
    weight: float | None = None
    values: tuple[float, ...] | None = None


@contextmanager
def reading_errors_told(what: str | Path) -> Iterator[None]:
    """A system's error while `what` is read is a `DataError` that names the file."""
    try:
        yield
    except PermissionError as error:
        raise DataError(f"{error.filename} must be readable, but permission is denied") from error
    except OSError as error:  # a path that is too long, a disk that fails
        reason = error.strerror or str(error)
        raise DataError(f"cannot read {error.filename or what}: {reason}") from error


def existing_folder(path: str) -> Path:
    """The absolute path of a folder; `DataError` with the nearest name if there is none."""
    root = Path(path).expanduser().absolute()
    if root.is_dir():
        return root
    if (alike := _read_alike(root)) is not None:
        return alike
    if root.exists():
        raise DataError(f"path must be a folder, got the file {root}")
    if not root.parent.is_dir():
        raise DataError(
            f"there is no folder {root}; {root.parent} does not exist either ({WHERE_PATHS_START})"
        )
    siblings = [entry.name for entry in os.scandir(root.parent) if entry.is_dir()]
    hint = nearest(root.name, siblings)
    raise DataError(f"there is no folder {root}{hint} ({WHERE_PATHS_START})")


def existing_file(path: str) -> Path:
    """The absolute path of a regular file; `DataError` with the nearest name if there is none."""
    file = Path(path).expanduser().absolute()
    if file.is_file():
        return file
    if file.exists():
        raise DataError(f"path must be a file, got {file}")
    if not file.parent.is_dir():
        raise DataError(
            f"there is no file {file}; {file.parent} does not exist either ({WHERE_PATHS_START})"
        )
    siblings = [entry.name for entry in os.scandir(file.parent) if entry.is_file()]
    hint = nearest(file.name, siblings)
    raise DataError(f"there is no file {file}{hint} ({WHERE_PATHS_START})")


def _read_alike(path: Path) -> Path | None:
    """The only folder whose name reads as the last one of `path`, written in other characters."""
    try:
        entries = [Path(entry) for entry in os.scandir(path.parent) if entry.is_dir()]
    except OSError:
        return None
    alike = [entry for entry in entries if reading(entry.name) == reading(path.name)]
    return alike[0] if len(alike) == 1 else None


# Walking --------------------------------------------------------------------------------------


def subfolders(folder: Path, above: FolderIds = frozenset()) -> list[Path]:
    """The folders in `folder`, sorted, but for hidden ones and links back to one of `above`."""
    entries = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    return [entry for entry in entries if not _is_hidden(entry) and not folder_ids(entry) <= above]


def files_in(folder: Path) -> list[Path]:
    """What is in `folder` and is no folder, but for hidden files."""
    return [path for path in folder.iterdir() if not path.is_dir() and not _is_hidden(path)]


def files_below(folder: Path, above: FolderIds) -> Iterator[Path]:
    """All files below `folder`. Links that lead to one folder on many ways do not multiply it."""
    seen, waiting = set(above), [folder]
    while waiting:
        current = waiting.pop()
        if folder_ids(current) <= seen:
            continue
        seen |= folder_ids(current)
        yield from files_in(current)
        waiting += reversed(subfolders(current, frozenset(seen)))


def has_image_below(
    folder: Path, above: FolderIds, suffixes: Container[str] = IMAGE_SUFFIXES
) -> bool:
    """Whether any of the files below is an image; looks no further than to the first one."""
    return any(is_image(path, suffixes) for path in files_below(folder, above))


def is_image(path: Path, suffixes: Container[str] = IMAGE_SUFFIXES) -> bool:
    """Whether the name says so by one of `suffixes`, or without a suffix the content.

    A broken link counts, which is told when it is decoded; a pipe or device must not be opened.
    """
    if not path.suffix:
        return is_image_by_content(path)
    if path.suffix.lower() not in suffixes:
        return False
    return path.is_file() or (path.is_symlink() and not path.exists())


def folder_ids(folder: Path) -> FolderIds:
    """What knows the folder again by another name."""
    stat = folder.stat()
    return frozenset({(stat.st_dev, stat.st_ino)})


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in SYSTEM_NAMES


def archive_issues(archive: Archive) -> list[DataIssue]:
    """What is to be told of an archive that a data set is read from."""
    issues = []
    if archive.top:
        message = (
            f"All of {archive.path.name} lies in its folder {visible(archive.top)}, which is read."
        )
        issues.append(DataIssue(kind="archive", message=message, count=1))
    if archive.others:
        what = counted(archive.others, "entry", "entries")
        message = f"{what} of {archive.path.name} left out: links, and what is no file."
        issues.append(DataIssue(kind="archive", message=message, count=archive.others))
    return issues


# Data sets ------------------------------------------------------------------------------------


def sample_id(root: Path, path: ImageFile) -> str:
    """The path below `root`, with / on every platform and Unicode whatever its encoding."""
    if isinstance(path, Member):
        return name_text(path.id)
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
    labels, targets = _labels(task, ordered, classes)
    splits = np.array([file.split for file in ordered], np.int8)
    paths = [file.path for file in ordered]
    max_pixels = (limits or Limits()).pixels or MAX_PIXELS
    reading_of = partial(find_reading, root, paths, sample_ids, bits=bits, max_pixels=max_pixels,
                         channels=channels)  # fmt: skip
    found = reading_of(progress=progress)
    fingerprint = partial(fingerprint_of, classes=classes, sample_ids=sample_ids, labels=labels,
                          splits=splits, targets=targets)  # fmt: skip
    form = PixelForm(channels=channels, bits=found.bits, deep=found.deep)
    size_of = image_size if channels is None else partial(size_as, channels=channels)
    sides = square_sides(paths, size_of)
    times = _of_all([file.time for file in ordered])
    test_sets = tuple(file.test_set for file in ordered)
    weights = _of_all([file.weight for file in ordered])
    return ImageDataset(
        name=name,
        classes=classes,
        sample_ids=sample_ids,
        labels=labels,
        splits=splits,
        fingerprint=fingerprint(contents=found.contents),
        native_size=min(sides) if len(sides) == 1 else None,
        squares=bool(sides),
        channels=channels,
        bits=found.bits,
        deep=found.deep,
        read=partial(read_as, paths, form=form, max_pixels=max_pixels),
        class_map=class_map,
        issues=(*issues, *found.issues, *_strata_issue(targets, splits)),
        size_of=partial(_size_of, paths, size_of),
        source_of=partial(_source_of, paths),
        groups=_of_all([file.group for file in ordered]),
        times=None if times is None else np.array(times, np.int64),
        test_sets=test_sets if any(test_sets) else None,
        sample_weights=None if weights is None else np.array(weights, np.float64),
        targets=targets,
        current=partial(_current, fingerprint, reading_of),
        limited=partial(
            dataset_from_files, name=name, root=root, files=tuple(files), progress=progress,
            class_map=class_map, issues=tuple(issues), bits=bits, channels=channels,
            classes=classes, task=task,
        ),
    )  # fmt: skip


def _labels(
    task: TargetTaskName, files: Sequence[LabelledFile], classes: Sequence[str]
) -> tuple[npt.NDArray[np.int64], Targets | None]:
    """The class of every file; where it has values, its stratum, and these."""
    if task == "classification":
        class_index = {class_name: index for index, class_name in enumerate(classes)}
        return np.array([class_index[file.class_name] for file in files], np.int64), None
    values = np.array([file.values for file in files], np.float32)
    make = regression_targets if task == "regression" else multi_label_targets
    return make(values, classes)


def _strata_issue(targets: Targets | None, splits: npt.NDArray[np.int8]) -> Iterator[DataIssue]:
    """How splits are drawn evenly where there are no classes."""
    own = {TEST, VAL} <= set(splits.tolist())
    if targets is None or len(targets.strata) < 2 or own:
        return
    if targets.task == "regression":
        what = f"{len(targets.strata)} ranges of the target, each with about as many images"
    else:
        what = f"{len(targets.strata)} combinations of labels, rare ones taken together"
    message = f"Splits that are drawn have equal shares of {what}."
    yield DataIssue(kind="strata", message=message, count=len(targets.strata))


def _source_of(paths: Sequence[ImageFile], index: int) -> Path | io.BytesIO:
    return opened(paths[index])


def _size_of(
    paths: Sequence[ImageFile],
    size_of: Callable[[ImageFile], tuple[int, int] | None],
    index: int,
) -> tuple[int, int] | None:
    return size_of(paths[index])


def _of_all(values: Sequence[T | None]) -> tuple[T, ...] | None:
    """The values if none of them is None."""
    known = tuple(value for value in values if value is not None)
    return known if known and len(known) == len(values) else None


def _current(fingerprint: Callable[..., str], reading_of: Callable[[], Reading]) -> str:
    return fingerprint(contents=reading_of().contents)
