"""Files that samples are made of: found in folders and archives, and called by their names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.data.archives import Archive, Member, StoredFile
from bench.data.dataset import DataIssue
from bench.errors import DataError, counted, nearest
from bench.suite.schema import WHERE_PATHS_START
from bench.system.visible_text import reading, visible

SYSTEM_NAMES = frozenset({
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini", "icon\r",
    "__macosx", "network trash folder", "temporary items",  # macOS
    "$recycle.bin", "recycler", "recycled", "system volume information", "found.000",  # Windows
    "lost+found", "__pycache__", "_gsdata_",
    "@eadir", "@tmp", "@sharebin", "@recycle", "@recently-snapshot", "@__thumb",  # network drives
    "#recycle", "#snapshot", "~snapshot",
})  # fmt: skip
"""What systems put beside files, in lower case; as hidden as what begins with a dot."""

FolderIds = frozenset[tuple[int, int]]
"""(device, inode) of a folder and of those above it: a link back to one of them is a loop."""


@dataclass(frozen=True, kw_only=True)
class SampleFiles:
    """Which files of a folder are samples, and what messages call one (`noun`).

    `why_none` says why a file is not taken, or None; `by_suffix` is what it says of other suffixes,
    and `kind` that of the issue which tells of such files.
    """

    noun: str
    is_one: Callable[[Path], bool]
    why_none: Callable[[Path], str | None]
    by_suffix: str
    kind: str

    def below(self, folder: Path, above: FolderIds) -> bool:
        """Whether any of the files below is one; looks no further than to the first one."""
        return any(self.is_one(path) for path in files_below(folder, above))


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
    raise _nowhere(root, "folder", os.DirEntry.is_dir)


def existing_file(path: str) -> Path:
    """The absolute path of a regular file; `DataError` with the nearest name if there is none."""
    file = Path(path).expanduser().absolute()
    if file.is_file():
        return file
    if file.exists():
        raise DataError(f"path must be a file, got {file}")
    raise _nowhere(file, "file", os.DirEntry.is_file)


def _nowhere(path: Path, kind: str, alike: Callable[[os.DirEntry[str]], bool]) -> DataError:
    """That there is no such file or folder, with the nearest name of its kind."""
    if not path.parent.is_dir():
        place = f"; {path.parent} does not exist either"
    else:
        siblings = [entry.name for entry in os.scandir(path.parent) if alike(entry)]
        place = nearest(path.name, siblings)
    return DataError(f"there is no {kind} {path}{place} ({WHERE_PATHS_START})")


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


def sample_id(root: Path, path: StoredFile) -> str:
    """The path below `root`, with / on every platform and Unicode whatever its encoding."""
    if isinstance(path, Member):
        return name_text(path.id)
    return name_text(path.relative_to(root).as_posix())


def name_text(name: str) -> str:
    """A file name as Unicode: bytes that are not UTF-8 stand there as `\\xe9`.

    Neither parquet nor JSON nor a terminal takes what Python puts in their place.
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")
