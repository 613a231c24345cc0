"""`bench audit RUN`: its files, whatever lies in the folder already, and how it refuses."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bench
from bench.errors import BenchError
from bench.results.analysis.audit import OUTLIER, Suspect, to_picture
from bench.results.audit import is_run
from bench.results.folder import Run, write_outliers, write_thumbnails
from tests.damage import damage
from tests.results.audited_run import audited_run

PREDICTED = {
    **{f"a/{index}.jpg": (0, 0.1) for index in range(6)},
    **{f"b/{index}.jpg": (1, 0.9) for index in range(6)},
    "a/=wrong.jpg": (0, 0.95),
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = audited_run(tmp_path / "run", {(0, None): PREDICTED})
    write_thumbnails(made.folder, {"a/=wrong.jpg": np.full((40, 60, 3), 90, np.uint8)})
    return made


def test_the_files_and_what_is_returned(run: Run) -> None:
    found = bench.audit(run.folder)
    table, content, sheet = found.files
    assert [path.name for path in found.files] == ["audit.csv", "audit.json", "contact_sheet.png"]
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["sample", "given", "suggested", "score", "reason", "like"]
    assert rows[1:] == [["a/=wrong.jpg", "a", "b", "0.9000", "label error", ""]]
    assert list(found.table.columns) == rows[0]
    kept = json.loads(content.read_text(encoding="utf-8"))
    assert kept["confident_joint"] == [[6, 1], [0, 6]]
    assert kept["suspects"][0]["suggested"] == "b"
    assert kept["sentences"] == list(found.sentences)
    assert (
        "Label errors: confident learning estimates 1 (7.7 %) and names 1 image." in found.sentences
    )
    with Image.open(sheet) as picture:
        assert picture.width > 500
    assert "a/=wrong.jpg" in found._repr_html_()


def test_what_is_unlike_all_others_is_in_every_file_after_the_label_errors(run: Run) -> None:
    assert "were not looked for" in " ".join(bench.audit(run.folder).sentences)
    factors = dict.fromkeys(PREDICTED, 1.0) | {"b/1.jpg": 1.6, "b/0.jpg": 8.25}
    write_outliers(run.folder, list(factors), np.array(list(factors.values())))
    pictures = {name: np.full((40, 60, 3), 90, np.uint8) for name in ("a/=wrong.jpg", "b/0.jpg")}
    write_thumbnails(run.folder, pictures)
    found = bench.audit(run.folder)
    with found.files[0].open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows[1:]] == ["a/=wrong.jpg", "b/0.jpg", "b/1.jpg"]
    assert rows[2][1:] == ["b", "", "8.2500", "unlike all others", ""]
    kept = json.loads(found.files[1].read_text(encoding="utf-8"))
    assert [each["score"] for each in kept["suspects"][1:]] == [8.25, 1.6]
    assert kept["features_of"] == len(PREDICTED)
    assert any(s.startswith("Unlike all others: 2 images of 13") for s in found.sentences)
    assert "1 image missing in the contact sheet" in found.notes[0]
    assert found.sheet is not None


def test_many_label_errors_leave_pictures_to_what_is_unlike_the_others() -> None:
    wrong = [Suspect(sample=f"w{i}", reason="label error", given="a") for i in range(50)]
    odd = [Suspect(sample=f"o{i}", reason=OUTLIER, given="a", score=2.0) for i in range(30)]
    unreadable = Suspect(sample="u", reason="unreadable", given=None)
    assert to_picture([*wrong, *odd, unreadable], 40) == [*wrong[:30], *odd[:10]]
    assert to_picture([*wrong[:5], *odd, unreadable], 40) == [*wrong[:5], *odd]
    assert to_picture([*wrong, *odd[:2]], 40) == [*wrong[:38], *odd[:2]]


def test_the_same_run_gives_the_same_bytes(run: Run) -> None:
    first = {path.name: path.read_bytes() for path in bench.audit(run.folder).files}
    again = bench.audit(run.folder)
    assert {path.name: path.read_bytes() for path in again.files} == first
    assert again.notes == ()
    assert {path.name for path in (run.folder / "audit").iterdir()} == set(first)


def test_a_table_that_somebody_worked_in_is_kept(run: Run) -> None:
    table, *_ = bench.audit(run.folder).files
    table.write_text("my notes\n")
    found = bench.audit(run.folder)
    assert table.with_name("audit.csv.aside").read_text() == "my notes\n"
    assert found.notes == (
        "audit/audit.csv had been changed: it is kept as a file audit.csv.aside beside it",
    )
    assert bench.audit(run.folder).notes == ()


def test_images_without_a_small_copy_are_told(run: Run) -> None:
    sheet = bench.audit(run.folder).sheet
    assert sheet is not None
    (run.folder / "thumbnails.parquet").unlink()
    found = bench.audit(run.folder)
    assert (found.sheet, sheet.exists()) == (None, False)
    assert "1 image missing in the contact sheet" in found.notes[0]


def test_an_audit_that_is_interrupted_leaves_whole_files_only(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in bench.audit(run.folder).files}

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench.audit(run.folder)
    assert {path: path.read_bytes() for path in (run.folder / "audit").iterdir()} == before


def test_a_folder_that_cannot_be_written_to_is_one_message(run: Run) -> None:
    (run.folder / "audit").write_text("a file")
    with pytest.raises(BenchError, match="cannot read or write: File exists"):
        bench.audit(run.folder)


def test_nothing_is_written_through_a_link(run: Run, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (run.folder / "audit").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BenchError, match="is a link, and a run must not write through links"):
        bench.audit(run.folder)
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("how", ["half", "flipped", "empty"])
def test_damaged_predictions_are_one_message(run: Run, how: str) -> None:
    damage(run.folder / "predictions.parquet", how)
    with pytest.raises(BenchError, match=r"predictions.parquet is damaged"):
        bench.audit(run.folder)
    assert not (run.folder / "audit").exists()


def test_options_of_a_run_that_trains_are_refused(run: Run) -> None:
    for option, flag in (({"device": "cuda"}, "--device"), ({"overrides": ["lr=1"]}, "--set")):
        with pytest.raises(BenchError, match=f"{flag} has no effect in the audit of a run"):
            bench.audit(run.folder, **option)


def test_a_run_and_a_suite_are_told_apart(tmp_path: Path) -> None:
    suite = tmp_path / "suite"
    suite.write_text("name: x\n")
    (tmp_path / "run.yaml").mkdir()
    assert not any(map(is_run, (suite, str(suite), "none.yaml", "{name: x}", "a\nb", {"name": 1})))
    assert all(map(is_run, (tmp_path / "run.yaml", "results/none", "s3://bucket/run")))
    with pytest.raises(BenchError, match="a run folder must exist, got"):
        bench.audit(tmp_path / "nowhere")
    with pytest.raises(BenchError, match=r"none\.yaml"):
        bench.audit(tmp_path / "none.yaml")


def test_the_audit_of_a_run_needs_no_torch(run: Run) -> None:
    code = "import sys, bench; bench.audit(sys.argv[1]); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(run.folder)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
