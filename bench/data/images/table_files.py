"""The files that a table names: on a disk or in an archive, as their paths are written there.

Tables often name files without a suffix, or with the separators of another system. What is meant is
looked for, and told.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path

from bench.data.archives import Archive, StoredFile, is_archive, open_archive
from bench.data.dataset import DataIssue
from bench.data.files import archive_issues, existing_file, existing_folder
from bench.errors import DataError
from bench.system.visible_text import visible


def _one_of(names: Sequence[str], written: str, where: str) -> str | None:
    """The only file that a name without suffix means."""
    if len(names) > 1:
        raise DataError(
            f"{visible(written)} ({where}) may be {' or '.join(sorted(names))}; write the "
            "suffix into the table"
        )
    return names[0] if names else None


def _by_stem(names: Iterable[str], suffixes: Container[str]) -> dict[str, list[str]]:
    """The names of images by what they are without their suffix."""
    found: dict[str, list[str]] = {}
    for name in names:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in suffixes:
            found.setdefault(stem, []).append(name)
    return found


class FilesOfFolder:
    """Files of a disk, seen from the folder `base`."""

    issues: Sequence[DataIssue] = ()

    def __init__(self, base: Path, suffixes: Container[str]) -> None:
        self.base = base
        self._suffixes = suffixes
        self._known: dict[Path, dict[str, list[str]]] = {}

    def find(self, written: str, where: str) -> tuple[StoredFile | None, bool]:
        """The file that is meant, and whether it is called as it is written there (`where`)."""
        place = Path(os.path.normpath(self.base / os.path.expanduser(written)))
        if os.path.isfile(place):
            return place, True
        if "\\" in written:
            other = Path(str(place).replace("\\", "/"))
            if os.path.isfile(other):
                return other, False
        if place.suffix.lower() in self._suffixes:
            return None, False
        name = _one_of(self._names(place.parent).get(place.name, []), written, where)
        return None if name is None else place.parent / name, False

    def _names(self, folder: Path) -> dict[str, list[str]]:
        """Each folder is listed once."""
        if folder not in self._known:
            try:
                names = [entry.name for entry in os.scandir(folder)]
            except (OSError, ValueError):
                names = []
            self._known[folder] = _by_stem(names, self._suffixes)
        return self._known[folder]

    def root(self, found: Iterable[StoredFile]) -> Path:
        """What sample ids are relative to: the base, or what lies above all files."""
        files = [file for file in found if isinstance(file, Path)]
        if all(self.base in file.parents for file in files):
            return self.base
        # Wherever the table lies, so that it may be moved.
        return Path(os.path.commonpath([file.parent for file in files]))


class FilesOfArchive:
    """Files of an archive."""

    def __init__(self, archive: Archive, suffixes: Container[str]) -> None:
        self.base = archive.path
        self.issues = archive_issues(archive)
        self._archive = archive
        self._names = _by_stem(archive.members, suffixes)

    def find(self, written: str, where: str) -> tuple[StoredFile | None, bool]:
        """The file that is meant, and whether it is called as it is written there (`where`)."""
        name = posixpath.normpath(written.replace("\\", "/"))
        members, top = self._archive.members, f"{self._archive.top}/"
        name = name if name in members or top == "/" else name.removeprefix(top)
        if name in members:
            return members[name], "\\" not in written
        completed = _one_of(self._names.get(name, []), written, where)
        return None if completed is None else members[completed], False

    def root(self, found: Iterable[StoredFile]) -> Path:
        """What sample ids are relative to."""
        return self.base


Files = FilesOfFolder | FilesOfArchive


def files_from(
    tables: Iterable[Path], root: str | None, suffixes: Container[str]
) -> Mapping[Path, Files]:
    """The files that each table may name: from its folder on, or from `root`."""
    if root is None:
        return {path: FilesOfFolder(path.parent, suffixes) for path in tables}
    packed = is_archive(root) and not Path(root).expanduser().is_dir()
    one: Files = (
        FilesOfArchive(open_archive(existing_file(root)), suffixes)
        if packed
        else FilesOfFolder(existing_folder(root), suffixes)
    )
    return dict.fromkeys(tables, one)
