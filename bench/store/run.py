"""A run in memory, read from the files of its folder alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cache import atomic_file
from bench.errors import BenchError, SuiteError, nearest
from bench.store.parts import PLANNED_KEY
from bench.store.tables import TABLES, read_table, to_frame
from bench.suite.yaml_source import parse_yaml

if TYPE_CHECKING:
    import pandas as pd

_MEND = "run the suite again with the same arguments: finished trials are kept, files are rebuilt"


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A run folder's content. `planned` counts the suite's trials, whether they have run or not."""

    folder: Path
    trials: pd.DataFrame
    curves: pd.DataFrame
    predictions: pd.DataFrame
    environment: Mapping[str, Any]
    data: Mapping[str, Any]
    suite: Mapping[str, Any]
    planned: int


def read_run(folder: Path) -> Run:
    """Read a run folder; raises `BenchError` if it is none, or a file is missing or damaged."""
    _check_run_folder(folder)
    trials, curves, predictions = (
        read_table(folder / f"{name}.parquet", name, mend=_MEND) for name in TABLES
    )
    return Run(
        folder=folder,
        trials=to_frame(trials),
        curves=to_frame(curves),
        predictions=to_frame(predictions),
        environment=_read_mapping(folder / "environment.json", json.loads),
        data=_read_mapping(folder / "data.json", json.loads),
        suite=_read_mapping(folder / "suite.yaml", lambda text: parse_yaml(text).data),
        planned=int(trials.schema.metadata.get(PLANNED_KEY, trials.num_rows)),
    )


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON, atomically; NaN and infinity are refused, as JSON has neither."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _check_run_folder(folder: Path) -> None:
    if (folder / "trials.parquet").is_file():
        return
    if (folder / "parts").is_dir():
        raise BenchError(f"{folder} has parts of trials, but no trials.parquet yet; {_MEND}")
    if folder.is_dir():
        inside = ", ".join(_run_folders(folder))
        hint = f"; the run folders in it: {inside}" if inside else ""
        raise BenchError(f"a run folder must hold trials.parquet, {folder} does not{hint}")
    hint = nearest(folder.name, _run_folders(folder.parent))
    raise BenchError(f"a run folder must exist, got {str(folder)!r}{hint}")


def _run_folders(parent: Path) -> list[str]:
    return sorted(path.parent.name for path in parent.glob("*/trials.parquet"))


def _read_mapping(path: Path, parse: Callable[[str], Any]) -> Mapping[str, Any]:
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BenchError(f"{path} is missing; {_MEND}") from None
    except (OSError, ValueError, SuiteError) as error:
        raise BenchError(f"{path} is damaged ({error}); {_MEND}") from None
    if not isinstance(content, Mapping):
        raise BenchError(f"{path} is damaged (it must hold a mapping); {_MEND}")
    return content
