"""Predictions as a table: in memory, and written row by row to files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bench.errors import BenchError
from bench.results.folder.columns import PROBABILITY_PREFIX
from bench.system.cache import atomic_file

if TYPE_CHECKING:
    import pandas as pd

    from bench.prediction.samples import Predicted

UNSURE = "unsure"
"""What stands for the class where the confidence is too low."""

ROWS_AT_ONCE = 4096
FORMATS = (".csv", ".parquet", ".jsonl")


def columns(classes: Sequence[str]) -> tuple[str, ...]:
    """The names of the columns; those of probabilities are as in a run's predictions."""
    return (
        "path",
        "predicted",
        "confidence",
        *(PROBABILITY_PREFIX + name for name in classes),
        "failure",
    )


def row_of(
    each: Predicted, classes: Sequence[str], *, min_confidence: float = 0.0
) -> dict[str, Any]:
    """A sample as a row: what it is, how probable that is, and of each class the probability."""
    if each.probabilities is None:
        known: list[Any] = [None] * (len(classes) + 2)
    else:
        best = int(each.probabilities.argmax())
        confidence = float(each.probabilities[best])
        name = classes[best] if confidence >= min_confidence else UNSURE
        known = [name, confidence, *map(float, each.probabilities)]
    return dict(zip(columns(classes), [each.name, *known, each.failure], strict=True))


def to_frame(
    found: Iterable[Predicted], classes: Sequence[str], *, min_confidence: float = 0.0
) -> pd.DataFrame:
    """All rows in memory."""
    import pandas as pd

    rows = [row_of(each, classes, min_confidence=min_confidence) for each in found]
    frame = pd.DataFrame(rows, columns=list(columns(classes)))
    numbers = ["confidence", *(PROBABILITY_PREFIX + name for name in classes)]
    return frame.astype(dict.fromkeys(numbers, np.float64))


class RowWriter(Protocol):
    """Takes rows one after the other."""

    def add(self, row: dict[str, Any]) -> None:
        """Write a row, now or with later ones."""


@contextmanager
def writing(path: Path, classes: Sequence[str]) -> Iterator[RowWriter]:
    """A writer of the file, which appears whole or not at all; its name's end says the format.

    Raises `BenchError` for any other than `FORMATS`.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise BenchError(f"--out must end in {', '.join(FORMATS)}, got {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        if suffix == ".parquet":
            with _parquet(temporary, classes) as parquet:
                yield parquet
        else:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                yield _Csv(file, classes) if suffix == ".csv" else _JsonLines(file)


class _Csv:
    def __init__(self, file: Any, classes: Sequence[str]) -> None:
        self._writer = csv.DictWriter(file, columns(classes))
        self._writer.writeheader()

    def add(self, row: dict[str, Any]) -> None:
        self._writer.writerow(row)


class _JsonLines:
    def __init__(self, file: Any) -> None:
        self._file = file

    def add(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")


class _Parquet:
    def __init__(self, writer: Any, schema: Any) -> None:
        self._writer = writer
        self._schema = schema
        self._rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) == ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []


@contextmanager
def _parquet(path: Path, classes: Sequence[str]) -> Iterator[_Parquet]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = ("path", "predicted", "failure")
    schema = pa.schema(
        [(name, pa.string() if name in texts else pa.float64()) for name in columns(classes)]
    )
    with pq.ParquetWriter(path, schema) as writer:
        table = _Parquet(writer, schema)
        yield table
        table.flush()
