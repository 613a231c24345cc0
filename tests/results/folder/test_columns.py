"""Every column is documented with its unit, and can be reached."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from bench.results.folder import Run
from bench.results.folder.columns import (
    CHILD_COLUMNS,
    COLUMNS,
    LR_FIND_COLUMNS,
    OPTIONAL_COLUMNS,
    TEXT,
    THRESHOLDS,
    TUNING_COLUMNS,
)
from tests.made_up_run import made_up_run

PAGE = (Path(__file__).parents[3] / "docs" / "tables.md").read_text(encoding="utf-8")
TABLES = {
    **{name: {**columns, **OPTIONAL_COLUMNS.get(name, {})} for name, columns in COLUMNS.items()},
    "children": {**CHILD_COLUMNS, THRESHOLDS: TEXT},
    "child_predictions": COLUMNS["predictions"],
    "tuning": TUNING_COLUMNS,
    "lr_find": LR_FIND_COLUMNS,
}
NAMED = ("probability_CLASS", "target_NAME", "predicted_NAME", "label_NAME", "probability_NAME")
"""What stands for a column for each class, target or label."""
WITHOUT_UNIT = re.compile("seed|fold|lr|steepest|valley|step|number|suite_lr_.*|epoch|best_epoch")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made_up_run(tmp_path_factory.mktemp("run"), strategies=["a"], seeds=2, epochs=1)


def documented(table: str) -> dict[str, str]:
    """The unit of each column that the page has for a table."""
    section = PAGE.partition(f"## `{table}.parquet`")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    return {name: unit.strip() for cell, unit in rows for name in re.findall("`([^`]+)`", cell)}


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_documented(table: str) -> None:
    found = documented(table)
    for name in NAMED:
        found.pop(name, None)
    assert set(found) == set(TABLES[table])
    for name, kind in TABLES[table].items():
        if kind.type in ("int64", "float64") and not WITHOUT_UNIT.fullmatch(name):
            as_in_trials = table == "lr_find" and name in COLUMNS["trials"]
            assert found[name] or as_in_trials, f"{name} has no unit"


def test_columns_with_names_of_methods_are_reached_by_brackets(run: Run) -> None:
    """And are named on the page; the methods keep working."""
    clashing = {
        name
        for columns in TABLES.values()
        for name in columns
        if callable(getattr(pd.DataFrame, name, None))
    }
    assert clashing == {"sample", "head"}
    assert all(f'["{name}"]' in PAGE for name in clashing)
    assert len(run.predictions.sample(3)) == 3
    assert len(run.trials.head(1)) == 1
    assert run.predictions["sample"].notna().all()
    assert run.trials["head"].notna().all()
