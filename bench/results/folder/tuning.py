"""What a search for settings left in a run folder: a row per Optuna trial, and how it searched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError
from bench.results.folder.checks import (
    plain_json,
    predictions_problem,
    trials_problem,
    tuning_problem,
)
from bench.results.folder.columns import TUNING_CAME_LATER, TUNING_COLUMNS
from bench.results.folder.decisions import with_decisions
from bench.results.folder.tables import (
    FIRST_VERSION,
    SCHEMA_VERSION,
    TEST,
    VERSION_KEY,
    arrow_types,
    of_split,
    read_parquet,
    read_table,
    to_frame,
    write_parquet,
)
from bench.system.cache import atomic_file

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FILE = "tuning.parquet"
UNTUNED, UNTUNED_PREDICTIONS = "untuned.parquet", "untuned_predictions.parquet"
PARAM_PREFIX = "param_"
_DESCRIPTION = b"bench.tuning"
_MEND = "run bench tune again with the same arguments: finished trials are kept"


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuning:
    """The search behind a tuned run.

    `trials` has the columns above and a `param_NAME` for every searched setting; `description` says
    what was searched how, and which trial and configs stand for each study; `untuned` are the
    trials of the same suite with its own settings.
    """

    folder: Path
    trials: pd.DataFrame
    untuned: pd.DataFrame
    description: Mapping[str, Any]

    @cached_property
    def untuned_predictions(self) -> pd.DataFrame | None:
        """The test predictions of the untuned trials; None in folders of earlier versions.

        Raises `BenchError` if they are damaged.
        """
        path = self.folder / UNTUNED_PREDICTIONS
        if not path.is_file():
            return None
        found = to_frame(read_table(path, "predictions", mend=_MEND))
        problem = predictions_problem(found, self.untuned)
        if problem is not None:
            raise BenchError(f"{path} is damaged ({problem}); {_MEND}")
        return with_decisions(of_split(found, TEST), self.untuned)


def read_tuning(folder: Path) -> Tuning | None:
    """The search of a tuned run, None for a run without; raises `BenchError` if it is damaged."""
    if not (folder / FILE).is_file():
        return None
    table = read_parquet(folder / FILE, mend=_MEND)
    try:
        description = plain_json(table.schema.metadata[_DESCRIPTION].decode())
    except (KeyError, ValueError) as error:
        raise BenchError(f"{folder / FILE} is damaged ({error}); {_MEND}") from None
    table = _filled(table)
    trials: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    problem = _schema_problem(table) or tuning_problem(trials, description)
    if problem is not None:
        raise BenchError(f"{folder / FILE} is damaged ({problem}); {_MEND}")
    path = folder / UNTUNED
    untuned = to_frame(read_table(path, "trials", mend=_MEND))
    problem = trials_problem(untuned)
    if problem is not None:
        raise BenchError(f"{path} is damaged ({problem}); {_MEND}")
    return Tuning(folder=folder, trials=trials, untuned=untuned, description=description)


def _filled(table: pa.Table) -> pa.Table:
    """The table with nulls for what its schema version did not know."""
    import pyarrow as pa

    if table.schema.metadata[VERSION_KEY] != FIRST_VERSION:
        return table
    for name in TUNING_CAME_LATER:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(len(table), pa.float64()))
    return table


def _schema_problem(table: pa.Table) -> str | None:
    """Which column is missing, stands there twice or has another type than it should."""
    types = arrow_types()
    for name, kind in TUNING_COLUMNS.items():
        fields = [table.schema.field(i) for i in table.schema.get_all_field_indices(name)]
        if [field.type for field in fields] != [types[kind.type]]:
            return f"it must hold {name} once, as {types[kind.type]}"
    if len(set(table.column_names)) < len(table.column_names):
        return "two columns have the same name"
    return None


def copy_untuned(untuned: Path, folder: Path) -> None:
    """Keep the trials and the test predictions of the run folder `untuned` beside the search."""
    for name, kept in (("predictions", UNTUNED_PREDICTIONS), ("trials", UNTUNED)):
        with atomic_file(folder / kept) as temporary:
            shutil.copyfile(untuned / f"{name}.parquet", temporary)


def write_tuning(
    folder: Path, rows: Iterable[Mapping[str, Any]], description: Mapping[str, Any]
) -> None:
    """Write `tuning.parquet`, atomically; NaN stays apart from what is unknown."""
    import pyarrow as pa

    listed = list(rows)
    types = arrow_types()
    fields = [pa.field(name, types[kind.type]) for name, kind in TUNING_COLUMNS.items()]
    names = dict.fromkeys(name for row in listed for name in row if name.startswith(PARAM_PREFIX))
    for name in names:
        numeric = all(isinstance(row.get(name), int | float | None) for row in listed)
        fields.append(pa.field(name, pa.float64() if numeric else pa.string()))
    metadata = {
        _DESCRIPTION: json.dumps(description).encode(),
        VERSION_KEY: str(SCHEMA_VERSION).encode(),
    }
    schema = pa.schema(fields, metadata=metadata)
    arrays = [
        pa.array([_plain(row.get(f.name), f.type) for row in listed], f.type, from_pandas=False)
        for f in schema
    ]
    with atomic_file(folder / FILE) as temporary:
        write_parquet(pa.Table.from_arrays(arrays, schema=schema), temporary)


def _plain(value: Any, kind: Any) -> Any:
    import pyarrow as pa

    if value is None:
        return None
    return str(value) if kind == pa.string() else value
