"""A run in memory, read from the files of its folder alone."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError, SuiteError, nearest
from bench.results.folder.checks import (
    curves_problem,
    data_problem,
    environment_problem,
    plain_json,
    predictions_problem,
    read_text,
    trials_problem,
)
from bench.results.folder.children import read_child_predictions, read_children
from bench.results.folder.columns import TABLES
from bench.results.folder.parts import PLANNED_KEY
from bench.results.folder.remote import RemoteFolder
from bench.results.folder.tables import TEST, VAL, of_split, read_table, to_frame
from bench.results.metric import Metric, read_metrics
from bench.suite.yaml_file import parse_yaml
from bench.system.cache import atomic_file
from bench.system.object_store import is_url

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_MEND = "run the suite again with the same arguments: finished trials are kept, files are rebuilt"


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A run folder's content. `num_trials` are those of the suite, whether they have run or not.

    `predictions` are those on the test split, `val_predictions` those on the validation split that
    each trial chose by; runs of earlier versions have none of them.
    """

    folder: Path
    trials: pd.DataFrame
    curves: pd.DataFrame
    predictions: pd.DataFrame
    val_predictions: pd.DataFrame
    environment: Mapping[str, Any]
    data: Mapping[str, Any]
    suite: Mapping[str, Any]
    num_trials: int

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """What was measured; the first one chose the epochs."""
        return read_metrics(self.data)

    @cached_property
    def children(self) -> pd.DataFrame:
        """What the finished trials were made into without training, a row each."""
        return read_children(self.folder)

    @cached_property
    def child_predictions(self) -> pd.DataFrame:
        """The test predictions of the children, whose ids stand in the column `trial`."""
        return of_split(read_child_predictions(self.folder, self.children), TEST)

    @property
    def metric(self) -> Metric:
        """The metric that chose the epochs, by which configs are compared."""
        return self.metrics[0]

    def images(self, split: str) -> int:
        """How many a split has, of folds that of the first one; 0 if it is not known."""
        return sum(self.data.get("counts", {}).get(split, {}).values())


def read_run(place: str | Path) -> Run:
    """Read a run folder; raises `BenchError` if it is none, or a file is missing or damaged.

    A folder at a URL is read through its mirror, which becomes the run's `folder`. It may be
    another's: what it returns has the types and ranges that `bench` writes. `trials` has a column
    `fold`, all null where the suite has no folds.
    """
    import pandas as pd

    folder = Path(place)
    if is_url(place):
        remote = RemoteFolder(str(place))
        remote.pull(parts=False)
        folder = remote.folder
        if not (folder / "trials.parquet").is_file():
            raise BenchError(f"a run folder must hold trials.parquet, {place} does not")
    _check_run_folder(folder)
    tables = {name: read_table(folder / f"{name}.parquet", name, mend=_MEND) for name in TABLES}
    trials, curves, predictions = map(to_frame, tables.values())
    if "fold" not in trials:
        trials["fold"] = pd.array([None] * len(trials), dtype="Int64")
    for name, problem in (
        ("trials", trials_problem(trials)),
        ("curves", curves_problem(curves, trials)),
        ("predictions", predictions_problem(predictions, trials)),
    ):
        if problem is not None:
            raise _damaged(folder / f"{name}.parquet", problem)
    data = _read_mapping(folder / "data.json", plain_json, check=data_problem)
    lacking = _lacking(read_metrics(data), trials)
    if lacking is not None:
        raise _damaged(folder / "data.json", f"trials.parquet has no column of {lacking}")
    primary, *_ = read_metrics(data)
    if primary.name not in curves:  # of trials that trained nothing
        curves[primary.name] = math.nan
    return Run(
        folder=folder,
        trials=trials,
        curves=curves,
        predictions=of_split(predictions, TEST),
        val_predictions=of_split(predictions, VAL),
        environment=_read_mapping(
            folder / "environment.json", plain_json, check=environment_problem
        ),
        data=data,
        suite=_read_mapping(folder / "suite.yaml", lambda text: parse_yaml(text).data),
        num_trials=_planned(tables["trials"], folder),
    )


def _lacking(metrics: Sequence[Metric], trials: pd.DataFrame) -> str | None:
    """A metric that is said to have been measured, and has not."""
    primary = metrics[0]
    wanted = {primary.last_val: primary, primary.last_test: primary}
    wanted |= {column: metric for metric in metrics for column in (metric.val, metric.test)}
    return next((metric.name for column, metric in wanted.items() if column not in trials), None)


def _planned(trials: pa.Table, folder: Path) -> int:
    written = trials.schema.metadata.get(PLANNED_KEY, b"%d" % trials.num_rows)
    if not re.fullmatch(rb"[0-9]{1,15}", written):
        problem = f"the number of planned trials must be one, got {written[:40]!r}"
        raise _damaged(folder / "trials.parquet", problem)
    return int(written)


def _damaged(path: Path, problem: str) -> BenchError:
    return BenchError(f"{path} is damaged ({problem}); {_MEND}")


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON, atomically; NaN and infinity are refused, as JSON has neither."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_file(path) as temporary:
        # A command line may name files in bytes that are no UTF-8: JSON has an escape for them.
        temporary.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


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


def _read_mapping(
    path: Path,
    parse: Callable[[str], Any],
    *,
    check: Callable[[Any], str | None] = lambda _: None,
) -> Mapping[str, Any]:
    try:
        content = parse(read_text(path))
    except FileNotFoundError:
        raise BenchError(f"{path} is missing; {_MEND}") from None
    except (OSError, ValueError, SuiteError) as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(content, Mapping):
        raise _damaged(path, "it must hold a mapping")
    problem = check(content)
    if problem is not None:
        raise _damaged(path, problem)
    return content
