"""From a folder of images to a suite file that is checked before it appears."""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from bench.data.images.files import existing_folder
from bench.errors import BenchError, DataError
from bench.runs.catalogue import catalogue
from bench.runs.init.choose import choose
from bench.runs.init.comments import quoted
from bench.runs.init.examine import examine
from bench.runs.init.suite_text import suite_text, summary
from bench.suite import expand, load_suite
from bench.system.cache import atomic_file
from bench.system.download import OnProgress


@dataclass(frozen=True, kw_only=True)
class WrittenSuite:
    """Where the suite was written, and what was found and chosen, in a few lines of plain text."""

    path: Path
    summary: str


def write_suite(
    folder: str | Path,
    output: str | Path | None = None,
    *,
    force: bool = False,
    progress: OnProgress | None = None,
) -> WrittenSuite:
    """Look at `folder` and write a commented suite to `output` (default: the folder's name).

    All images are decoded into the cache on the way, where the later run finds them. Raises
    `DataError` for a folder that is missing or unusable, `BenchError` if `output` exists (unless
    `force`) or cannot be written.
    """
    place = folder if os.path.exists(folder) else os.path.expanduser(folder)
    folder = existing_folder(os.path.abspath(place))
    _check_encoding(folder)
    path = Path(output or f"{safe_name(folder.name)}.yaml")
    _check_output(path, folder, force=force)
    found = examine(folder, progress=progress)
    chosen = choose(found)
    name = safe_name(path.stem)
    text = suite_text(
        found, chosen, path=path, name=name, dataset=dataset_path(folder, path.parent)
    )
    _publish(text, path, name=name, folder=folder, num_trials=chosen.num_trials, force=force)
    return WrittenSuite(path=path, summary=summary(found, chosen, path=path))


def safe_name(name: str) -> str:
    """`name` as letters, digits, '.', '_' and '-', fit for a file and a suite on any system."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")[:60] or "images"


def dataset_path(folder: Path, suite_folder: Path) -> str:
    """How a suite in `suite_folder` names `folder`: relative if they share more than the root."""
    absolute = Path(os.path.abspath(folder))
    for here, there in (
        (Path(os.path.abspath(suite_folder)), absolute),
        (suite_folder.resolve(), absolute.resolve()),
    ):
        relative = _relative(there, here)
        # Behind a symbolic link, .. leads elsewhere.
        if relative is not None and (here / relative).resolve() == absolute.resolve():
            return relative
    return absolute.as_posix()


def _relative(there: Path, here: Path) -> str | None:
    try:
        common = Path(os.path.commonpath([there, here]))
    except ValueError:  # other drives
        return None
    relative = Path(os.path.relpath(there, here)).as_posix()
    # A leading ~ would be taken for a home folder.
    return None if common == Path(common.anchor) or relative.startswith("~") else relative


def _check_encoding(folder: Path) -> None:
    path = str(folder.resolve())
    try:
        path.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise DataError(
            f"a suite can only name a folder whose path is UTF-8, got {shown}; rename it"
        ) from None


def _check_output(path: Path, folder: Path, *, force: bool) -> None:
    if not path.parent.is_dir():
        raise BenchError(
            f"there is no folder {path.parent} to write {path.name} to; create it, or name another "
            "file with --output"
        )
    if path.is_dir():
        raise BenchError(f"--output must name a file, got the folder {path}")
    if path.parent.resolve().is_relative_to(folder.resolve()):
        raise BenchError(
            f"the suite must lie outside the images, got {path} in {folder}: the results of a run "
            "there would pass for a class; go to another folder, or name a file with --output"
        )
    _refuse_existing(path, force=force)


def _refuse_existing(path: Path, *, force: bool) -> None:
    if os.path.lexists(path) and not force:
        raise BenchError(
            f"{path} exists already; name another file with --output, or replace it with --force"
        )


def _publish(
    text: str, path: Path, *, name: str, folder: Path, num_trials: int, force: bool
) -> None:
    """Check the suite in a temporary file beside `path`, then rename that."""
    try:
        with atomic_file(path, ours=False) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
            names = catalogue()
            loaded = load_suite(temporary, names, [f"name={quoted(name)}"])
            assert Path(loaded.suite.dataset.options["path"]) == folder.resolve()
            assert len(expand(loaded, names)) == num_trials
            _refuse_existing(path, force=force)
    except OSError as error:
        raise BenchError(f"cannot write {path}: {error.strerror or error}") from error
