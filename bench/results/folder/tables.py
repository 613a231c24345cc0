"""The three tables of a run: how they are read and written.

Their columns are of plain types, so any reader of parquet opens them with nothing of `bench`
installed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from bench.errors import BenchError
from bench.results.folder.columns import (
    COLUMNS,
    FIRST_SPLITS,
    LABEL_PREFIX,
    NEVER_NULL,
    OPTIONAL_COLUMNS,
    PREDICTED_PREFIX,
    PROBABILITY_PREFIX,
    TARGET_PREFIX,
    TableName,
    came_later,
    fixed_columns,
    further_columns,
    optional_columns,
)
from bench.suite.schema import TargetTaskName
from bench.system.cache import atomic_file, flush_to_disk

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

SCHEMA_VERSION = 3
FIRST_VERSION = b"1"
"""It knew no metric but accuracy."""

TEST, VAL = "test", "val"
"""The splits that predictions are of."""

MAX_TABLE_BYTES = 1 << 32
SMALL_TABLE_BYTES = 1 << 28
MOST_TIMES_LARGER = 200
"""A table may take `SMALL_TABLE_BYTES` of memory, and more if its file is no more than so many
times smaller: probabilities, which tables are made of, can hardly be compressed."""
MAX_TEXT = 100_000
"""Characters of a cell. A few bytes of parquet can stand for any number of cells and characters."""

TRIAL_COLUMNS = tuple(COLUMNS["trials"])
"""The columns of `trials.parquet`, in order."""

VERSION_KEY = b"bench.schema_version"
# Parts are gathered up to this many rows and written as one row group: memory stays small, and a
# run of thousands of trials is still quick to read.
_ROWS_PER_GROUP = 131_072


@runtime_checkable
class Columns(Protocol):
    """Anything with named columns: a mapping of sequences, a data frame."""

    def keys(self) -> Iterable[str]: ...

    def __getitem__(self, name: str, /) -> Any: ...


Rows = Columns | Iterable[Mapping[str, Any]]
"""A table as columns or as rows."""


def arrow_types() -> dict[str, pa.DataType]:
    """The types of all columns, by the names that they have in this package."""
    import pyarrow as pa

    return {
        "string": pa.string(),
        "int64": pa.int64(),
        "float64": pa.float64(),
        "timestamp": pa.timestamp("us", tz="UTC"),
    }


def table_schema(table: TableName, further: Sequence[str] = ()) -> pa.Schema:
    """The schema of a table with `further` columns: optional ones, outputs, or metrics."""
    import pyarrow as pa

    types = arrow_types()
    fields = [
        pa.field(name, types[kind.type], nullable=name not in NEVER_NULL)
        for name, kind in fixed_columns(table, further).items()
    ]
    kinds = {**OPTIONAL_COLUMNS.get(table, {}), **further_columns(table, further)}
    fields += [pa.field(name, types[kinds[name].type]) for name in further]
    return pa.schema(fields, metadata={VERSION_KEY: str(SCHEMA_VERSION).encode()})


def prediction_columns(
    *,
    samples: Sequence[str],
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    split: str = TEST,
    groups: Sequence[str] | None = None,
    test_sets: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The columns of a trial's predictions on one split, all but `trial`.

    `labels` are class indices [n]; `probabilities` is [n, number of classes]; `groups` and
    `test_sets` [n] are those of the samples, if they have any.
    """
    return {
        **_of_samples(samples, split, groups, test_sets),
        "label": [classes[index] for index in labels],
        "predicted": [classes[index] for index in probabilities.argmax(axis=1)],
        **_by_name(PROBABILITY_PREFIX, classes, probabilities, "float64"),
    }


def regression_columns(
    *,
    samples: Sequence[str],
    targets: np.ndarray,
    predicted: np.ndarray,
    names: Sequence[str],
    split: str = TEST,
    groups: Sequence[str] | None = None,
    test_sets: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The columns of a trial's predictions of numbers on one split, all but `trial`.

    `targets` and `predicted` are [n, number of targets], in the targets' own units.
    """
    return {
        **_of_samples(samples, split, groups, test_sets),
        **_by_name(TARGET_PREFIX, names, targets, "float64"),
        **_by_name(PREDICTED_PREFIX, names, predicted, "float64"),
    }


def multi_label_columns(
    *,
    samples: Sequence[str],
    labels: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
    split: str = TEST,
    groups: Sequence[str] | None = None,
    test_sets: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The columns of a trial's predictions of several labels on one split, all but `trial`.

    `labels` (1 and 0) and `probabilities` are [n, number of labels].
    """
    return {
        **_of_samples(samples, split, groups, test_sets),
        **_by_name(LABEL_PREFIX, names, labels, "int64"),
        **_by_name(PROBABILITY_PREFIX, names, probabilities, "float64"),
    }


def columns_of_task(
    task: TargetTaskName,
    *,
    truth: np.ndarray,
    answers: np.ndarray,
    names: Sequence[str],
    **of_samples: Any,
) -> dict[str, Any]:
    """The columns of predictions as the task has them, from what is true and what was predicted.

    `of_samples` are the other arguments of `prediction_columns`.
    """
    if task == "classification":
        return prediction_columns(labels=truth, probabilities=answers, classes=names, **of_samples)
    if task == "regression":
        return regression_columns(targets=truth, predicted=answers, names=names, **of_samples)
    return multi_label_columns(labels=truth, probabilities=answers, names=names, **of_samples)


def _of_samples(
    samples: Sequence[str],
    split: str,
    groups: Sequence[str] | None,
    test_sets: Sequence[str] | None,
) -> dict[str, Any]:
    columns: dict[str, Any] = {"sample": list(samples), "split": [split] * len(samples)}
    if groups is not None:
        columns["group"] = list(groups)
    if test_sets is not None:
        columns["test_set"] = [name or None for name in test_sets]
    return columns


def _by_name(
    prefix: str, names: Sequence[str], values: np.ndarray, kind: Literal["int64", "float64"]
) -> dict[str, Any]:
    """A column for each name, of `values` [n, number of names]."""
    return {prefix + name: values[:, at].astype(kind) for at, name in enumerate(names)}


def to_table(table: TableName, rows: Rows, *, trial: str | None = None) -> pa.Table:
    """`rows` in the table's schema; what is not given is null, `trial` fills its column."""
    import pyarrow as pa

    columns = _columns(rows)
    length = len(next(iter(columns.values()))) if columns else 0
    if trial is not None:
        columns["trial"] = [trial] * length
    if table == "predictions":
        columns.setdefault("split", [TEST] * length)
    further = further_columns(table, columns)
    schema = table_schema(table, [*optional_columns(table, columns), *further])
    unknown = sorted(set(columns) - set(schema.names))
    assert not unknown, f"the table {table} has no columns {unknown}"
    arrays = [
        # NaN stays NaN, apart from null: a diverged loss is a fact, a missing one is not.
        pa.array(_unicode(columns.get(field.name, [None] * length)), field.type, from_pandas=False)
        for field in schema
    ]
    result = pa.Table.from_arrays(arrays, schema=schema)
    empty = sorted(name for name in NEVER_NULL & set(columns) if result[name].null_count)
    assert not empty, f"the table {table} needs values in {empty}"
    return result


def to_frame(table: pa.Table) -> pd.DataFrame:
    """`table` for pandas; the integers of `trials` may be missing and stay integers."""
    import pandas as pd
    import pyarrow as pa

    nullable = {pa.int64(): pd.Int64Dtype()} if "config" in table.column_names else {}
    # What a file says of indices and types of pandas is not ours.
    frame: pd.DataFrame = table.to_pandas(types_mapper=nullable.get, ignore_metadata=True)
    return frame


def of_split(predictions: pd.DataFrame, split: str) -> pd.DataFrame:
    """The rows of one split, without the column that says so."""
    own = predictions[predictions["split"] == split]
    return own.drop(columns="split").reset_index(drop=True)


class NewerSchemaError(BenchError):
    """A table was written by a later version of bench: it must not be taken for a damaged one."""


def read_parquet(path: Path, *, mend: str) -> pa.Table:
    """One table; raises `BenchError`, ending with `mend`, if it is missing, damaged or too old.

    Raises `NewerSchemaError` if it is too new.
    """
    import pyarrow as pa

    try:
        table = _read_bounded(path)
    except FileNotFoundError:
        raise BenchError(f"{path} is missing; {mend}") from None
    except PermissionError as error:
        raise BenchError(f"{path} must be readable ({error.strerror})") from None
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise BenchError(f"{path} is damaged ({error}); {mend}") from None
    _check_version(path, (table.schema.metadata or {}).get(VERSION_KEY, b"none"), mend)
    return table


def read_table(path: Path, name: TableName, *, mend: str) -> pa.Table:
    """One of the three tables, as of `read_parquet`, with exactly its columns."""
    return _conform(name, read_parquet(path, mend=mend), path, mend=mend)


def _check_version(path: Path, written: bytes, mend: str) -> None:
    version = written.decode(errors="replace")
    if written in (b"%d" % known for known in range(1, SCHEMA_VERSION + 1)):
        return
    rule = f"{path} must have schema version {SCHEMA_VERSION}, got {version}"
    if version.isdecimal() and int(version) > SCHEMA_VERSION:
        raise NewerSchemaError(
            f"{rule}: a later version of bench wrote it; install that one (pip install -U bench), "
            "or give another --out"
        )
    raise BenchError(f"{rule}; read it with the version of bench that wrote it, or {mend}")


def _read_bounded(path: Path) -> pa.Table:
    """The table; raises `ValueError` where it is too large for its memory, or not flat."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.exists() and not path.is_file():
        raise ValueError("it must be a file")
    with pq.ParquetFile(path) as file:
        about, schema = file.metadata, file.schema_arrow
        size = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
    room = _most_bytes(path)
    _check_memory(max(size, about.num_rows * _row_bytes(schema)), room)
    if any(pa.types.is_nested(kind) for kind in schema.types):
        raise ValueError("a column holds lists or mappings")
    texts = [field.name for field in schema if _is_text(field.type)]
    # A text that a million rows repeat is stored once, and must not be spelled out before a look.
    with pq.ParquetFile(path, read_dictionary=texts, page_checksum_verification=True) as file:
        table = file.read()
    _check_memory(sum(map(_spelled_out_bytes, table.columns)), room)
    for index, name in enumerate(table.column_names):
        dictionary = pa.types.is_dictionary(table.schema.field(index).type)
        if dictionary and pa.types.is_string(schema.field(index).type):
            _check_texts(table.column(index), name)
            field = pa.field(name, pa.string(), nullable=schema.field(index).nullable)
            table = table.set_column(index, field, table.column(index).cast(pa.string()))
    table.validate(full=True)
    return table


def _most_bytes(path: Path) -> int:
    """The memory that the table in the file may take."""
    wanted = max(SMALL_TABLE_BYTES, MOST_TIMES_LARGER * path.stat().st_size)
    return min(MAX_TABLE_BYTES, wanted)


def _check_memory(needed: int, room: int) -> None:
    if needed > room:
        raise ValueError(
            f"it would take {needed / 2**20:,.0f} MiB of memory, but a file of its size may take "
            f"{room / 2**20:,.0f} at most"
        )


def _row_bytes(schema: pa.Schema) -> int:
    """What a row takes at least: of texts a number each; they are looked at later."""
    import pyarrow as pa

    fixed = (kind for kind in schema.types if not pa.types.is_nested(kind))
    return sum(4 if _is_text(kind) else max(1, kind.bit_width // 8) for kind in fixed)


def _is_text(kind: pa.DataType) -> bool:
    try:
        return not kind.bit_width
    except ValueError:
        return True


def _spelled_out_bytes(column: pa.ChunkedArray) -> int:
    """What a column takes once equal texts are no longer stored as one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    total = 0
    for chunk in column.chunks:
        lengths = pc.binary_length(chunk.dictionary)
        total += 8 * len(chunk) + (pc.sum(lengths.take(chunk.indices)).as_py() or 0)
    return total


def _check_texts(column: pa.ChunkedArray, name: str) -> None:
    import pyarrow.compute as pc

    for chunk in column.chunks:
        longest = pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0
        if longest > MAX_TEXT:
            raise ValueError(f"a text of the column {name!r} has more than {MAX_TEXT:,} characters")


def _conform(name: TableName, table: pa.Table, path: Path, *, mend: str) -> pa.Table:
    """The columns that the table `name` must have, without others; raises `BenchError`."""
    import pyarrow as pa

    # What others add under such a name is theirs, unless it can be a figure.
    figures = [each.name for each in table.schema if each.type == pa.float64()]
    named = table.column_names if name == "predictions" else figures
    further = [*optional_columns(name, table.column_names), *further_columns(name, named)]
    schema = table_schema(name, further)
    version = (table.schema.metadata or {}).get(VERSION_KEY, b"%d" % SCHEMA_VERSION)
    if name == "predictions" and int(version) < FIRST_SPLITS:
        if "split" in table.column_names:
            table = table.drop_columns("split")
        table = table.append_column(schema.field("split"), pa.repeat(TEST, len(table)))
    for field in schema:
        later = came_later(name, field.name, first=version == FIRST_VERSION)
        if field.name not in table.column_names and later:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    names = table.column_names
    missing = [each for each in schema.names if each not in names]
    if missing:
        raise BenchError(f"{path} is damaged (it lacks {', '.join(missing)}); {mend}")
    doubled = sorted({each for each in schema.names if names.count(each) > 1})
    if doubled:
        raise BenchError(f"{path} is damaged (it holds {', '.join(doubled)} twice); {mend}")
    for field in schema:
        found = table.schema.field(field.name).type
        if found != field.type:
            cause = f"{field.name} must be {field.type}, got {found}"
            raise BenchError(f"{path} is damaged ({cause}); {mend}")
        if not field.nullable and table[field.name].null_count:
            raise BenchError(f"{path} is damaged ({field.name} must not be null); {mend}")
    return table.select(schema.names)


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write `table` and see it onto the disk."""
    import pyarrow.parquet as pq

    pq.write_table(table, path, write_page_checksum=True)
    flush_to_disk(path)


def merge_parquet(
    name: TableName, tables: Iterable[pa.Table], path: Path, *, metadata: Mapping[bytes, bytes]
) -> None:
    """Write `tables` below each other into one file, atomically, with further `metadata`."""
    import pyarrow.parquet as pq

    groups = _alike(name, tables, path.parent)
    first = next(groups)
    # Parts of earlier versions have been read as this one has them.
    schema = first.schema.with_metadata({**table_schema(name).metadata, **metadata})
    with (
        atomic_file(path) as temporary,
        pq.ParquetWriter(temporary, schema, write_page_checksum=True) as writer,
    ):
        for group in chain([first], groups):
            writer.write_table(group.cast(schema))


def join_tables(name: TableName, tables: Iterable[pa.Table], folder: Path) -> pa.Table:
    """`tables` of the parts in `folder` below each other, in memory."""
    import pyarrow as pa

    return pa.concat_tables(list(_alike(name, tables, folder)))


def _alike(name: TableName, tables: Iterable[pa.Table], folder: Path) -> Iterator[pa.Table]:
    """`tables` in few large ones; raises `BenchError` if they differ in their columns."""
    names = None
    for group in _row_groups(name, tables):
        if names not in (None, group.schema.names):
            raise BenchError(
                f"the parts in {folder} must belong to one data set, but their {name} differ in "
                "their columns; run the suite into another folder (--out)"
            )
        names = group.schema.names
        yield group


def _columns(rows: Rows) -> dict[str, Any]:
    if isinstance(rows, Columns):
        return {name: rows[name] for name in rows.keys()}  # noqa: SIM118  (a frame's keys too)
    listed = list(rows)
    names = dict.fromkeys(name for row in listed for name in row)
    return {name: [row.get(name) for row in listed] for name in names}


def _unicode(values: Any) -> Any:
    """Texts as UTF-8 has them: errors may name files whose names are bytes of another encoding."""
    if not isinstance(values, list):
        return values
    return [
        value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
        for value in values
    ]


def _row_groups(name: TableName, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """`tables` gathered into few large ones, at least one."""
    import pyarrow as pa

    gathered: list[pa.Table] = []
    rows, any_written = 0, False
    for table in tables:
        if not table.num_rows:  # a failed trial's: without the columns of probabilities
            continue
        other_columns = gathered and table.schema.names != gathered[0].schema.names
        if rows >= _ROWS_PER_GROUP or other_columns:
            yield pa.concat_tables(gathered)
            gathered, rows, any_written = [], 0, True
        gathered.append(table)
        rows += table.num_rows
    if gathered:
        yield pa.concat_tables(gathered)
    elif not any_written:
        yield table_schema(name).empty_table()
