"""The sections "By class" and "Calibration" of a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.results.analysis import read_verdict, wilson_interval
from bench.results.folder import Run, RunStore, prediction_columns, read_run
from bench.results.grid import read_grid
from bench.results.report.markdown import render_markdown
from bench.results.report.predictions import MAX_CLASSES, predictions_sections
from tests.made_up_run import made_up_run
from tests.results.report.rendered import table_with


def sections(run: Run) -> str:
    grid = read_grid(run.trials, run.metric)
    return render_markdown(predictions_sections(run, grid, read_verdict(run)))


def with_validation(run: Run) -> Run:
    """The run with predictions of the validation split: some of those of the test split."""
    store = RunStore(run.folder)
    classes = [str(name).removeprefix("probability_") for name in run.predictions][4:]
    for trial, own in run.predictions.groupby("trial"):
        part = store.read_part(str(trial))
        sides = [(own, "test"), (own.head(100), "val")]
        tables = [_columns(side, split, classes) for side, split in sides]
        joined = {name: [*tables[0][name], *tables[1][name]] for name in tables[0]}
        store.write_part(part.trial_row, part.curves, joined)
    store.consolidate(list(run.trials["trial"]))
    return read_run(run.folder)


def _columns(side: pd.DataFrame, split: str, classes: list[str]) -> dict[str, Any]:
    index = {name: place for place, name in enumerate(classes)}
    probabilities = side[[f"probability_{name}" for name in classes]].to_numpy("float32")
    return prediction_columns(
        samples=[f"{split}/{Path(name).name}" for name in side["sample"]],
        labels=side["label"].map(index).to_numpy(),
        probabilities=probabilities,
        classes=classes,
        split=split,
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One config with one seed, of which no validation predictions are kept."""
    folder = tmp_path_factory.mktemp("alone") / "r"
    return made_up_run(
        folder, strategies=["full_finetune"], schedules=["cosine"], seeds=1, epochs=2
    )


def test_classes_of_one_seed_stand_with_wilsons_intervals(alone: Run) -> None:
    text = sections(alone)
    found = table_with(text, "recall").set_index("class")
    assert list(found.index) == ["ants", "bees"]
    own = alone.predictions
    for name, row in found.iterrows():
        of_class, called = own["label"] == name, own["predicted"] == name
        hits = int((of_class & called).sum())
        low, high = wilson_interval(hits, int(of_class.sum()))
        assert row["images"] == str(of_class.sum())
        assert row["recall"] == f"{100 * hits / of_class.sum():.1f}"
        assert row["95 %"].iloc[0] == f"{100 * low:.1f}–{100 * high:.1f}"
        assert row["precision"] == f"{100 * hits / called.sum():.1f}"
        assert row["predicted"] == str(called.sum())
    assert "for these models on other images" in text


def test_without_validation_predictions_it_says_why(alone: Run, tmp_path: Path) -> None:
    text = sections(alone)
    assert "has no predictions of these trials on the validation split" in text
    assert list(table_with(text, "metric").columns) == ["metric", "test", "95 %"]
    counts = {name: own for name, own in alone.data["counts"].items() if name != "val"}
    run = made_up_run(
        tmp_path / "r", strategies=["full_finetune"], schedules=["cosine"], seeds=1, epochs=2,
        data={**alone.data, "counts": counts},
    )  # fmt: skip
    assert "Without a validation split no temperature can be fitted" in sections(run)


def test_before_and_after_a_temperature_stand_side_by_side(tmp_path: Path) -> None:
    run = with_validation(made_up_run(tmp_path / "r", schedules=["cosine"], seeds=3, epochs=2))
    verdict = read_verdict(run)
    text = sections(run)
    name = verdict.recommended or verdict.leader
    assert f"Of {name} (3 trainings)" in text.replace("\\", "")
    found = table_with(text, "before")
    assert list(found["metric"]) == ["log loss", "Brier score", "calibration error (%)"]
    assert (found["verdict"].isin(["better", "worse", "open"])).all()
    # Validation is a part of the test split here, so the loss falls.
    assert float(found["after"][0]) < float(found["before"][0])
    assert "T = " in text
    assert "for other seeds and images" in text


def test_of_many_classes_the_ones_that_are_found_least_are_shown(tmp_path: Path) -> None:
    classes = [f"class {index:02}" for index in range(60)]
    run = made_up_run(
        tmp_path / "r", strategies=["full_finetune"], schedules=["cosine"], seeds=1, epochs=2,
        classes=classes,
    )  # fmt: skip
    text = sections(run)
    found = table_with(text, "recall")
    assert len(found) == MAX_CLASSES
    right = run.predictions.assign(right=run.predictions["label"] == run.predictions["predicted"])
    recall = right.groupby("label")["right"].mean().sort_values()
    shown = [float(value) for value in found["recall"]]
    assert shown == pytest.approx([100 * value for value in recall[:MAX_CLASSES]], abs=0.051)
    assert f"The {MAX_CLASSES} with the lowest recall of 60 classes" in text


def test_a_run_without_predictions_has_neither_section(tmp_path: Path) -> None:
    run = made_up_run(
        tmp_path / "r", strategies=["full_finetune"], schedules=["cosine"], seeds=1, epochs=2
    )
    store = RunStore(run.folder)
    for trial in run.trials["trial"]:
        part = store.read_part(trial)
        store.write_part(part.trial_row, part.curves, ())
    store.consolidate(list(run.trials["trial"]))
    assert sections(read_run(run.folder)).strip() == ""
