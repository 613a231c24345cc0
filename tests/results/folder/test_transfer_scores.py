"""`transfer_scores.parquet` is read as it was written, or named as damaged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.errors import BenchError
from bench.results.folder import ScoreRow, read_transfer_scores, write_transfer_scores
from bench.results.folder.tables import write_parquet
from bench.results.folder.transfer_scores import FILE
from tests.damage import damage

ROW = ScoreRow(
    backbone="resnet18",
    weights="imagenet",
    preprocessing='{"image_size": 224}',
    seed=0,
    samples=195,
    group="layer4",
    score="logme",
    value=-0.25,
    reason=None,
    seconds=0.1,
    pass_seconds=2.5,
)
NONE = replace(ROW, group=None, score="leep", value=None, reason="no network")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert read_transfer_scores(tmp_path) == ()
    write_transfer_scores(tmp_path / "new", [ROW, NONE])
    assert read_transfer_scores(tmp_path / "new") == (ROW, NONE)
    write_transfer_scores(tmp_path / "new", [])
    assert read_transfer_scores(tmp_path / "new") == ()


@pytest.mark.parametrize("how", ["half", "flipped", "empty", "type", "null"])
def test_damage_is_one_message(tmp_path: Path, how: str) -> None:
    write_transfer_scores(tmp_path, [ROW, NONE])
    path = tmp_path / FILE
    if how in ("type", "null"):
        table = pq.read_table(path)
        other = pa.array([1, 2] if how == "type" else [None, "a"])
        write_parquet(table.set_column(0, "backbone", other), path)
    else:
        damage(path, how)
    with pytest.raises(BenchError, match=r"transfer_scores.parquet is damaged .*computed again"):
        read_transfer_scores(tmp_path)
