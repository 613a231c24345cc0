"""Run folders as earlier versions wrote them are read, with the numbers that they had."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import bench
from bench.results.folder import SCHEMA_VERSION
from bench.results.report import write_report

FOLDERS = sorted(Path(__file__).parent.glob("tables_*"))
"""Made by a commit of each version of the tables, never again: what is read must not change."""


def test_each_version_has_one() -> None:
    assert [path.name for path in FOLDERS] == [f"tables_{n + 1}" for n in range(SCHEMA_VERSION)]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.name))
def test_it_is_read_with_its_numbers_and_reported(folder: Path, tmp_path: Path) -> None:
    kept = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    shutil.copytree(folder, tmp_path / "run")
    run = bench.read_run(tmp_path / "run")
    by_trial = run.trials.set_index("trial")
    for name in ("val_accuracy", "test_accuracy", "last_test_accuracy"):
        assert by_trial[name].to_dict() == pytest.approx(kept[name], abs=0), name
    right = (run.predictions["label"] == run.predictions["predicted"]).groupby(
        run.predictions["trial"]
    )
    assert right.sum().to_dict() == kept["right"]
    losses = run.curves[run.curves["split"] == "val"].groupby("trial")["loss"].sum()
    assert losses.to_dict() == pytest.approx(kept["val_loss_sum"], rel=1e-12)
    write_report(run, figures={}, formats=["md"])
    assert (run.folder / "report.md").read_text(encoding="utf-8").startswith("# Results of")
