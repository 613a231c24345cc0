"""`bench predict` at the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bench
from tests.cli.test_cli import call

pytestmark = pytest.mark.xdist_group("opened")


def test_it_prints_a_row_a_file_and_names_what_it_could_not_read(
    opened_run: bench.Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(3):
        pixels = np.full((40, 40, 3), 80 * number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"[b]{number}.png")
    arguments = ("predict", opened_run.folder, tmp_path, "--device", "cpu")
    code, out, err = call(capsys, monkeypatch, *arguments, "--top", 2)
    assert code == 0
    assert "The verdict recommends" in err
    assert [line for line in out.splitlines() if "[b]" in line]
    table = bench.predict(opened_run.folder, tmp_path, device="cpu").table
    for _, row in table.iterrows():
        assert f"{100 * row['confidence']:.1f} %" in out
    (tmp_path / "bad.png").write_bytes(b"no")
    code, out, err = call(capsys, monkeypatch, *arguments, "--out", tmp_path / "found.csv")
    assert code == 1
    assert "4 rows: " in out
    assert "not read" in err
    assert "bad.png: not an image of a known format" in err
    assert len((tmp_path / "found.csv").read_text().splitlines()) == 5


def test_a_wrong_command_line_is_one_message(
    opened_run: bench.Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for arguments, message in (
        ((tmp_path / "none", "x.png"), "a run folder must exist"),
        ((opened_run.folder, "x.png"), "there is no file or folder x.png"),
        ((opened_run.folder, "x.png", "--trial", "zz"), "TRIAL must be the id of a trial"),
        ((opened_run.folder, "x.png", "--device", "tpu"), "--device must be"),
    ):
        code, out, err = call(capsys, monkeypatch, "predict", *arguments)
        assert (code, out) == (2, "")
        assert message in " ".join(err.split())
        assert "Traceback" not in err
