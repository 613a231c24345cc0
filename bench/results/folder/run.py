"""A run in memory, read from the files of its folder alone."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.errors import BenchError, SuiteError, command_without_secrets, nearest
from bench.results.folder.checks import (
    JSON_CHECKSUM,
    curves_problem,
    data_problem,
    environment_problem,
    json_checksum,
    plain_json,
    predictions_problem,
    read_text,
    task_problem,
    trials_problem,
)
from bench.results.folder.children import read_child_predictions, read_children
from bench.results.folder.columns import TABLES, TableName
from bench.results.folder.decisions import with_decisions
from bench.results.folder.lock import other_writer
from bench.results.folder.parts import PLANNED_KEY, RunStore
from bench.results.folder.planned import read_planned
from bench.results.folder.remote import RemoteFolder
from bench.results.folder.tables import TEST, VAL, of_split, read_table, to_frame
from bench.results.folder.test_curves import read_test_curves
from bench.results.metric import Metric, read_metrics
from bench.suite.schema import TargetTaskName
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

    `going` says, for a run that goes on while it is read, which process does it. `predictions` are
    those on the test split, `val_predictions` those on the validation split that each trial chose
    by; runs of earlier versions have none of them. Where samples have several labels, both have a
    column `decided_NAME` for each: whether its probability reaches the trial's threshold.
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
    going: str | None = None

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
        found = of_split(read_child_predictions(self.folder, self.children), TEST)
        return with_decisions(found, self.children.assign(trial=self.children["child"]))

    @cached_property
    def test_curves(self) -> pd.DataFrame:
        """What the test split said of every epoch, where the suite has `diagnose: test_curve`."""
        return read_test_curves(self.folder, self.trials)

    @property
    def groups_count(self) -> bool:
        """Whether a group of test images, such as a patient, counts as one sample.

        Runs of earlier versions with groups were judged image by image, and still are.
        """
        return bool(self.data.get("groups_count", False))

    @cached_property
    def judged(self) -> pd.DataFrame:
        """The test predictions by which claims are made: with groups only where these count."""
        if self.groups_count or "group" not in self.predictions:
            return self.predictions
        return self.predictions.drop(columns="group")

    @property
    def target_task(self) -> TargetTaskName:
        """What the suite predicts: classes, numbers, or several labels a sample."""
        told: TargetTaskName | None = self.data.get("task")
        return told or "classification"

    @property
    def metric(self) -> Metric:
        """The metric that chose the epochs, by which configs are compared."""
        return self.metrics[0]

    def images(self, split: str) -> int:
        """How many a split has, of folds that of the first one; 0 if it is not known."""
        return sum(self.data.get("counts", {}).get(split, {}).values())


def read_run(place: str | Path) -> Run:
    """Read a run folder; raises `BenchError` if it is none, or a file is missing or damaged.

    A folder at a URL is read through its mirror, which becomes the run's `folder`. The folder may
    come from others: the result has the types and ranges that `bench` writes. `trials` has a column
    `fold`, all null if the suite has no folds. If the run is still going, or was killed before its
    tables were written, the tables contain the trials that have ended.
    """
    import pandas as pd

    folder = Path(os.path.expanduser(place))
    if is_url(place):
        remote = RemoteFolder(str(place))
        remote.pull(parts=False)
        folder = remote.folder
        if not (folder / "trials.parquet").is_file():
            raise BenchError(f"a run folder must hold trials.parquet, {place} does not")
    _check_run_folder(folder)
    going = other_writer(folder)
    tables, num_trials = _tables(folder, going)
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
    other = task_problem(data, predictions)
    if other is not None:
        raise _damaged(folder / "data.json", other)
    lacking = _lacking(read_metrics(data), trials)
    if lacking is not None:
        raise _damaged(folder / "data.json", f"trials.parquet has no column of {lacking}")
    predictions = with_decisions(predictions, trials)
    primary, *_ = read_metrics(data)
    if primary.name not in curves:  # of trials that trained nothing
        curves[primary.name] = math.nan
    return Run(
        folder=folder,
        trials=trials,
        curves=curves,
        predictions=of_split(predictions, TEST),
        val_predictions=of_split(predictions, VAL),
        environment=_without_secrets(
            _read_mapping(folder / "environment.json", plain_json, check=environment_problem)
        ),
        data=data,
        suite=_read_mapping(folder / "suite.yaml", lambda text: parse_yaml(text).data),
        num_trials=num_trials,
        going=going,
    )


def _tables(folder: Path, going: str | None) -> tuple[dict[TableName, pa.Table], int]:
    """The tables, and how many trials there are to be."""
    parts = RunStore(folder)
    if parts.parts.is_dir() and (going is not None or not (folder / "trials.parquet").is_file()):
        planned = read_planned(folder)
        gathered = parts.gathered(planned)
        found = gathered["trials"].num_rows
        if not found:
            raise BenchError(_nothing_yet(folder, going))
        return gathered, found if planned is None else len(planned)
    if going is not None and not (folder / "trials.parquet").is_file():
        raise BenchError(_nothing_yet(folder, going))
    tables = {name: read_table(folder / f"{name}.parquet", name, mend=_MEND) for name in TABLES}
    return tables, _planned(tables["trials"], folder)


def _nothing_yet(folder: Path, going: str | None) -> str:
    if going is None:
        return f"no trial has ended yet in {folder}; {_MEND}"
    return f"the run in {folder} is still going ({going}), no trial has ended yet; try again later"


def _lacking(metrics: Sequence[Metric], trials: pd.DataFrame) -> str | None:
    """A metric that is said to have been measured, and has not."""
    primary = metrics[0]
    wanted = {primary.last_val: primary, primary.last_test: primary}
    wanted |= {column: metric for metric in metrics for column in (metric.val, metric.test)}
    return next((metric.name for column, metric in wanted.items() if column not in trials), None)


def _without_secrets(content: Any) -> Any:
    """Folders of earlier versions may hold them, in the command above all."""
    if isinstance(content, Mapping):
        return {key: _without_secrets(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_secrets(value) for value in content]
    return command_without_secrets(content) if isinstance(content, str) else content


def _planned(trials: pa.Table, folder: Path) -> int:
    written = trials.schema.metadata.get(PLANNED_KEY, b"%d" % trials.num_rows)
    if not re.fullmatch(rb"[0-9]{1,15}", written):
        problem = f"the number of planned trials must be digits, got {written[:40]!r}"
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


def write_checked_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as `write_json` does, with a checksum that whoever reads it looks at."""
    write_json(path, {**content, JSON_CHECKSUM: json_checksum(content)})


Described = Literal["accounts.json", "data.json", "environment.json"]


def is_whole(folder: Path, name: Described) -> bool:
    """Whether the file is there, and whoever reads a run would take it."""
    checks = {"data.json": data_problem, "environment.json": environment_problem}
    try:
        _read_mapping(folder / name, plain_json, check=checks.get(name, lambda _: None))
    except BenchError:
        return False
    return True


def _check_run_folder(folder: Path) -> None:
    if (folder / "trials.parquet").is_file() or (folder / "parts").is_dir():
        return
    if other_writer(folder) is not None:
        return
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
