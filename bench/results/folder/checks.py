"""What the files of a run must hold before anything is made of them: they may be another's.

Whoever reads a run builds on these facts. They are what `bench` writes, and no more than that.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from bench.errors import BenchError, bounded
from bench.results.folder.columns import (
    CHILD_COLUMNS,
    CHOSEN,
    COLUMNS,
    FINITE,
    LABEL_FREE,
    LABEL_PREFIX,
    METRICS,
    OPTIONAL_COLUMNS,
    PREDICTED_PREFIX,
    PROBABILITY_PREFIX,
    ROUNDED_FRACTION,
    TARGET_PREFIX,
    TASK_METRICS,
    THRESHOLDS,
    TUNING_COLUMNS,
    Kind,
    TableName,
    metric_of,
    optional_columns,
    output_names,
    target_task_of,
)
from bench.suite.grid import MAX_TRIALS
from bench.suite.rules import METRIC_NAME

if TYPE_CHECKING:
    import pandas as pd

MAX_METRICS = 100
MAX_USERS = 10_000
"""Backbones with their weights, of a run."""
MAX_CHANNELS = 12
STATUSES = ("complete", "failed", "skipped", "pruned")
MAX_FILE_BYTES = 1 << 26
MAX_LEVELS = 50
TRIAL_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
MAX_SETTINGS = 100
"""Names of settings in a whole run: each may become an axis, with a figure of its own."""
_SETTING = re.compile("[A-Za-z_][A-Za-z0-9_]{0,40}")
"""Names of settings become those of axes, and of files."""
_NEEDED = (
    "dataset", "backbone", "weights", "head", "strategy", "schedule", "augmentation", "seed",
    "epochs", "batch_size", "optimizer", "lr",
)  # fmt: skip
"""What every row of `trials` says, whatever became of the trial."""


def trials_problem(trials: pd.DataFrame) -> str | None:
    """What is wrong with the table of trials, if anything is."""
    return next(_of_trials(trials), None)


def curves_problem(curves: pd.DataFrame, trials: pd.DataFrame) -> str | None:
    """What is wrong with the curves of these trials."""
    return next(_of_curves(curves, trials, ("train", "val")), None)


def test_curves_problem(curves: pd.DataFrame, trials: pd.DataFrame) -> str | None:
    """What is wrong with the curves that the test split left of these trials."""
    return next(_of_curves(curves, trials, ("test",)), None)


def predictions_problem(predictions: pd.DataFrame, trials: pd.DataFrame) -> str | None:
    """What is wrong with the predictions of these trials."""
    return next(_of_predictions(predictions, trials), None)


def children_problem(children: pd.DataFrame) -> str | None:
    """What is wrong with the table of children."""
    return next(_of_children(children), None)


def tuning_problem(rows: pd.DataFrame, description: Any) -> str | None:
    """What is wrong with the table of a search, or with its description."""
    found = next(_out_of_range(rows, TUNING_COLUMNS), None) or next(
        _nulls(rows, ("study", "number")), None
    )
    return found or _misfit(_Search, description)


def data_problem(content: Any) -> str | None:
    """What is wrong with the content of `data.json`."""
    return _misfit(_Data, content)


def task_problem(data: Mapping[str, Any], predictions: pd.DataFrame) -> str | None:
    """Whether `data.json` says another task, or other outputs, than the predictions are of."""
    if predictions.empty:
        return None
    told, found = data.get("task") or "classification", target_task_of(predictions)
    if told != found:
        return f"it says task: {told}, and predictions.parquet is of {found}"
    names = output_names(predictions)
    if told != "classification" and list(data.get("classes", ())) != names:
        return f"its classes must be those of predictions.parquet: {bounded(', '.join(names), 200)}"
    return None


def input_problem(content: Any) -> str | None:
    """What is wrong with an entry of `inputs` in `data.json`."""
    return _misfit(_Input, content)


def environment_problem(content: Any) -> str | None:
    """What is wrong with the content of `environment.json`."""
    return _misfit(_Environment, content)


def _of_trials(trials: pd.DataFrame) -> Iterator[str]:
    if len(trials) > MAX_TRIALS:
        yield f"a run has at most {MAX_TRIALS:,} trials, got {len(trials):,}"
    yield from _nulls(trials, _NEEDED)
    optional = optional_columns("trials", trials.columns)
    kinds = {name: OPTIONAL_COLUMNS["trials"][name] for name in optional}
    yield from _out_of_range(trials, {**_kinds("trials", trials), **kinds})
    for name in trials["trial"]:
        if not TRIAL_ID.fullmatch(name):
            yield f"a trial must have an id of letters and digits, got {bounded(repr(name), 100)}"
    yield from _repeated(trials, ["trial"])
    for status in trials["status"].unique():
        if status not in STATUSES:
            yield f"status must be among {', '.join(STATUSES)}, got {bounded(repr(status), 100)}"
    names: set[str] = set()
    for text in trials["settings"].dropna().unique():
        try:
            settings = plain_json(text)
        except ValueError as error:
            yield f"settings must be JSON, got {bounded(repr(text), 100)} ({error})"
            return
        if not (isinstance(settings, dict) and all(map(_SETTING.fullmatch, settings))):
            yield f"settings must map names of settings, got {bounded(repr(text), 100)}"
        names.update(settings)
    if len(names) > MAX_SETTINGS:
        yield f"a run has at most {MAX_SETTINGS} settings, got {len(names):,}"
    for column, model in _JSON_COLUMNS.items():
        for text in trials[column].dropna().unique() if column in trials else ():
            if _misfit_of_text(TypeAdapter(model), text) is not None:
                yield f"{column} must be {_JSON_FORMS[column]}, got {bounded(repr(text), 100)}"
    for name in ("started", "finished"):
        if _beyond(trials[name].dt.year, 1970, 9998):
            yield f"the column {name} must hold times in the years 1970 to 9998"


def _of_curves(curves: pd.DataFrame, trials: pd.DataFrame, splits: Sequence[str]) -> Iterator[str]:
    yield from _strangers(curves, trials)
    yield from _out_of_range(curves, _kinds("curves", curves))
    if not set(curves["split"].unique()) <= set(splits):
        yield f"split must be {' or '.join(splits)}"
    yield from _repeated(curves, ["trial", "epoch", "split"])


def _of_predictions(predictions: pd.DataFrame, trials: pd.DataFrame) -> Iterator[str]:
    yield from _strangers(predictions, trials)
    yield from _repeated(predictions, ["trial", "sample"])
    if not set(predictions["split"].unique()) <= {"test", "val"}:
        yield "split must be test or val"
    names = output_names(predictions)
    match target_task_of(predictions):
        case "classification":
            yield from _of_classes(predictions, names)
        case "regression":
            yield from _of_targets(predictions, names)
        case "multi_label":
            yield from _of_labels(predictions, names)


def _of_classes(predictions: pd.DataFrame, names: Sequence[str]) -> Iterator[str]:
    classes = set(names)
    for name in ("label", "predicted"):
        unknown = [value for value in predictions[name].unique() if value not in classes]
        if unknown:
            shown = bounded(repr(unknown[0]), 100)
            yield f"{name} must be a class with a column of probabilities, got {shown}"
    yield from _of_probabilities(predictions, names)


def _of_probabilities(predictions: pd.DataFrame, names: Sequence[str]) -> Iterator[str]:
    for name in (PROBABILITY_PREFIX + each for each in names):
        if _beyond(predictions[name], ROUNDED_FRACTION.low, ROUNDED_FRACTION.high):
            yield f"{bounded(repr(name), 100)} must lie in [0, 1]"


def _of_targets(predictions: pd.DataFrame, names: Sequence[str]) -> Iterator[str]:
    yield from _unpaired(predictions, names, PREDICTED_PREFIX)
    for name in (TARGET_PREFIX + each for each in names):
        if predictions[name].isna().any() or _beyond(predictions[name], FINITE.low, FINITE.high):
            yield f"{bounded(repr(name), 100)} must be a number in every row"
    for name in (PREDICTED_PREFIX + each for each in names):
        if _beyond(predictions[name], FINITE.low, FINITE.high):
            yield f"{bounded(repr(name), 100)} must be finite or not known"


def _of_labels(predictions: pd.DataFrame, names: Sequence[str]) -> Iterator[str]:
    yield from _unpaired(predictions, names, LABEL_PREFIX)
    for name in (LABEL_PREFIX + each for each in names):
        if not predictions[name].isin((0, 1)).all():
            yield f"{bounded(repr(name), 100)} must be 0 or 1 in every row"
    yield from _of_probabilities(predictions, names)


def _unpaired(predictions: pd.DataFrame, names: Sequence[str], prefix: str) -> Iterator[str]:
    """Of each name there must be a second column, in the same order."""
    columns = map(str, predictions)
    others = [name.removeprefix(prefix) for name in columns if name.startswith(prefix)]
    if others != list(names):
        yield (
            f"the columns {prefix}… must be of {bounded(', '.join(names), 100)}, got those of "
            f"{bounded(', '.join(others), 100)}"
        )


def _of_children(children: pd.DataFrame) -> Iterator[str]:
    yield from _nulls(children, ("child", "name", "of", "status"))
    yield from _out_of_range(children, {**CHILD_COLUMNS, **_further_metrics(children)})
    for text in children[THRESHOLDS].dropna().unique() if THRESHOLDS in children else ():
        if _misfit_of_text(TypeAdapter(_JSON_COLUMNS[THRESHOLDS]), text) is not None:
            yield f"{THRESHOLDS} must be {_JSON_FORMS[THRESHOLDS]}, got {bounded(repr(text), 100)}"
    yield from _repeated(children, ["child"])
    for child in children["child"]:
        if not TRIAL_ID.fullmatch(child):
            yield f"a child must have an id of letters and digits, got {bounded(repr(child), 100)}"
    if not set(children["status"].unique()) <= {"complete", "skipped"}:
        yield "status must be complete or skipped"
    for column, model in (("members", dict[str, int]), ("chosen", dict[str, float])):
        for text in children[column].dropna().unique():
            problem = _misfit_of_text(TypeAdapter(model), text)
            if problem is not None:
                yield f"{column} must map names to numbers, got {bounded(repr(text), 100)}"


def _further_metrics(children: pd.DataFrame) -> Mapping[str, Kind]:
    known = (*CHILD_COLUMNS, THRESHOLDS)
    return {name: FINITE for name in map(str, children) if name not in known}


def _misfit_of_text(adapter: TypeAdapter[Any], text: str) -> str | None:
    try:
        adapter.validate_json(text, strict=True)
    except ValidationError as error:
        return str(error)
    return None


def _strangers(rows: pd.DataFrame, trials: pd.DataFrame) -> Iterator[str]:
    unknown = set(rows["trial"].unique()) - set(trials["trial"])
    if unknown:
        yield f"the trial {bounded(repr(min(unknown)), 100)} is not in trials.parquet"


def _repeated(rows: pd.DataFrame, columns: list[str]) -> Iterator[str]:
    if rows.duplicated(columns).any():
        yield f"two rows have the same {' and '.join(columns)}"


def _nulls(rows: pd.DataFrame, columns: tuple[str, ...]) -> Iterator[str]:
    for name in columns:
        if rows[name].isna().any():
            yield f"the column {name} must have a value in every row"


_RANGES = {**METRICS, **TASK_METRICS}


def _kinds(table: TableName, rows: pd.DataFrame) -> Mapping[str, Kind]:
    """The kinds of all columns, also of metrics that this version has no columns for."""
    further = {
        name: metric_of(table, name) for name in map(str, rows) if name not in COLUMNS[table]
    }
    return {
        **COLUMNS[table],
        **{name: _RANGES.get(metric or "", FINITE) for name, metric in further.items()},
    }


def _out_of_range(rows: pd.DataFrame, columns: Mapping[str, Kind]) -> Iterator[str]:
    for name, kind in columns.items():
        bounded_above = kind.high < inf and name in rows
        if bounded_above and _beyond(rows[name], kind.low, kind.high):
            yield f"the column {name} must lie in [{kind.low:g}, {kind.high:g}]"


def _beyond(column: pd.Series[Any], low: float, high: float) -> bool:
    return bool(((column < low) | (column > high)).any())


# Files of JSON --------------------------------------------------------------------------------


class _Lenient(BaseModel):
    """Knows what is read; what else there is stays as it is."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


_Amount = Annotated[int, Field(ge=0, le=10**15)]


class _Issue(_Lenient):
    kind: str
    message: str
    count: _Amount
    samples: list[str] = []


def _metric_name(text: str) -> str:
    if not METRIC_NAME.fullmatch(text):
        raise ValueError("it must be a name for columns")
    return text


class _Metric(_Lenient):
    name: Annotated[str, AfterValidator(_metric_name)]
    label: Annotated[str, Field(min_length=1, max_length=200)]
    higher_is_better: bool
    percent: bool


def _of_different_names(metrics: list[_Metric]) -> list[_Metric]:
    if len({metric.name for metric in metrics}) < len(metrics):
        raise ValueError("two metrics have the same name")
    return metrics


class _Input(_Lenient):
    used_by: Annotated[list[str], Field(max_length=MAX_USERS)]
    kind: Literal["image", "vector", "text"]
    size: Annotated[int, Field(ge=0, le=10**9)]
    resize: Literal["crop", "squash", "pad"] | None = None
    resized_to: _Amount | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = None
    mean: Annotated[list[float], Field(max_length=MAX_CHANNELS)] = []
    std: Annotated[list[float], Field(max_length=MAX_CHANNELS)] = []
    native_size: _Amount | None = None
    squares: bool = False
    channels: Annotated[int, Field(ge=1, le=MAX_CHANNELS)] | None = None
    deep: bool = False
    bits: Annotated[int, Field(ge=1, le=16)] = 16
    unknown: Annotated[list[str], Field(max_length=10)] = []


class _Data(_Lenient):
    task: Literal["regression", "multi_label"] | None = None
    classes: list[str] = []
    inputs: Annotated[list[_Input], Field(max_length=MAX_USERS)] | None = None
    counts: dict[str, dict[str, _Amount]] = {}
    positives: dict[str, dict[str, _Amount]] = {}
    folds: _Amount | None = None
    groups_count: bool = False
    tested_images: _Amount | None = None
    issues: list[_Issue] = []
    target_tested: bool | None = None
    metrics: Annotated[
        list[_Metric],
        Field(min_length=1, max_length=MAX_METRICS),
        AfterValidator(_of_different_names),
    ] = []


def _moment(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("a time must name its time zone")
    return text


class _Standardised(_Lenient):
    mean: list[float]
    sd: list[Annotated[float, Field(gt=0)]]


class _LabelFree(_Lenient):
    samples: _Amount
    values: dict[str, Annotated[float, Field(allow_inf_nan=False)]]


_Threshold = Annotated[float, Field(ge=0, le=1)]
_JSON_COLUMNS: Mapping[str, Any] = {
    "standardised": _Standardised,
    THRESHOLDS: list[_Threshold],
    CHOSEN: dict[str, float],
    LABEL_FREE: _LabelFree,
}
_JSON_FORMS = {
    "standardised": "JSON with the mean and the sd of each target",
    THRESHOLDS: "a JSON list of numbers in [0, 1]",
    CHOSEN: "JSON that maps names to numbers",
    LABEL_FREE: "JSON with the number of samples and values by name",
}
"""Columns of `trials` that hold JSON: what fits, and how it is called."""


class _Environment(_Lenient):
    command: str | list[str] | None = None
    started: Annotated[str, AfterValidator(_moment)] | None = None


class _Range(_Lenient):
    low: float
    high: float
    log: bool = False


class _Choices(_Lenient):
    choices: Annotated[list[str | bool | int | float | None], Field(min_length=1)]


class _Widened(_Lenient):
    limits: Annotated[list[bool], Field(min_length=2, max_length=2)] | None = None
    asked: _Choices | _Range | None = None


class _WidenedRange(_Range, _Widened):
    pass


class _WidenedChoices(_Choices, _Widened):
    pass


class _Study(_Lenient):
    space: dict[str, _WidenedChoices | _WidenedRange]
    best: int | None = None
    untuned_config: str | None = None
    tuned_config: str | None = None


class _Objective(_Lenient):
    name: Literal["val_metric", "val_accuracy", "val_loss", "seconds"]
    direction: Literal["maximize", "minimize"]


class _Search(_Lenient):
    objectives: Annotated[list[_Objective], Field(min_length=1, max_length=2)]
    sampler: str
    pruner: str
    widen: int | None = None
    seeds: list[int]
    budget: dict[str, float]
    studies: dict[str, _Study]


def _misfit(model: type[BaseModel], content: Any) -> str | None:
    try:
        TypeAdapter(model).validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        return f"{bounded(place, 100)}: {first['msg']}"
    return None


JSON_CHECKSUM = "crc32"
"""The last key of a file of JSON that nothing else could be made of; it is not part of what it
says. Files of earlier versions have none."""


def json_checksum(content: Any) -> int:
    """CRC-32 of what JSON keeps of `content`, however it is written."""
    return zlib.crc32(json.dumps(json.loads(json.dumps(content))).encode())


def _without_checksum(content: Any) -> Any:
    if not (isinstance(content, dict) and JSON_CHECKSUM in content):
        return content
    said = {key: value for key, value in content.items() if key != JSON_CHECKSUM}
    if content[JSON_CHECKSUM] != json_checksum(said):
        raise ValueError("it has changed since it was written: its checksum is wrong")
    return said


def plain_json(text: str) -> Any:
    """The content of a JSON text; raises `ValueError` if it is none, or is nested too deeply.

    Also if it has a checksum, which is left out, and another one than it should.
    """
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MAX_LEVELS} levels") from None
    _check_levels(content)
    return _without_checksum(content)


def _check_levels(content: Any) -> None:
    level = [content]
    for _ in range(MAX_LEVELS):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise ValueError(f"it is nested deeper than {MAX_LEVELS} levels")


def _inside(content: Any) -> list[Any]:
    if isinstance(content, dict):
        return list(content.values())
    return content if isinstance(content, list) else []


def read_text(path: Path) -> str:
    """A text file of bounded size; raises `OSError` or `ValueError`, never waits for a pipe."""
    if path.exists() and not path.is_file():
        raise ValueError("it must be a file")
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"it has more than {MAX_FILE_BYTES:,} bytes")
    return content.decode("utf-8")


def read_json(path: Path) -> Any:
    """The content of a JSON file; raises `BenchError` if it is missing or damaged."""
    try:
        return plain_json(read_text(path))
    except (OSError, ValueError) as error:
        raise BenchError(f"{path} is missing or damaged ({error})") from None
