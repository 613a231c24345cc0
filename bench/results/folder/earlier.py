"""Results of an earlier suite in a run folder: kept as run folders of their own in `earlier/`.

A run folder has the tables and the report of one suite. Where another suite of the same name, or
the same one with other `--set`, takes the folder over, what was there stays readable.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.keys import content_hash
from bench.results.folder.advice import FILE as ADVICE
from bench.results.folder.outliers import FILE as OUTLIERS
from bench.results.folder.tables import read_table
from bench.results.folder.texts import FILE as TEXTS
from bench.results.folder.transfer_scores import FILE as TRANSFER_SCORES
from bench.system.cache import flush_to_disk

FOLDER = "earlier"
_KEPT = (
    "trials.parquet", "curves.parquet", "test_curves.parquet", "predictions.parquet",
    "children.parquet", "child_predictions.parquet", "suite.yaml", "environment.json",
    "data.json", "accounts.json", "looks.json", "verdict.json", "thumbnails.parquet",
    "inputs.parquet", "report.md", "report.html", "tuned.yaml", "tuning.parquet", "tuning.json",
    "untuned.parquet", "untuned_predictions.parquet", "plots", "audit", "split_check", ADVICE,
    OUTLIERS, TEXTS, TRANSFER_SCORES,
)  # fmt: skip
"""What a reader of the run needs. Checkpoints stay where they are, by the ids of their trials."""

_NOT_RENEWED = ("audit", ADVICE, OUTLIERS, TRANSFER_SCORES)
"""What a run does not write again, or not always: in the folder of another suite it would be taken
for its own."""


def complete_others(folder: Path, trials: Collection[str]) -> list[Mapping[str, Any]]:
    """The rows of complete trials in the folder's table that are not among `trials`."""
    wanted = set(trials)
    return [
        row
        for row in _rows(folder)
        if row["status"] == "complete" and str(row["trial"]) not in wanted
    ]


def earlier_folder(folder: Path) -> Path:
    """Where what is in the folder now is kept: the same trials have the same place."""
    ids = sorted(str(row["trial"]) for row in _rows(folder) if row["status"] == "complete")
    return folder / FOLDER / content_hash(ids)[:8]


def keep_earlier(folder: Path) -> Path:
    """Copy the tables and the report as they are now; returns the folder that has them.

    An audit, advice and transfer scores are moved there: they are of the earlier suite.
    """
    place = earlier_folder(folder)
    partial = place.with_name(f".{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in _KEPT:
        moved = name in _NOT_RENEWED and not (folder / name).exists()  # when it was kept before
        source = (place if moved else folder) / name
        if source.is_dir():
            shutil.copytree(source, partial / name)
        elif source.is_file():
            shutil.copyfile(source, partial / name)
            flush_to_disk(partial / name)
    shutil.rmtree(place, ignore_errors=True)
    os.replace(partial, place)
    for name in _NOT_RENEWED:
        _remove(folder / name)
    return place


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _rows(folder: Path) -> list[dict[str, Any]]:
    """Those of `trials.parquet`; none where there is no whole one."""
    try:
        rows: list[dict[str, Any]] = read_table(
            folder / "trials.parquet", "trials", mend=""
        ).to_pylist()
    except BenchError:
        return []
    return rows
