"""Files in class folders, with or without folders of splits above them: the samples of a data set.

`layout` says which folders are what. Folders inside a class folder are searched too, each once.
Symbolic links are followed, but for those to pipes and devices: such a file might never end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from bench.data.archives import is_archive, open_archive
from bench.data.dataset import (
    SPLIT_NAMES,
    SPLIT_NOTE,
    TEST,
    TRAIN,
    UNASSIGNED,
    UNLABELLED,
    DataIssue,
    naming,
    val_as_test_issue,
)
from bench.data.files import (
    SampleFiles,
    archive_issues,
    existing_file,
    existing_folder,
    files_below,
    files_in,
    folder_ids,
    name_text,
    reading_errors_told,
    sample_id,
    subfolders,
)
from bench.data.layout import Layout, find_layout, split_of_name, target_test_folders
from bench.data.samples import LabelledFile
from bench.errors import DataError, counted
from bench.system.visible_text import reading


@dataclass(frozen=True, kw_only=True)
class ClassFolders:
    """The samples in class folders of `root`, a folder or an archive, and what is to be told."""

    root: Path
    name: str
    files: tuple[LabelledFile, ...]
    issues: tuple[DataIssue, ...]


Found: TypeAlias = tuple[list[LabelledFile], list[DataIssue]]
"""The samples below a folder, and what is to be told."""


def open_class_folders(
    path: str, splits: Mapping[Any, Any] | None, samples: SampleFiles
) -> ClassFolders:
    """The samples of a folder, or of an archive of one, which is read where it lies.

    Raises `DataError` if there is none, if it is not laid out so or can be read in two ways, and if
    a class has no sample in one of the splits.
    """
    return _opened(path, lambda root: _read_folder(root, splits, samples))


def open_target_folder(path: str, classes: Sequence[str], samples: SampleFiles) -> ClassFolders:
    """All samples of a folder, or an archive, of target data, in whatever folders they lie.

    Those of a test split have one of `classes`, that of their folder; all others are without
    labels, and of the first class, which means nothing. Raises `DataError` where it cannot be known
    what is tested.
    """
    return _opened(path, lambda root: _read_target(root, classes, samples))


def _opened(path: str, read: Callable[[Path], Found]) -> ClassFolders:
    packed = is_archive(path) and not Path(path).expanduser().is_dir()
    root = existing_file(path) if packed else existing_folder(path)
    with reading_errors_told(root):
        if packed:
            return _open_archive(root, read)
        files, issues = read(root)
        return ClassFolders(
            root=root, name=name_text(root.name), files=tuple(files), issues=tuple(issues)
        )


def _open_archive(path: Path, read: Callable[[Path], Found]) -> ClassFolders:
    """The archive as if it were unpacked: names alone say what is a split and what a class."""
    archive = open_archive(path)
    with archive.skeleton() as root:
        try:
            found, issues = read(root)
        except DataError as error:
            raise DataError(str(error).replace(str(root), str(path))) from error
        files = tuple(
            replace(file, path=archive.members[Path(str(file.path)).relative_to(root).as_posix()])
            for file in found
        )
    return ClassFolders(
        root=path,
        name=name_text(path.name.partition(".")[0]),
        files=files,
        issues=(*issues, *archive_issues(archive)),
    )


def _read_folder(root: Path, splits: Mapping[Any, Any] | None, samples: SampleFiles) -> Found:
    layout = find_layout(root, splits, samples=samples)
    files, others = _files(root, layout, samples)
    _check_classes(root, layout, samples, files, others)
    return files, [
        *_taken(layout),
        *_left_out(root, layout, samples, others),
        *val_as_test_issue(np.array([each.split for each in layout.class_folders], np.int8)),
    ]


def _read_target(root: Path, classes: Sequence[str], samples: SampleFiles) -> Found:
    spelling = {reading(name): name for name in classes}
    tested = {each.path: spelling[reading(each.name)]
              for each in target_test_folders(root, spelling, samples=samples)}  # fmt: skip
    files, others = [], []
    for path in files_below(root, frozenset()):
        name = next((tested[parent] for parent in path.parents if parent in tested), None)
        if (why := samples.why_none(path)) is not None:
            others.append((path, why))
        elif name is not None:
            files.append(LabelledFile(path=path, class_name=name, split=TEST))
        else:
            files.append(LabelledFile(path=path, class_name=classes[0], split=UNLABELLED))
    if not files:
        raise DataError(f"{root} holds no {samples.noun}s")
    return files, [*_reasons(root, samples, others)]


def _files(
    root: Path, layout: Layout, samples: SampleFiles
) -> tuple[list[LabelledFile], list[tuple[Path, str]]]:
    """The samples, and the other files in class folders with the reason why they are none.

    A class has the name that its folder has in the first split.
    """
    above = folder_ids(root)
    for parent in {parent for parents in layout.parents.values() for parent in parents}:
        above |= folder_ids(parent)
    names: dict[str, str] = {}
    found, others = [], []
    for folder in layout.class_folders:
        name = names.setdefault(reading(folder.name), folder.name)
        for path in files_below(folder.path, above - folder_ids(folder.path)):
            why = samples.why_none(path)
            if why is None:
                file = LabelledFile(
                    path=path, class_name=name, split=folder.split, test_set=folder.test_set
                )
                found.append(file)
            else:
                others.append((path, why))
    return found, others


def _check_classes(
    root: Path,
    layout: Layout,
    samples: SampleFiles,
    files: Sequence[LabelledFile],
    others: Sequence[tuple[Path, str]],
) -> None:
    filled = {(file.split, reading(file.class_name)) for file in files}
    classes = {reading(each.name): each.name for each in reversed(layout.class_folders)}
    empty = [
        f"class {name!r} has no {samples.noun}{_in_split(split)} ({where})"
        f"{_instead(where, samples, others)}"
        for split in layout.parents
        for key, name in sorted(classes.items())
        if (split, key) not in filled
        for where in [_place(layout, split, key, name)]
    ]
    if empty:
        hint = _splits_inside(layout)
        raise DataError(f"every class needs {samples.noun}s in every split: {naming(empty)}{hint}")
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
    """Where the samples of a class are, or should be, in a split."""
    own = [each for each in layout.class_folders if reading(each.name) == key]
    for folder in own:
        if folder.split == split:
            return folder.path
    inside_classes = len(layout.parents.get(TRAIN, ())) > 1
    return own[0].path.parent if inside_classes else layout.parents[split][0] / name


def _instead(folder: Path, samples: SampleFiles, others: Sequence[tuple[Path, str]]) -> str:
    """What is in a folder that has no sample, and why it is none."""
    inside = [(path, why) for path, why in others if folder in path.parents]
    reasons = Counter(why for _, why in inside)
    suffixes = naming(sorted({path.suffix for path, why in inside if why == samples.by_suffix}))
    told = [
        f"{counted(count, 'file')}: {why}{f' ({suffixes})' if why == samples.by_suffix else ''}"
        for why, count in reasons.most_common()
    ]
    return f", but {'; '.join(told)}" if told else ""


def _in_split(split: int) -> str:
    return "" if split == UNASSIGNED else f" in the {SPLIT_NAMES[split]} split"


def _taken(layout: Layout) -> Iterator[DataIssue]:
    if layout.taken is not None:
        yield DataIssue(kind=SPLIT_NOTE, message=layout.taken, count=len(layout.parents))


def _left_out(
    root: Path, layout: Layout, samples: SampleFiles, others: Sequence[tuple[Path, str]]
) -> Iterator[DataIssue]:
    """What is beside the samples of the classes, and why it is left out."""
    yield from _reasons(root, samples, others)
    parents = {root, *(parent for parents in layout.parents.values() for parent in parents)}
    strays = [path for where in parents for path in files_in(where) if samples.is_one(path)]
    unlabelled = [
        path
        for where in layout.unlabelled
        for path in files_below(where, folder_ids(root))
        if samples.is_one(path)
    ]
    placeholders = [
        path
        for each in layout.class_folders
        for path in each.path.iterdir()
        if path.name.startswith(".") and path.suffix == ".icloud"
    ]
    reasons = [
        ("placeholder", placeholders, "file", "still in iCloud; download them"),
        ("outside-classes", strays, samples.noun, "outside the class folders"),
        ("unlabelled", unlabelled, samples.noun, _why_unlabelled(root, layout)),
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


def _reasons(
    root: Path, samples: SampleFiles, others: Sequence[tuple[Path, str]]
) -> Iterator[DataIssue]:
    """Files that are no samples, by why."""
    by_reason: dict[str, list[Path]] = {}
    for path, why in others:
        by_reason.setdefault(why, []).append(path)
    for why, paths in by_reason.items():
        yield _left_out_issue(root, samples.kind, "file", why, paths)


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
