"""`outliers.parquet` is read as it was written, or named as damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bench.errors import BenchError
from bench.results.folder import SCHEMA_VERSION, read_outliers, write_outliers
from bench.results.folder.outliers import FILE
from bench.results.folder.tables import VERSION_KEY, write_parquet
from tests.damage import damage


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert read_outliers(tmp_path) is None
    write_outliers(tmp_path, ["a/ü.png", "b"], np.array([1.0, 7.5]))
    assert read_outliers(tmp_path) == {"a/ü.png": 1.0, "b": 7.5}


@pytest.mark.parametrize("how", ["half", "flipped", "empty"])
def test_damage_is_one_message(tmp_path: Path, how: str) -> None:
    write_outliers(tmp_path, ["a", "b"], np.array([1.0, 7.5]))
    damage(tmp_path / FILE, how)
    with pytest.raises(BenchError, match=r"outliers.parquet is damaged .*audit the suite again"):
        read_outliers(tmp_path)


@pytest.mark.parametrize(
    "columns",
    [
        {"sample": pa.array(["a", "a"]), "factor": pa.array([1.0, 2.0])},
        {"sample": pa.array(["a", None]), "factor": pa.array([1.0, 2.0])},
        {"sample": pa.array(["a", "b"]), "factor": pa.array([1.0, float("nan")])},
        {"sample": pa.array(["a", "b"]), "factor": pa.array([1, 2])},
        {"sample": pa.array(["a", "b"])},
    ],
)
def test_content_that_nobody_writes_is_refused(
    tmp_path: Path, columns: dict[str, pa.Array]
) -> None:
    table = pa.table(columns).replace_schema_metadata({VERSION_KEY: str(SCHEMA_VERSION).encode()})
    write_parquet(table, tmp_path / FILE)
    with pytest.raises(BenchError, match=r"outliers.parquet is damaged \(.*\); delete it"):
        read_outliers(tmp_path)
