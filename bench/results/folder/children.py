"""`children.parquet`: what finished trials were made into without training, a row each.

Their predictions lie in `child_predictions.parquet`, with the id of the child as the trial. That
file is written first, and keeps those of the table that is still there: whenever the process is
killed, every child of the table has predictions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError
from bench.results.folder.checks import children_problem, predictions_problem
from bench.results.folder.columns import CHILD_COLUMNS, THRESHOLDS, metric_of
from bench.results.folder.tables import (
    SCHEMA_VERSION,
    VERSION_KEY,
    arrow_types,
    read_parquet,
    read_table,
    table_schema,
    to_frame,
    to_table,
    write_parquet,
)
from bench.system.cache import atomic_file

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FILE, PREDICTIONS = "children.parquet", "child_predictions.parquet"
_MEND = "delete it and run the suite again: children are made again, no trial is trained"


def has_children(folder: Path) -> bool:
    """Whether a file of theirs is there; a kill may have left one of both."""
    return any((folder / name).is_file() for name in (FILE, PREDICTIONS))


def read_children(folder: Path) -> pd.DataFrame:
    """The children of a run, none where there is no table; raises `BenchError` if it is damaged."""
    path = folder / FILE
    if not path.is_file():
        return to_frame(_schema(()).empty_table())
    table = read_parquet(path, mend=_MEND)
    schema = _schema(name for name in table.column_names if _is_further(name))
    wrong = [
        field.name
        for field in schema
        if [table.schema.field(i).type for i in table.schema.get_all_field_indices(field.name)]
        != [field.type]
    ]
    if wrong:
        raise BenchError(f"{path} is damaged (it must hold {wrong[0]} once, as its type); {_MEND}")
    found = to_frame(table.select(schema.names))
    problem = children_problem(found)
    if problem is not None:
        raise BenchError(f"{path} is damaged ({problem}); {_MEND}")
    return found


def read_child_predictions(folder: Path, children: pd.DataFrame) -> pd.DataFrame:
    """The predictions of these children, of both splits; raises `BenchError` if damaged."""
    path = folder / PREDICTIONS
    if not path.is_file():
        if (children["status"] == "complete").any():
            raise BenchError(f"{path} is missing; delete {FILE} too and run the suite again")
        return to_frame(table_schema("predictions").empty_table())
    found = to_frame(read_table(path, "predictions", mend=_MEND))
    found = found[found["trial"].isin(children["child"])].reset_index(drop=True)
    problem = predictions_problem(found, children.assign(trial=children["child"]))
    if problem is not None:
        raise BenchError(f"{path} is damaged ({problem}); {_MEND}")
    return found


def write_children(
    folder: Path, rows: Iterable[Mapping[str, Any]], predictions: pd.DataFrame
) -> None:
    """Write both tables in place of earlier ones; without rows they are removed."""
    import pyarrow as pa

    listed = list(rows)
    if not listed:
        for name in (FILE, PREDICTIONS):
            (folder / name).unlink(missing_ok=True)
        return
    predictions = _with_those_before(folder, listed, predictions)
    names = dict.fromkeys(name for row in listed for name in row if _is_further(name))
    schema = _schema(names)
    arrays = [
        pa.array([row.get(field.name) for row in listed], field.type, from_pandas=False)
        for field in schema
    ]
    with atomic_file(folder / PREDICTIONS) as temporary:
        write_parquet(to_table("predictions", predictions), temporary)
    with atomic_file(folder / FILE) as temporary:
        write_parquet(pa.Table.from_arrays(arrays, schema=schema), temporary)


def _with_those_before(
    folder: Path, rows: Iterable[Mapping[str, Any]], predictions: pd.DataFrame
) -> pd.DataFrame:
    """Also those of children that only the earlier table has: a kill may let it stay."""
    import pandas as pd

    try:
        before = read_children(folder)
        kept = read_child_predictions(folder, before)
    except BenchError:  # damaged: it will not be read again
        return predictions
    gone = kept[~kept["trial"].isin([row["child"] for row in rows])]
    return predictions if gone.empty else pd.concat([predictions, gone], ignore_index=True)


def _schema(further: Iterable[str]) -> pa.Schema:
    import pyarrow as pa

    types = arrow_types()
    fields = [pa.field(name, types[kind.type]) for name, kind in CHILD_COLUMNS.items()]
    fields += [
        pa.field(name, pa.string() if name == THRESHOLDS else pa.float64()) for name in further
    ]
    return pa.schema(fields, metadata={VERSION_KEY: str(SCHEMA_VERSION).encode()})


def _is_further(name: str) -> bool:
    if name == THRESHOLDS:
        return True
    of_split = name.startswith(("val_", "test_"))
    return name not in CHILD_COLUMNS and of_split and metric_of("trials", name) is not None
