"""Predictions as a table: in memory, and written row by row to files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bench.errors import BenchError, path_named
from bench.prediction.outputs import Outputs
from bench.system.cache import atomic_file
from bench.system.visible_text import cell_of_csv

if TYPE_CHECKING:
    import pandas as pd

    from bench.prediction.samples import Predicted

ROWS_AT_ONCE = 4096
FORMATS = (".csv", ".parquet", ".jsonl")


def row_of(each: Predicted, outputs: Outputs, *, min_confidence: float = 0.0) -> dict[str, Any]:
    """A sample as a row: what is predicted of it, and what each output says."""
    known = outputs.cells(each.probabilities, min_confidence=min_confidence)
    return dict(zip(outputs.columns, [each.name, *known, each.failure], strict=True))


def to_frame(
    found: Iterable[Predicted], outputs: Outputs, *, min_confidence: float = 0.0
) -> pd.DataFrame:
    """All rows in memory."""
    import pandas as pd

    rows = [row_of(each, outputs, min_confidence=min_confidence) for each in found]
    frame = pd.DataFrame(rows, columns=list(outputs.columns))
    return frame.astype(dict.fromkeys(outputs.numbers, np.float64))


class RowWriter(Protocol):
    """Takes rows one after the other."""

    def add(self, row: dict[str, Any]) -> None:
        """Write a row, now or with later ones."""


def check_name(path: Path) -> None:
    """Raise `BenchError` unless a file of this name can be written."""
    if path.suffix.lower() not in FORMATS:
        raise BenchError(f"--out must end in {', '.join(FORMATS)}, got {path}")
    if path.exists() and not path.is_file():
        raise BenchError(f"--out must be a file, and {path} is something else; give another name")


@contextmanager
def writing(path: Path, outputs: Outputs) -> Iterator[RowWriter]:
    """A writer of the file, which appears whole or not at all; its name's end says the format.

    Raises `BenchError` for any other than `FORMATS`.
    """
    check_name(path)
    suffix = path.suffix.lower()
    with path_named(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, ours=False) as temporary:
        if suffix == ".parquet":
            with _parquet(temporary, outputs) as parquet:
                yield parquet
        else:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                yield _Csv(file, outputs) if suffix == ".csv" else _JsonLines(file)


class _Csv:
    """Of texts only what a person can read, and a spreadsheet takes for no formula."""

    def __init__(self, file: Any, outputs: Outputs) -> None:
        # Where the comma is a decimal sign, spreadsheets part cells at semicolons too.
        self._writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
        self._writer.writerow(map(_cell, outputs.columns))

    def add(self, row: dict[str, Any]) -> None:
        self._writer.writerow(map(_cell, row.values()))


def _cell(value: Any) -> Any:
    return cell_of_csv(value) if isinstance(value, str) else value


class _JsonLines:
    """Texts are exact: `json.loads` gives them back, and `os.fsencode` the bytes of a name."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def add(self, row: dict[str, Any]) -> None:
        plain = all(text.isprintable() for text in (*row, *row.values()) if isinstance(text, str))
        self._file.write(json.dumps(row, ensure_ascii=not plain) + "\n")


class _Parquet:
    """Texts are exact, but for bytes of names that are no UTF-8: they become escapes."""

    def __init__(self, writer: Any, schema: Any) -> None:
        self._writer = writer
        self._schema = schema
        self._rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append({_in_utf8(name): _in_utf8(value) for name, value in row.items()})
        if len(self._rows) == ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []


def _in_utf8(value: Any) -> Any:
    if not isinstance(value, str) or value.isprintable():
        return value
    return value.encode("utf-8", "backslashreplace").decode()


@contextmanager
def _parquet(path: Path, outputs: Outputs) -> Iterator[_Parquet]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            (_in_utf8(name), pa.float64() if name in outputs.numbers else pa.string())
            for name in outputs.columns
        ]
    )
    with pq.ParquetWriter(path, schema) as writer:
        table = _Parquet(writer, schema)
        yield table
        table.flush()
