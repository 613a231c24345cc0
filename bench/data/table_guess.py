"""What a table of labels seems to predict: for a proposal that somebody reads before it runs.

Names of columns say where to look, and cells what it is: numbers of many values, names with `|` or
`;` between them, columns of 1 and 0. What could be classes is classes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.data.label_tables import Role, by_name, open_table, recognised
from bench.data.table_targets import SEPARATORS

FEW_CLASSES = 20
"""Whole numbers of no more than so many values are classes, as ratings and codes are."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def has_texts(path: Path) -> bool:
    """Whether a table has a column that is known as that of texts, and none as that of files.

    `id` and `name` may be columns of either.
    """
    columns = open_table(path).columns
    return bool(by_name("text", columns)) and not by_name("path", columns, but=("id", "name"))


def guessed_outputs(path: Path, *, content: Role = "path") -> dict[str, Any]:
    """The option `target` or `labels` of a table's data set; nothing where it names classes."""
    table = open_table(path, content=content)
    roles = recognised(table, content=content)
    if (label := roles.get("label")) is not None:
        return _of_column(label, table.cells([label])[label])
    others = [name for name in dict.fromkeys(table.columns) if name not in roles.values()]
    cells = table.cells(others)
    flags = [name for name in others if _are_flags(cells[name])]
    if len(flags) > 1:
        return {"labels": flags}
    numbers = [name for name in others if "target" in _of_column(name, cells[name])]
    return {"target": numbers[0]} if len(numbers) == 1 else {}


def _of_column(name: str, cells: Sequence[str]) -> dict[str, Any]:
    said = [text for text in cells if text]
    distinct = set(said)
    if not said:
        return {}
    if any(text.startswith("[") for text in said):
        return {"labels": name}
    for separator in SEPARATORS:
        labels = {part.strip() for text in said for part in text.split(separator)}
        if any(separator in text for text in said) and 2 * len(labels) <= len(said):
            return {"labels": name}
    if all(_NUMBER.fullmatch(text) for text in said):
        whole = all(float(text).is_integer() for text in said)
        if len(distinct) > FEW_CLASSES or not whole:
            return {"target": name}
    return {}


def _are_flags(cells: Sequence[str]) -> bool:
    return {text.lower() for text in cells if text} in ({"0", "1"}, {"true", "false"})
