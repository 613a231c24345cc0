"""`bench audit`: what is likely wrong with the data of a run, from the files of its folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from bench.errors import BenchError, counted, system_errors_told
from bench.results.analysis.audit import Audited, Suspect, find_suspects, to_picture
from bench.results.folder import push_run, read_run, read_thumbnails, refuse_links
from bench.results.plots import MAX_SUSPECTS, numbered_names, suspects_sheet, why_undrawn
from bench.results.plots.canvas import save
from bench.results.plots.fonts import standing_in
from bench.results.report.audit import (
    FOLDER,
    HEADER,
    SHEET,
    audit_blocks,
    sentences,
    table,
    write_audit,
)
from bench.results.report.notebook import html
from bench.system.cache import atomic_file
from bench.system.object_store import is_url

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

SUITE_NAMES = (".yaml", ".yml")


@dataclass(frozen=True, kw_only=True, eq=False)
class Audit:
    """What an audit has found, and the files that say so; a notebook shows it.

    `failed` counts the trials of an audit run that could not be trained.
    """

    folder: Path
    found: Audited
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    failed: int = 0

    @property
    def suspects(self) -> tuple[Suspect, ...]:
        """The samples to look at, the worst label errors first."""
        return self.found.suspects

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was looked at and what was found, in words."""
        return tuple(sentences(self.found))

    @property
    def table(self) -> pd.DataFrame:
        """The suspects as `audit.csv` has them."""
        import pandas as pd

        return pd.DataFrame(table(self.suspects, self.found.words).rows, columns=list(HEADER))

    @property
    def sheet(self) -> Path | None:
        """The contact sheet, if there is one."""
        return next((path for path in self.files if path.name == SHEET), None)

    def _repr_html_(self) -> str:
        return html(audit_blocks(self.found, self.sheet), folder=self.folder)


def is_run(what: Any) -> TypeGuard[str | Path]:
    """Whether `what` names a run folder, and is no suite: a suite is a file, text or a mapping."""
    if not isinstance(what, str | Path):
        return False
    text = os.path.expanduser(what)
    if is_url(what) or os.path.isdir(text):
        return True
    suite = "\n" in text or ": " in text or text.lower().endswith(SUITE_NAMES)
    return not suite and not os.path.isfile(text)


@system_errors_told()
def audit_run(place: str | Path, *, failed: int = 0) -> Audit:
    """Audit the run at `place`, and write table, JSON and contact sheet into its folder `audit`.

    Raises `BenchError` as `read_run` and `find_suspects` do, and for a run that is still going.
    """
    run = read_run(place)
    if run.going is not None:
        raise BenchError(f"the run in {place} is still going ({run.going}); audit it when it ends")
    found = find_suspects(run)
    refuse_links(run.folder)
    files, notes = write_audit(run.folder, found)
    pictures = read_thumbnails(run.folder)
    shown = {each.sample for each in to_picture(found.suspects, MAX_SUSPECTS)}
    without = shown - set(pictures)
    if without and found.words.kind == "image":
        notes.append(
            f"{counted(len(without), 'image')} missing in the contact sheet: the run folder has no "
            "small copy of them"
        )
    try:
        with standing_in(numbered_names(run)):
            files += _draw(run.folder / FOLDER / SHEET, found, pictures)
    except Exception as error:
        (run.folder / FOLDER / SHEET).unlink(missing_ok=True)  # that of an earlier audit
        notes.append(f"{FOLDER}/{SHEET} could not be drawn ({why_undrawn(error)})")
    push_run(place)
    return Audit(
        folder=run.folder, found=found, files=tuple(files), notes=tuple(notes), failed=failed
    )


def _draw(sheet: Path, found: Audited, pictures: Mapping[str, np.ndarray]) -> list[Path]:
    """The contact sheet, of what there are pictures of; that of an earlier audit goes."""
    figure = suspects_sheet(found.suspects, pictures)
    if figure is None:
        sheet.unlink(missing_ok=True)
        return []
    with atomic_file(sheet) as temporary:
        save(figure, temporary)
    return [sheet]
