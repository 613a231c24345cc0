"""From a folder of images or texts to a suite file that is checked before it appears."""

from __future__ import annotations

import math
import os
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.data.archives import is_archive
from bench.data.files import existing_file, existing_folder
from bench.errors import BenchError, DataError
from bench.runs.catalogue import catalogue
from bench.runs.init.choose import ChosenGrid, choices
from bench.runs.init.choose_texts import choices_for_texts
from bench.runs.init.comments import quoted
from bench.runs.init.examine import Examined, examine
from bench.runs.init.fit import MINUTES, SecondsOf, fitting, timed
from bench.runs.init.suite_text import settings_text, suite_text, summary
from bench.suite import expand, load_suite, reader_of
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
    minutes: float = MINUTES,
    progress: OnProgress | None = None,
    status: Callable[[str], None] = lambda _: None,
) -> WrittenSuite:
    """Look at `folder`, an archive or a table of labels, and write a commented suite to `output`.

    The default of `output` is named after it.

    The suite is the one that shows most of those that this machine trains in about `minutes`.
    All samples are prepared in the cache on the way, where the later run finds them. Raises
    `DataError` for a folder that is missing or unusable, `BenchError` if `output` exists (unless
    `force`) or cannot be written.
    """
    place = folder if os.path.exists(folder) else os.path.expanduser(folder)
    there = os.path.abspath(place)
    folder = existing_file(there) if _is_file(there) else existing_folder(there)
    _check_encoding(folder)
    path = Path(os.path.expanduser(output or f"{safe_name(_plain_name(folder))}.yaml"))
    _check_output(path, folder, force=force)
    if not 0 < minutes < math.inf:
        raise BenchError(f"--minutes must be above 0, got {minutes:g}")
    found = examine(folder, progress=progress)
    name = safe_name(path.stem)
    status("timing a few batches on this machine")
    grids = choices_for_texts(found) if found.noun == "text" else choices(found)
    proposal = fitting(grids, _seconds_of(found, folder, path), minutes=minutes)
    text = suite_text(
        found, proposal, path=path, name=name, dataset=dataset_path(folder, path.parent)
    )
    num_trials = proposal.grid.num_trials
    _publish(text, path, name=name, folder=folder, num_trials=num_trials, force=force)
    return WrittenSuite(path=path, summary=summary(found, proposal, path=path))


def _seconds_of(found: Examined, folder: Path, path: Path) -> SecondsOf:
    def text_of(grid: ChosenGrid) -> str:
        # A name that no suite has: none of its trials is finished, wherever it lies.
        return settings_text(found, grid, name="proposed", dataset=folder.resolve().as_posix())

    return timed(text_of, path.parent / "no-such-folder")


def _is_file(path: str) -> bool:
    """Whether it is a table or an archive."""
    return reader_of(path) == "table" or (is_archive(path) and not os.path.isdir(path))


def _plain_name(path: Path) -> str:
    """The name of a folder, or of a file without its suffixes."""
    return path.name.partition(".")[0] if path.is_file() else path.name


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
            f"a suite can only name what has a path in UTF-8, got {shown}; rename it"
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
            f"the suite must lie outside the data, got {path} in {folder}: the results of a run "
            "there would be read as a class; go to another folder, or name a file with --output"
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
