"""`outliers.parquet`: how far each sample of an audited suite is from all others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.errors import BenchError
from bench.results.folder.tables import SCHEMA_VERSION, VERSION_KEY, read_parquet, write_parquet
from bench.system.cache import atomic_file

FILE = "outliers.parquet"
_MEND = "delete it and audit the suite again"


def write_outliers(folder: Path, samples: Sequence[str], factors: npt.NDArray[np.float64]) -> None:
    """Keep the factor of each sample, in place of earlier ones."""
    import pyarrow as pa

    columns = {"sample": pa.array(list(samples), pa.string()), "factor": pa.array(factors)}
    metadata = {VERSION_KEY: str(SCHEMA_VERSION).encode()}
    with atomic_file(folder / FILE) as temporary:
        write_parquet(pa.table(columns).replace_schema_metadata(metadata), temporary)


def read_outliers(folder: Path) -> dict[str, float] | None:
    """Sample → factor; None where nobody has looked. Raises `BenchError` if it is damaged."""
    import pyarrow as pa

    path = folder / FILE
    if not path.is_file():
        return None
    table = read_parquet(path, mend=_MEND)
    types = {field.name: field.type for field in table.schema}
    if types != {"sample": pa.string(), "factor": pa.float64()} or len(table.schema) != 2:
        raise BenchError(f"{path} is damaged (it must hold sample and factor); {_MEND}")
    samples, factors = (table.column(name).to_pylist() for name in ("sample", "factor"))
    known = all(factor is not None and np.isfinite(factor) for factor in factors)
    if None in samples or len(set(samples)) != len(samples) or not known:
        raise BenchError(f"{path} is damaged (each sample once, with a number); {_MEND}")
    return dict(zip(samples, factors, strict=True))
