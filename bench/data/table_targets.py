"""What rows of a table say where they name no class: numbers, or labels of which several may hold.

Labels stand in one column, as names with `|` or `;` between them or as a JSON list, or in columns
of their own that say 1 or 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.errors import DataError
from bench.suite import TargetTaskName
from bench.system.visible_text import reading, visible

SEPARATORS = ("|", ";")
YES, NO = frozenset({"1", "true", "yes"}), frozenset({"0", "false", "no"})
MAX_LABELS = 10_000
LARGEST = float(np.finfo(np.float32).max)

Said = tuple[float, ...] | tuple[str, ...]
"""Of a row: its numbers, or the names of its labels."""


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The columns that say what is predicted; `listed`: one column holds the names of labels."""

    task: TargetTaskName
    columns: tuple[str, ...]
    listed: bool = False

    @property
    def missing(self) -> str:
        """Why a row without it is left out."""
        return "no target" if self.task == "regression" else "no labels"


def outputs_of(
    target: str | Sequence[str] | None, labels: str | Sequence[str] | None
) -> Outputs | None:
    """The columns that two options of the data set name; None where both are None.

    Raises `DataError` where both are given, and for a column that is named twice.
    """
    if target is not None and labels is not None:
        raise DataError(
            "target names numbers to predict and labels names labels: give one of the two"
        )
    given, name = (target, "target") if target is not None else (labels, "labels")
    if given is None:
        return None
    columns = (given,) if isinstance(given, str) else tuple(given)
    if not columns or len(set(columns)) < len(columns):
        raise DataError(f"{name} must name at least one column, each once, got {list(columns)}")
    return Outputs(
        task="regression" if target is not None else "multi_label",
        columns=columns,
        listed=labels is not None and isinstance(labels, str),
    )


def said_by_rows(
    path: Path, outputs: Outputs, cells: Mapping[str, Sequence[str]]
) -> list[Said | None]:
    """What every row says; None where it says nothing. Raises `DataError` for what it cannot mean.

    An image may have no label at all: an empty cell says so where the cells are lists of names.
    """
    if outputs.listed:
        (column,) = outputs.columns
        return _listed(path, column, cells[column])
    read = _number if outputs.task == "regression" else _flag
    columns = [
        [read(path, name, text, row) for row, text in enumerate(cells[name], start=1)]
        for name in outputs.columns
    ]
    return [
        None if any(value is None for value in row) else tuple(v for v in row if v is not None)
        for row in zip(*columns, strict=True)
    ]


def _number(path: Path, column: str, text: str, row: int) -> float | None:
    if text == "":
        return None
    try:
        value = float(text)
    except ValueError:
        comma = " (numbers have a point, not a comma)" if "," in text else ""
        raise DataError(
            f"{_place(path, column, row)} must be a number, got {visible(text)!r}{comma}; correct "
            "it, or leave the cell empty, which leaves the row out"
        ) from None
    if not abs(value) <= LARGEST:  # NaN is not
        raise DataError(
            f"{_place(path, column, row)} must be a finite number of single precision, got "
            f"{visible(text)}; correct it, or leave the cell empty, which leaves the row out"
        )
    return value


def _flag(path: Path, column: str, text: str, row: int) -> float | None:
    if text == "":
        return None
    plain = text.lower().removesuffix(".0")
    if plain in YES or plain in NO:
        return float(plain in YES)
    raise DataError(
        f"{_place(path, column, row)} must say 1 or 0 (whether the image has the label), got "
        f"{visible(text)!r}; a single column with the names of labels is given without brackets: "
        f"labels: {visible(column)}"
    )


def _listed(path: Path, column: str, cells: Sequence[str]) -> list[Said | None]:
    separator = next((s for s in SEPARATORS if any(s in text for text in cells)), None)
    found: list[Said | None] = []
    for row, text in enumerate(cells, start=1):
        if text.startswith("["):
            names = _json_names(path, column, text, row)
        else:
            names = [text] if separator is None else text.split(separator)
        found.append(tuple(sorted({name.strip() for name in names} - {""})))
    return found


def _json_names(path: Path, column: str, text: str, row: int) -> list[str]:
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str | int) for name in names):
        raise DataError(
            f"{_place(path, column, row)} must be a JSON list of names such as "
            f'["cat", "dog"], got {visible(text)[:60]}'
        )
    return list(map(str, names))


def _place(path: Path, column: str, row: int) -> str:
    return f"column {visible(column)!r} of {path} in row {row}"


def values_of(
    outputs: Outputs, said: Sequence[Said]
) -> tuple[list[tuple[float, ...]], tuple[str, ...]]:
    """The values of every row, and the names of the outputs: of listed labels all that occur."""
    if not outputs.listed:
        return [tuple(map(float, row)) for row in said], outputs.columns
    spelling: dict[str, str] = {}
    rows = [{spelling.setdefault(reading(str(name)), str(name)) for name in row} for row in said]
    names = tuple(sorted(set().union(*rows)))
    (column,) = outputs.columns
    if not names:
        raise DataError(f"no row has a label in column {visible(column)!r}: is it the right one?")
    if len(names) > MAX_LABELS or 2 * len(names) > len(rows) + 2:
        shown = ", ".join(visible(name) for name in names[:3])
        raise DataError(
            f"{len(names):,} different labels in {len(rows):,} rows of column {visible(column)!r} "
            f"are too many to learn, such as {shown}: is it the right column? Names of labels have "
            "| or ; between them"
        )
    return [tuple(float(name in row) for name in names) for row in rows], names
