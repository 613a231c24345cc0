"""`transfer_scores.parquet`: how well each backbone may suit the data, told before training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from bench.errors import BenchError
from bench.results.folder.columns import TRANSFER_SCORE_COLUMNS
from bench.results.folder.tables import (
    SCHEMA_VERSION,
    VERSION_KEY,
    arrow_types,
    read_parquet,
    write_parquet,
)
from bench.system.cache import atomic_file

FILE = "transfer_scores.parquet"
_MEND = "delete it and have the scores computed again"


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """One score of one layer group of a backbone with its weights, on training samples of a seed.

    `backbone`, `weights` and `seed` are as in `trials`; `preprocessing` is JSON of the settings
    that decide what the network sees. `group` is the layer group whose output is scored; of scores
    of the classifier of the weights it is `head`, and it is None where the backbone has no scores
    at all. Where there is no `value`, the `reason` says why. It took so many `seconds` beside the
    `pass_seconds` of the `samples` through the network, which all scores of the backbone share.
    """

    backbone: str
    weights: str
    preprocessing: str
    seed: int
    samples: int
    group: str | None
    score: str
    value: float | None
    reason: str | None
    seconds: float
    pass_seconds: float


def write_transfer_scores(folder: Path, rows: Iterable[ScoreRow]) -> None:
    """Write `transfer_scores.parquet` in place of an earlier one, atomically."""
    import pyarrow as pa

    types = arrow_types()
    schema = pa.schema(
        [pa.field(name, types[kind.type]) for name, kind in TRANSFER_SCORE_COLUMNS.items()],
        metadata={VERSION_KEY: str(SCHEMA_VERSION).encode()},
    )
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / FILE) as temporary:
        write_parquet(pa.Table.from_pylist([asdict(row) for row in rows], schema), temporary)


def read_transfer_scores(folder: Path) -> tuple[ScoreRow, ...]:
    """The rows, none where nobody has computed them; raises `BenchError` for a damaged table."""
    path = folder / FILE
    if not path.is_file():
        return ()
    types = arrow_types()
    table = read_parquet(path, mend=_MEND)
    expected = {name: types[kind.type] for name, kind in TRANSFER_SCORE_COLUMNS.items()}
    if {field.name: field.type for field in table.schema} != expected:
        raise BenchError(f"{path} is damaged (its columns are others); {_MEND}")
    optional = {"group", "value", "reason"}
    for name in (field.name for field in fields(ScoreRow) if field.name not in optional):
        if table.column(name).null_count:
            raise BenchError(f"{path} is damaged ({name} is missing in some rows); {_MEND}")
    return tuple(ScoreRow(**row) for row in table.to_pylist())
