"""Run folders that see more than one suite, and tables in the hands of other tools."""

from __future__ import annotations

import csv
import keyword
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import bench
from bench.errors import BenchError
from bench.results.plots import Drawn
from tests.odd_inputs.conftest import Notes, fill, plan_text, save_photograph, suite_of
from tests.odd_inputs.test_suites import FRACTALS
from tests.odd_inputs.test_weights import state_of

EARLIER = (
    r"no longer|earlier|previous|not (a )?part of|not in (the|this) suite|"
    r"(an)?other (suite|settings|data)|overwrit|replace[sd]|older|outside|remain|"
    r"left (by|from|over)"
)
WORK = r"TFLOP|trial-epochs|interval"
"""Of lines that every report has."""


class Folder:
    """A run folder, and what is told while suites run there one after the other."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def run(self, suite: Any, **options: Any) -> tuple[bench.Run, str]:
        """Plan and run; the run, and all that is told: plan, notes, report."""
        own = {"out": self.out, **options}
        told = plan_text(suite, **own)
        notes = Notes()
        run = bench.run(suite, device="cpu", workers=1, reporter=notes, **own)
        bench.report(run.folder, format="md")
        return run, "\n".join([told, str(notes), (run.folder / "report.md").read_text()])

    def readable(self) -> set[str]:
        """The trials whose results stand in any table below the folder."""
        found: set[str] = set()
        for path in self.out.rglob("*trials*.parquet"):
            table = pd.read_parquet(path)
            found |= set(table.loc[table["test_accuracy"].notna(), "trial"])
        return found


def of_earlier(told: str) -> list[str]:
    """The lines that speak of trials of an earlier run."""
    return [
        line
        for line in told.splitlines()
        if re.search(r"\b(trials?|runs?|results?|report)\b", line)
        and re.search(EARLIER, line)
        and not re.search(WORK, line)
        and not line.startswith("Disk:")
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """Without figures, which take most of the time of so small a run."""
    monkeypatch.setattr("bench.runs.run.write_report", lambda *_, **__: None)
    monkeypatch.setattr(
        "bench.results.report.write.write_plots", lambda *_, **__: Drawn(), raising=False
    )
    return Folder(tmp_path / "out")


# More than one suite in a folder --------------------------------------------------------------


def assert_told_and_kept(folder: Folder, before: tuple[bench.Run, str], told: str) -> None:
    run, first = before
    assert set(run.trials["trial"]) <= folder.readable()
    assert not of_earlier(first)
    assert of_earlier(told)


@pytest.mark.campaign
def test_another_learning_rate_in_the_same_folder_is_told(folder: Folder) -> None:
    before = folder.run(suite_of(FRACTALS))
    _, told = folder.run(suite_of(FRACTALS), overrides=["lr=0.05"])
    assert_told_and_kept(folder, before, told)


@pytest.mark.campaign
def test_a_cell_that_leaves_the_suite_is_told(folder: Folder) -> None:
    two = [{"name": "from_scratch"}, {"name": "from_scratch", "weight_decay": 0.1}]
    before = folder.run(suite_of(FRACTALS, strategy=two))
    _, told = folder.run(suite_of(FRACTALS))
    assert_told_and_kept(folder, before, told)


def test_a_part_of_a_run_leaves_the_whole_as_it_is(folder: Folder) -> None:
    suite = suite_of(FRACTALS, lr=[0.01, 0.05])
    whole, _ = folder.run(suite)
    part, _ = folder.run(suite, only=["lr=0.05"])
    assert set(part.trials["trial"]) == set(whole.trials["trial"])
    assert set(part.trials["status"]) == {"complete"}
    assert part.trials["test_accuracy"].notna().all()


@pytest.mark.campaign
def test_one_image_more_is_told_as_other_data(folder: Folder, tmp_path: Path) -> None:
    images = fill(tmp_path / "x", {"a": 10, "b": 10})
    before = folder.run(suite_of(images))
    save_photograph(images / "a" / "new.png", 99)
    _, told = folder.run(suite_of(images))
    assert_told_and_kept(folder, before, told)


@pytest.mark.campaign
def test_two_suites_of_one_name_do_not_lose_each_other(folder: Folder, tmp_path: Path) -> None:
    """work/a/suite.yaml and work/b/suite.yaml, both without a name of their own."""
    text = f"dataset: {FRACTALS}\nbackbone: shufflenet_v2_x0_5\nweights: none\nimage_size: 32\n"
    text += "strategy: from_scratch\nepochs: 1\nprecision: fp32\nseed: 0\n"
    for name, lr in (("a", 0.01), ("b", 0.05)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "suite.yaml").write_text(f"{text}lr: {lr}\n")
    before = folder.run(tmp_path / "a" / "suite.yaml")
    try:
        _, told = folder.run(tmp_path / "b" / "suite.yaml")
    except BenchError as error:
        told = before[1] + str(error)
    assert_told_and_kept(folder, before, told)


# Tables ---------------------------------------------------------------------------------------

CLASSES = ("label", "split", "trial")


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bench.Run]:
    """A run whose classes are called like columns, with weights of a file."""
    place = tmp_path_factory.mktemp("tables")
    torch.save(state_of(), place / "w.pth")
    images = fill(place / "images", dict.fromkeys(CLASSES, 10))
    suite = suite_of(images, strategy="linear_probe", weights={"file": str(place / "w.pth")})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.runs.run.write_report", lambda *_, **__: None)
        yield bench.run(suite, out=place / "out", device="cpu", workers=1)


def frames_of(run: bench.Run) -> dict[str, pd.DataFrame]:
    return {"trials": run.trials, "curves": run.curves, "predictions": run.predictions}


def test_no_column_hides_what_data_frames_can_do(tables: bench.Run) -> None:
    """`sample` and `head` are names of columns and of methods: the methods stay."""
    for frame in frames_of(tables).values():
        assert len(frame.sample(n=min(1, len(frame)))) == min(1, len(frame))
        assert len(frame.head(1)) == min(1, len(frame))


def test_tables_hold_no_path_of_this_machine(tables: bench.Run) -> None:
    place = str(tables.folder.parent.parent)
    for name, frame in frames_of(tables).items():
        for column in frame.columns:
            assert not frame[column].astype(str).str.contains(place, regex=False).any(), (
                f"{name}.{column}"
            )


def test_classes_called_like_columns_lose_nothing(tables: bench.Run) -> None:
    found = tables.predictions
    assert set(found["trial"]) == set(tables.trials["trial"])
    assert set(found["label"]) == set(CLASSES)
    numbers = found.select_dtypes("number")
    probabilities = numbers[[c for c in numbers if any(str(c).endswith(n) for n in CLASSES)]]
    assert probabilities.shape[1] == len(CLASSES)
    assert probabilities.sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-5)


def test_times_and_memory_have_their_units(tables: bench.Run) -> None:
    for frame in frames_of(tables).values():
        for column in map(str, frame.select_dtypes("number").columns):
            if re.search("memory|peak", column):
                assert re.search("(mib|gib|bytes)$", column)
            if re.search("time|duration", column):
                assert re.search("(seconds|minutes)$", column)
    bench.report(tables.folder, format=["md", "csv"])
    names = [name for path in tables.folder.rglob("*.csv") for name in header_of(path)]
    assert names
    texts = [*names, *re.split(r"[|\n]", (tables.folder / "report.md").read_text())]
    trial = tables.trials["trial"].iloc[0]
    texts += str(bench.show(tables.folder, trial)).splitlines()
    for text in texts:
        if re.search(r"\bpeak\b", text) and (text in names or re.search(r"\d", text)):
            assert re.search(r"MiB|GiB|mib|gib", text), text


def header_of(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return next(csv.reader(file))


def test_columns_are_names_in_programs(tables: bench.Run) -> None:
    for name, frame in frames_of(tables).items():
        for column in map(str, frame.columns):
            assert column.isidentifier(), f"{name}.{column}"
            assert not keyword.iskeyword(column), f"{name}.{column}"
            assert not column.startswith("_"), f"{name}.{column}"
