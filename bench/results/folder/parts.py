"""Parts: what one trial left, written whole or not at all, and the tables made of them.

A part is a folder `parts/<trial>/` with `trials.parquet`, `curves.parquet`, `predictions.parquet`
and their checksums. It is written under another name, synced and renamed. One process writes to a
run folder at a time; any number may read.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError, path_named
from bench.results.folder.columns import TABLES, TableName
from bench.results.folder.tables import (
    NewerSchemaError,
    Rows,
    join_tables,
    merge_parquet,
    read_table,
    to_frame,
    to_table,
    write_parquet,
)
from bench.results.folder.test_curves import split_off_test, write_test_curves
from bench.system.cache import flush_to_disk
from bench.system.tensor_checksum import tensor_file_problem

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

CHECKSUMS = "checksums.json"
PLANNED_KEY = b"bench.planned_trials"
"""Metadata of `trials.parquet`: how many trials the suite has, so that an unfinished run shows."""

_MEND = "delete this part's folder and run the suite again: only this trial is trained again"


MOST_READ = 1 << 32
"""Bytes of checkpoints whose checksums are looked at; of what is beyond, the sizes alone."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """What one trial left: its row of `trials`, its curves and its predictions."""

    trial_row: Mapping[str, Any]
    curves: pd.DataFrame
    predictions: pd.DataFrame


class RunStore:
    """The one writer of a run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts = folder / "parts"

    def write_part(
        self, trial_row: Mapping[str, Any], curves: Rows = (), predictions: Rows = ()
    ) -> None:
        """Store what a trial left, in place of what an earlier attempt may have left.

        `curves` and `predictions` are columns or rows; `trial` is filled in; curves may have the
        metrics that the row has of the validation split, and rows of the test split, which come
        into a table apart. Whenever the process is killed, either the earlier part or this one is
        read afterwards, whole.
        """
        trial = str(trial_row["trial"])
        tables = {
            "trials": to_table("trials", [trial_row]),
            "curves": to_table("curves", curves, trial=trial),
            "predictions": to_table("predictions", predictions, trial=trial),
        }
        partial, final, aside = self._partial(trial), self.parts / trial, self._aside(trial)
        _remove(partial)
        with path_named(final):
            partial.mkdir(parents=True)
            for name, table in tables.items():
                write_parquet(table, partial / f"{name}.parquet")
            _write_checksums(partial)
            _sync_folder(partial)
        if final.exists():
            # No folder can be renamed onto another. Between the two renames the earlier part is
            # read from where it was set aside.
            _remove(aside)
            final.rename(aside)
        partial.rename(final)
        _sync_folder(self.parts)
        _remove(aside)

    def read_part(self, trial: str) -> Part:
        """What `trial` left; raises `BenchError` if its part is missing or damaged."""
        folder = self._find(trial)
        if folder is None:
            raise BenchError(f"{self.parts} has no part of trial {trial}; run the suite again")
        trials, curves, predictions = (_read(folder, name) for name in TABLES)
        return Part(
            trial_row=trials.to_pylist()[0],
            curves=to_frame(split_off_test(curves)[0]),
            predictions=to_frame(predictions),
        )

    def has_part(self, trial: str) -> bool:
        """Whether `trial` has left anything."""
        return self._find(trial) is not None

    def row(self, trial: str) -> Mapping[str, Any] | None:
        """The row of `trials` that `trial` has left; None if there is none.

        A damaged part counts as none: the trial is trained again and its part replaced. Raises
        `BenchError` for the part of a later version of bench, which is not to be replaced.
        """
        folder = self._find(trial)
        if folder is None:
            return None
        try:
            trials, *_ = [_read(folder, name) for name in TABLES]
        except NewerSchemaError:
            raise
        except BenchError:
            return None
        rows: list[Mapping[str, Any]] = trials.to_pylist()
        return rows[0] if len(rows) == 1 else None

    def completed(self, trial: str) -> bool:
        """Whether `trial` has a part of status `complete`, and it is whole."""
        row = self.row(trial)
        return row is not None and row["status"] == "complete"

    def consolidate(self, trial_ids: Sequence[str]) -> list[str]:
        """Write the tables of the run from the parts of these trials, in this order.

        Returns the trials that have no part. All of `trial_ids` count as planned. Raises
        `BenchError` if a part is damaged.
        """
        self._clean()
        folders = {trial: self._find(trial) for trial in trial_ids}
        tested: list[pa.Table] = []
        for table in TABLES:
            parts = (_read(folder, table) for folder in folders.values() if folder is not None)
            merge_parquet(
                table,
                _without_test(parts, tested) if table == "curves" else parts,
                self.folder / f"{table}.parquet",
                metadata={PLANNED_KEY: str(len(folders)).encode()},
            )
        write_test_curves(self.folder, tested)
        return [trial for trial, folder in folders.items() if folder is None]

    def gathered(self, trial_ids: Sequence[str] | None) -> dict[TableName, pa.Table]:
        """The three tables from the parts that are there now, in memory; nothing is written.

        In the order of `trial_ids`, or of all parts by name where that is None. Raises `BenchError`
        if a part is damaged.
        """
        if trial_ids is None:
            names = (path.name for path in self.parts.glob("[!.]*") if path.is_dir())
            trial_ids = sorted(names)
        found = (self._find(trial) for trial in trial_ids)
        folders = [folder for folder in found if folder is not None]
        tables = {
            name: join_tables(name, (_read(folder, name) for folder in folders), self.folder)
            for name in TABLES
        }
        return {**tables, "curves": split_off_test(tables["curves"])[0]}

    def _find(self, trial: str) -> Path | None:
        folders = (self.parts / trial, self._aside(trial))
        return next((folder for folder in folders if folder.is_dir()), None)

    def _partial(self, trial: str) -> Path:
        return self.parts / f".{trial}.partial"

    def _aside(self, trial: str) -> Path:
        return self.parts / f".{trial}.aside"

    def _clean(self) -> None:
        """Undo what a killed writer left half done."""
        for partial in self.parts.glob(".*.partial"):
            _remove(partial)
        for aside in self.parts.glob(".*.aside"):
            final = self.parts / aside.name.removeprefix(".").removesuffix(".aside")
            if final.exists():
                _remove(aside)
            else:
                aside.rename(final)


def damaged_checkpoints(folder: Path, trials: Iterable[str]) -> dict[str, str]:
    """What is wrong with the checkpoints of these trials in a run folder, by trial.

    Those that are not there are not damaged: whoever needed the disk may have removed them.
    """
    found, read = {}, 0
    for trial in trials:
        path = folder / "checkpoints" / f"{trial}.safetensors"
        if not path.exists():
            continue
        read += path.stat().st_size
        problem = tensor_file_problem(path, content=read <= MOST_READ)
        if problem is not None:
            found[trial] = problem
    return found


def _write_checksums(folder: Path) -> None:
    """Note what the files hold: parquet guards its pages, and not what it says of them."""
    sums = {name: _checksum(folder / f"{name}.parquet") for name in TABLES}
    path = folder / CHECKSUMS
    path.write_text(json.dumps(sums), encoding="ascii")
    flush_to_disk(path)


def _read(folder: Path, table: TableName) -> pa.Table:
    """One table of a part; raises `BenchError` if it is not what was written."""
    path, sums = folder / f"{table}.parquet", folder / CHECKSUMS
    try:
        # A part that an earlier version wrote has none.
        expected = json.loads(sums.read_text(encoding="ascii"))[table] if sums.exists() else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{sums} is damaged ({error}); {_MEND}") from None
    if expected is not None and path.is_file() and _checksum(path) != expected:
        raise BenchError(f"{path} is damaged (its checksum is wrong); {_MEND}")
    return read_table(path, table, mend=_MEND)


def _without_test(curves: Iterable[pa.Table], tested: list[pa.Table]) -> Iterator[pa.Table]:
    """The curves of parts but for the test split, which `tested` gets."""
    for table in curves:
        own, test = split_off_test(table)
        if len(test):
            tested.append(test)
        yield own


def _remove(path: Path) -> None:
    """Also a file, or a link, in the place of the folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _checksum(path: Path) -> int:
    return zlib.crc32(path.read_bytes())


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # has no way to sync a folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
