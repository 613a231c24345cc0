"""`test_curves.parquet`: what the test split said of every epoch, where a suite asked for it.

It is kept apart from the curves: nothing that chooses, tunes or claims reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.results.folder.checks import test_curves_problem
from bench.results.folder.tables import (
    TEST,
    merge_parquet,
    read_table,
    table_schema,
    to_frame,
)

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FILE = "test_curves.parquet"
_MEND = "delete it and run the suite again: it is made again, no trial is trained"


def split_off_test(curves: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The curves that a part has of training and validation, and those of the test split."""
    import pyarrow.compute as pc

    test = pc.equal(curves["split"], TEST)
    return curves.filter(pc.invert(test)), curves.filter(test)


def write_test_curves(folder: Path, tables: Sequence[pa.Table]) -> None:
    """Write them in place of earlier ones; without any the file is removed."""
    if tables:
        merge_parquet("curves", tables, folder / FILE, metadata={})
    else:
        (folder / FILE).unlink(missing_ok=True)


def read_test_curves(folder: Path, trials: pd.DataFrame) -> pd.DataFrame:
    """Those of a run, in the columns of `curves`, none where there is no such file.

    Raises `BenchError` if it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return to_frame(table_schema("curves").empty_table())
    found = to_frame(read_table(path, "curves", mend=_MEND))
    problem = test_curves_problem(found, trials)
    if problem is not None:
        raise BenchError(f"{path} is damaged ({problem}); {_MEND}")
    return found
