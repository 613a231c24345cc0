"""`lr_find.parquet`: what the LR range test of a suite left in its run folder, a row per step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.results.folder.columns import LR_FIND_COLUMNS
from bench.results.folder.tables import (
    SCHEMA_VERSION,
    VERSION_KEY,
    arrow_types,
    read_parquet,
    to_frame,
    write_parquet,
)
from bench.system.cache import atomic_file

if TYPE_CHECKING:
    import pandas as pd

FILE = "lr_find.parquet"
_MEND = "run bench lr-find again with the same arguments"


def write_lr_ranges(folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write `lr_find.parquet` in place of an earlier one, atomically."""
    import pyarrow as pa

    types = arrow_types()
    schema = pa.schema(
        [pa.field(name, types[kind.type]) for name, kind in LR_FIND_COLUMNS.items()],
        metadata={VERSION_KEY: str(SCHEMA_VERSION).encode()},
    )
    listed = list(rows)
    arrays = [
        # NaN stays NaN, apart from null: a loss that broke down is a fact.
        pa.array([row[field.name] for row in listed], field.type, from_pandas=False)
        for field in schema
    ]
    with atomic_file(folder / FILE) as temporary:
        write_parquet(pa.Table.from_arrays(arrays, schema=schema), temporary)


def read_lr_ranges(folder: Path) -> pd.DataFrame:
    """The table; raises `BenchError` if it is missing or damaged."""
    return to_frame(read_parquet(folder / FILE, mend=_MEND))
