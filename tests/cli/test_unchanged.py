"""A run with nothing to do says so without loading what trains, and only then."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.pictures import write_folder

SUITE = """\
name: small
dataset: {name: folder, path: pictures}
backbone: shufflenet_v2_x0_5
weights: none
strategy: from_scratch
image_size: 32
epochs: 1
batch_size: 8
lr: 0.01
precision: fp32
seed: 0
"""
RUN = """\
import sys
from bench.cli.main import main
sys.argv = ["bench", *sys.argv[1:]]
try:
    main()
finally:
    print("torch" in sys.modules)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.odd_inputs.conftest import fill

    place = tmp_path_factory.mktemp("unchanged")
    fill(place / "pictures", {"ants": 12, "bees": 12})
    (place / "small.yaml").write_text(SUITE)
    started(place)
    return place


def started(place: Path, *more: str) -> tuple[bool, str]:
    """Whether `bench run` loaded torch, and what it printed before."""
    command = [sys.executable, "-c", RUN, "run", "small.yaml", "--device", "cpu", *more]
    environment = {**os.environ, "BENCH_CACHE": str(place / "cache")}
    done = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    *text, loaded = done.stdout.splitlines()
    return loaded == "True", "\n".join(text)


def test_the_second_start_has_nothing_to_do(place: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (place / "results").rglob("*")}
    loaded, text = started(place)
    assert not loaded
    assert "nothing has changed" in text
    assert "Result:" in text
    assert f"report: {Path('results', 'small', 'report.md')}" in text
    after = {path: path.stat().st_mtime_ns for path in (place / "results").rglob("*")}
    assert after == before


@pytest.mark.campaign
def test_whatever_changes_is_seen(place: Path) -> None:
    folder = place / "results" / "small"

    def seen(*more: str) -> str:
        """It is looked at, and is well afterwards."""
        loaded, text = started(place, *more)
        assert loaded
        if not more:
            assert not started(place)[0]
        return text

    (folder / "report.md").unlink()
    seen()
    assert (folder / "report.md").is_file()
    (folder / "trials.parquet").write_bytes(b"")
    seen()
    assert (folder / "trials.parquet").stat().st_size > 1000
    (folder / "more.txt").write_text("mine")
    seen()
    for name in (place / "cache" / "endings").iterdir():
        name.write_text(json.dumps({"files": 1, "lines": ["lies"]}))
    assert "lies" not in seen()
    seen("--set", "epochs=2")
    seen()
    seen("--no-reuse")
    os.replace(place / "pictures" / "ants" / "000.png", place / "pictures" / "bees" / "999.png")
    assert "1 to train" in seen()
    suite = place / "small.yaml"
    suite.write_text(SUITE.replace("path: pictures", "path: pictures, target_data: phone"))
    write_folder(place / "phone", {"may": 3})
    started(place)
    shutil.copy(place / "phone" / "may" / "000.png", place / "phone" / "one_more.png")
    assert started(place)[0]
