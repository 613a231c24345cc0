"""`bench advise`, and what a run writes down of it: what is told of a suite before training."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import bench
from bench.errors import BenchError
from bench.execution.executors import Where
from bench.execution.work import Work
from bench.methods.advice import RULES
from bench.results.analysis.transfer_scores import names_of_starts
from bench.results.folder import read_advice
from bench.results.report import write_report
from bench.runs.advise import LEAST_FLOPS, advise_before
from bench.runs.reporter import SilentReporter
from bench.runs.resolve import resolve_run
from tests.targets import vectors_loaded
from tests.texts import sentences
from tests.tiny import SMOKE_SUITE

TIMES = ["started", "finished", "train_seconds", "seconds", "peak_memory_mib"]


class Notes(SilentReporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.mark.campaign
@pytest.mark.usefixtures("no_report")
def test_advice_of_a_suite(tmp_path: Path) -> None:
    bench.run(SMOKE_SUITE, out=tmp_path)  # what is trained already costs what it costs
    advice = bench.advise(SMOKE_SUITE, out=tmp_path)
    facts = advice.facts
    assert (facts.samples, facts.classes, facts.majority) == (16, 2, 0.5)
    (start,) = facts.backbones
    assert start.pretrained
    assert start.parameters
    assert start.neighbour_accuracy is not None
    expected = advice.expected[start.backbone]
    neighbour = expected["nearest_neighbour"]
    assert neighbour.low <= start.neighbour_accuracy <= neighbour.high
    assert set(expected) == {"nearest_neighbour", "ridge_probe"}
    assert set(advice.rules) == set(RULES)
    assert [cell.strategy for cell in advice.cells] == ["from_scratch", "linear_probe"]
    assert all(cell.seconds for cell in advice.cells)
    assert advice.origin.complete == 4
    assert read_advice(tmp_path / "tiny") == advice


@pytest.mark.campaign
def test_a_run_that_writes_advice_has_the_bits_of_one_that_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.runs.run.write_report", partial(write_report, figures={}))
    runs = {}
    for advise in (True, False):
        monkeypatch.setenv("BENCH_CACHE", str(tmp_path / f"cache-{advise}"))
        out = tmp_path / str(advise)
        runs[advise] = bench.run(SMOKE_SUITE, out=out, executor="in-process", advise=advise)
    assert read_advice(runs[False].folder) is None
    advice = read_advice(runs[True].folder)
    assert advice is not None
    assert advice.origin.complete == 0
    assert advice.origin.data == runs[True].data["dataset_fingerprint"]
    for name in ("trials", "curves", "predictions"):
        with_it, without = (
            getattr(runs[each], name).drop(columns=TIMES, errors="ignore") for each in (True, False)
        )
        pd.testing.assert_frame_equal(with_it, without, check_exact=True)
    report = (runs[True].folder / "report.md").read_text()
    assert "The suite had other settings" not in report
    more = bench.run(SMOKE_SUITE.replace("[0, 1]", "[0, 1, 2]"), out=tmp_path / "True", advise=True)
    assert read_advice(more.folder) == advice  # that of the start is kept


@pytest.mark.campaign
def test_texts_have_lengths(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    made = sentences(40, seed=0)
    labels = [made.classes[label] for label in made.labels]
    suite = {
        "name": "texts", "dataset": {"name": "text", "lists": {"text": list(made.texts),
        "label": labels}}, "backbone": "bert_tiny", "weights": "none", "strategy": "from_scratch",
        "epochs": 1, "batch_size": 8, "max_length": 12,
    }  # fmt: skip
    advice = bench.advise(suite, out=tmp_path)
    (start,) = advice.starts
    assert start.texts is not None
    assert 2 < start.texts.median <= start.texts.longest <= start.texts.max_length == 12
    assert advice.expected == {}
    assert advice.cells[0].seconds


@pytest.mark.parametrize(
    ("asked", "flops", "written"),
    [(None, LEAST_FLOPS, True), (None, LEAST_FLOPS / 2, False), (True, 0, True),
     (False, LEAST_FLOPS, False)],
)  # fmt: skip
def test_a_run_writes_advice_where_it_is_asked_for_or_a_small_part(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: bool | None,
    flops: float,
    written: bool,
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("bench.runs.advise.transfer_scores", broken)
    told = Notes()
    resolved = resolve_run(SMOKE_SUITE, out=tmp_path)
    advise_before(resolved, Work(flops_done=int(flops)), asked=asked, where=Where(), reporter=told)
    wanted = ["note: nothing is advised before this run: OSError: no space left"]
    assert told.notes == (wanted if written else [])


def test_other_tasks_are_refused(tmp_path: Path) -> None:
    suite = {
        "name": "numbers", "task": "regression", "backbone": "tiny_mlp", "weights": "none",
        "dataset": {"name": "vector_values", "outputs": 2, "train": 30, "val": 20, "test": 24},
        "strategy": "from_scratch", "augmentation": "none", "epochs": 2, "seed": 0,
    }  # fmt: skip
    with vectors_loaded():
        with pytest.raises(BenchError, match="one class a sample"):
            bench.advise(suite, out=tmp_path)
        told = Notes()
        resolved = resolve_run(suite, out=tmp_path)
        advise_before(resolved, Work(), asked=True, where=Where(), reporter=told)
    assert "one class a sample" in told.notes[0]


def test_starts_of_one_backbone_have_names_of_their_own() -> None:
    starts = [(("r18", "imagenet"), "64 px"), (("r50", "imagenet"), "64 px")]
    starts += [(("r18", "fractals"), "64 px"), (("r18", "fractals"), "32 px")]
    assert list(names_of_starts(starts).values()) == [
        "r18, imagenet", "r50", "r18, fractals, 64 px", "r18, fractals, 32 px",
    ]  # fmt: skip
