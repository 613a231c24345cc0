"""Whatever becomes of a file that is kept, the next run has the numbers of one left alone.

The lists are those of docs/reliability.md.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd
import pytest

import bench
from bench.errors import BenchError
from bench.results.folder import read_run, read_thumbnails
from bench.results.folder.looks import read_looks
from bench.results.report import write_report
from bench.runs.reporter import SilentReporter
from tests.damage import LOSSES, lose
from tests.data.pictures import write_folder

SUITE = """\
name: tiny
dataset: {{name: folder, path: {data}}}
backbone: shufflenet_v2_x0_5
weights: {{name: fractals, classes: 3, images_per_class: 8, epochs: 1}}
strategy: [from_scratch, linear_probe]
schedule: constant
augmentation: standard
epochs: 1
batch_size: 8
lr: 0.01
precision: fp32
image_size: 32
seed: 0
after: [temperature, {{name: ensemble, members: greedy}}]
"""

CACHE = {
    "prepared images": "images/*/images.npy",
    "what they are": "images/*/metadata.json",
    "their checksums": "images/*/checksums.json",
    "copies among them": "images/*/copies-*.npz",
    "hashes of files": "file-hashes/*.json",
    "features": "features/*",
    "views": "views/*",
    "states": "states/*",
    "weights from fractals": "weights/fractals/*.safetensors",
}
RUN = (
    "suite.yaml",
    "environment.json",
    "data.json",
    "accounts.json",
    "thumbnails.parquet",
    "trials.parquet",
    "curves.parquet",
    "predictions.parquet",
    "children.parquet",
    "child_predictions.parquet",
    "verdict.json",
    "report.md",
    "report.html",
    "checkpoints/*.safetensors",
    "parts/*/trials.parquet",
    "parts/*/curves.parquet",
    "parts/*/predictions.parquet",
    "parts/*/checksums.json",
)
TIMES = ["started", "finished", "train_seconds", "seconds", "peak_memory_mib", "reused_epochs"]
FEW = ("half", "flipped", "folder")
"""Kinds of damage that the quick tests do to all files at once."""


class Notes(SilentReporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    layout = {f"{split}/{name}": 6 for split in ("train", "val", "test") for name in "ab"}
    path = folder / "tiny.yaml"
    path.write_text(SUITE.format(data=write_folder(folder / "pictures", layout)))
    settled = os.stat(path).st_mtime - 60  # files that have just changed are not remembered
    for picture in folder.rglob("*.png"):
        os.utime(picture, (settled, settled))
    return path


@pytest.fixture(scope="module")
def original(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a `cache` and the run `out/tiny`."""
    folder = tmp_path_factory.mktemp("original")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(folder / "cache"))
        patch.setattr("bench.runs.run.write_report", lambda run: write_report(run, figures={}))
        bench.run(suite, out=folder / "out", executor="in-process")
        yield folder


@pytest.fixture
def place(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to be damaged."""
    shutil.copytree(original, tmp_path / "copy")
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "copy" / "cache"))
    return tmp_path / "copy"


def numbers(run: Path) -> list[pd.DataFrame]:
    read = read_run(run)
    kin = dict(
        zip(read.children["child"], read.children["name"] + read.children["of"], strict=True)
    )
    made = read.child_predictions.assign(trial=read.child_predictions["trial"].map(kin))
    # Of trials that were trained anew they have other ids.
    tables = (
        read.trials,
        read.curves,
        read.predictions,
        read.children.drop(columns="child"),
        made,
    )
    return [table.drop(columns=TIMES, errors="ignore") for table in tables]


def check_equal(original: Path, place: Path) -> None:
    for one, other in zip(numbers(original / "out" / "tiny"), numbers(place), strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    # Starting weights are a second name of a file of the cache: damage to one is damage to both,
    # which is found when a trial is opened.
    for file in (original / "out" / "tiny" / "checkpoints").glob("[!s]*"):
        assert (place / "checkpoints" / file.name).read_bytes() == file.read_bytes()


def damage_cache(place: Path, patterns: list[str], how: str) -> None:
    for pattern in patterns:
        files = [f for f in (place / "cache").glob(pattern) if not f.name.startswith(".")]
        assert files, f"nothing is kept as {pattern}"
        for file in files:
            lose(file, how)


def damage_run(place: Path, patterns: list[str], how: str) -> Path:
    run = place / "out" / "tiny"
    for pattern in patterns:
        files = list(run.glob(pattern))
        assert files, f"nothing is kept as {pattern}"
        for file in files:
            lose(file, how)
    return run


def documented(heading: str) -> list[str]:
    """The patterns of files in a table of the page."""
    page = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text()
    section = page.partition(f"### {heading}\n")[2].partition("\n##")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    names = [name for cell in cells for name in re.findall("`([^`]+)`", cell)]
    folders = {name.rpartition("/")[0] for name in names}
    return [re.sub(r"[A-Z]{2,}|\bN\b", "*", name) for name in names] + [
        re.sub("[A-Z]{2,}", "*", f"{folder}/{name}") for folder in folders for name in names
    ]


def undocumented(root: Path, patterns: list[str]) -> list[str]:
    files = [file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file()]
    assert files
    return [file for file in files if not any(fnmatchcase(file, pattern) for pattern in patterns)]


def test_every_kept_file_is_in_the_tables(original: Path) -> None:
    assert undocumented(original / "cache", documented("The cache")) == []
    assert undocumented(original / "out" / "tiny", documented("The run folder")) == []


@pytest.mark.parametrize("how", FEW)
@pytest.mark.campaign
def test_a_cache_of_which_everything_is_damaged(
    original: Path, place: Path, suite: Path, how: str
) -> None:
    damage_cache(place, list(CACHE.values()), how)
    bench.run(suite, out=place / "new", executor="in-process")
    check_equal(original, place / "new" / "tiny")


@pytest.mark.campaign
@pytest.mark.parametrize("how", LOSSES)
@pytest.mark.parametrize("kind", CACHE)
def test_each_kind_of_the_cache(
    original: Path, place: Path, suite: Path, kind: str, how: str
) -> None:
    damage_cache(place, [CACHE[kind]], how)
    bench.run(suite, out=place / "new", executor="in-process")
    check_equal(original, place / "new" / "tiny")


@pytest.mark.parametrize("how", FEW)
@pytest.mark.campaign
def test_a_run_folder_of_which_everything_is_damaged(
    original: Path, place: Path, suite: Path, how: str
) -> None:
    run = damage_run(place, list(RUN), how)
    bench.run(suite, out=place / "out", executor="in-process")
    check_equal(original, run)
    assert read_run(run).data == read_run(original / "out" / "tiny").data
    assert read_thumbnails(run).keys() == read_thumbnails(original / "out" / "tiny").keys()
    assert (run / "report.md").is_file()
    assert (run / "verdict.json").is_file()


@pytest.mark.campaign
@pytest.mark.parametrize("how", LOSSES)
@pytest.mark.parametrize("pattern", RUN)
def test_each_file_of_a_run_folder(
    original: Path, place: Path, suite: Path, pattern: str, how: str
) -> None:
    run = damage_run(place, [pattern], how)
    bench.run(suite, out=place / "out", executor="in-process")
    if not (pattern.startswith("checkpoints") and how == "deleted"):
        check_equal(original, run)


@pytest.mark.parametrize("how", ["half", "deleted"])
def test_a_damaged_checkpoint_is_noticed_by_report_plan_and_run(
    original: Path, place: Path, suite: Path, how: str
) -> None:
    run = place / "out" / "tiny"
    file = min((run / "checkpoints").iterdir())
    lose(file, how)
    write_report(read_run(run), figures={}, formats=["md"])
    report = (run / "report.md").read_text()
    told = Notes()
    planned = bench.plan(suite, out=place / "out", executor="in-process", reporter=told)
    if how == "deleted":  # by somebody who needed the disk
        assert "damaged" not in report
        assert not any("checkpoint" in note for note in planned.notes)
        return
    assert "These checkpoints are damaged" in report
    assert f"checkpoints/{file.name}: it is cut short" in report
    assert any(f"checkpoints/{file.name} is damaged" in note for note in planned.notes)


def test_a_changed_description_of_the_data_is_found_and_made_anew(
    original: Path, place: Path, suite: Path
) -> None:
    file = place / "out" / "tiny" / "data.json"
    file.write_text(file.read_text().replace('"a": 6', '"a": 7'))
    with pytest.raises(BenchError, match="its checksum is wrong"):
        read_run(file.parent)
    told = Notes()
    bench.run(suite, out=place / "out", executor="in-process", reporter=told)
    assert read_run(file.parent).data == read_run(original / "out" / "tiny").data


@pytest.mark.parametrize("how", [how for how in LOSSES if how != "deleted"])
def test_damaged_looks_are_not_forgotten_in_silence(place: Path, how: str) -> None:
    file = place / "out" / "tiny" / "looks.json"
    if not file.exists():
        from bench.results.folder.looks import look_at

        look_at(file.parent, ["one"])
    lose(file, how)
    with pytest.raises(BenchError, match="delete it: then looks are counted"):
        read_looks(file.parent)
