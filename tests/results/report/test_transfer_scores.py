"""The report's section "Transfer scores"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import weightedtau

from bench.results.folder import Run, ScoreRow, read_run, write_transfer_scores
from bench.results.report import Findings, document, render_html, render_markdown
from bench.results.report.transfer_scores import transfer_scores_section
from tests.made_up_run import made_up_run
from tests.results.folder.test_transfer_scores import ROW
from tests.results.report.rendered import table_with

REACHED = {"resnet18": 0.7, "resnet34": 0.9, "resnet50": 0.8}


def a_run(folder: Path, backbones: Mapping[str, float] = REACHED, **options: Any) -> Run:
    """Two configs a backbone; the one that validation prefers has this test accuracy."""
    names = [f"{name}/{way}" for name in backbones for way in ("good", "bad")]

    def change(row: dict[str, Any], curves: dict[str, Any]) -> None:
        row["backbone"], row["strategy"] = row["strategy"].split("/")
        good = row["strategy"] == "good"
        row["test_accuracy"] = backbones[row["backbone"]] + (0.0 if good else 0.09)
        row["val_accuracy"] = 0.9 if good else 0.5
        options.get("also", lambda _: None)(row)

    return made_up_run(
        folder, strategies=names, schedules=("cosine",), seeds=2, epochs=2, change=change
    )


def scored(backbone: str, logme: float, *others: ScoreRow) -> Sequence[ScoreRow]:
    own = replace(ROW, backbone=backbone)
    return (
        replace(own, group="stem", value=-1.0),
        replace(own, group="stem", score="h_score", value=0.5),
        replace(own, value=logme),
        replace(own, score="h_score", value=None, reason="too few"),
        replace(own, group="head", score="leep", value=None, reason="no classifier"),
        *others,
    )


LOGME = {"resnet18": -0.3, "resnet34": -0.2, "resnet50": -0.1}


def section(run: Run, rows: Sequence[ScoreRow]) -> str:
    write_transfer_scores(run.folder, rows)
    return render_markdown(transfer_scores_section(run))


def test_scores_stand_by_backbone_and_layer_group(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    rows = [row for name, value in LOGME.items() for row in scored(name, value)]
    text = section(run, rows)
    table = table_with(text, "LogME")
    assert list(table.columns) == ["backbone", "LogME", "test accuracy (%)"]
    assert table.iloc[1].tolist() == ["resnet34", "-0.2", "90.0"]
    groups = table_with(text, "layer group")
    assert list(groups.columns) == ["backbone", "layer group", "LogME", "H-score"]
    assert groups.iloc[1].tolist() == ["resnet18", "layer4", "-0.3", "–"]
    assert len(groups) == 6
    assert "195 training images" in text
    assert "predict no figure" in text
    assert "LogME: log evidence per sample" in text
    assert "LEEP, resnet18; resnet34; resnet50:** no classifier" in text
    assert "H-score, resnet18 (layer4); resnet34 (layer4); resnet50 (layer4):** too few" in text
    tau = weightedtau(list(LOGME.values()), list(REACHED.values())).statistic
    assert f"weighted Kendall τ of LogME {tau:+.2f}. 1 is" in text  # the H-score is of the stem


def test_the_section_is_in_the_whole_report_and_nothing_without_a_table(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", {"resnet18": 0.7})
    assert list(transfer_scores_section(run)) == []
    write_transfer_scores(run.folder, scored("resnet18", -0.3))
    found = Findings(run=run)
    blocks = list(document(found, {}))
    assert "### Transfer scores" in render_markdown(blocks)
    assert "Transfer scores" in render_html(blocks, found, {})


def incomplete(row: dict[str, Any]) -> None:
    if row["backbone"] == "resnet50" and row["seed"] == 1:
        row |= {"status": "failed", "error": "it broke"}


@pytest.mark.parametrize("why", ["two backbones", "not complete", "one without a score"])
def test_a_correlation_needs_all_results_of_three_backbones(tmp_path: Path, why: str) -> None:
    reached = {**REACHED}
    if why == "two backbones":
        del reached["resnet34"]
    run = a_run(tmp_path / "run", reached, **({"also": incomplete} if "complete" in why else {}))
    rows = [row for name, value in LOGME.items() for row in scored(name, value)]
    if why == "one without a score":
        rows = [
            replace(row, value=None, reason="not finite")
            if row.backbone == "resnet50" and row.score == "logme" and row.group == "layer4"
            else row
            for row in rows
        ]
    text = section(run, rows)
    assert "Kendall" not in text
    assert "resnet34" not in text or why != "two backbones"


def test_what_tells_two_starts_of_a_backbone_apart_is_named(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", {"resnet18": 0.7})
    larger = [replace(row, preprocessing="larger") for row in scored("resnet18", -0.2)]
    text = section(read_run(run.folder), [*scored("resnet18", -0.3), *larger])
    names = set(table_with(text, "LogME")["backbone"])
    assert names == {'resnet18, {"image_size": 224}', "resnet18, larger"}


def test_a_backbone_without_scores_is_named_with_the_reason(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", {"resnet18": 0.7})
    row = replace(ROW, samples=0, group=None, value=None, reason="no network")
    text = section(run, [row])
    assert "LogME, resnet18:** no network" in text
    assert "|" not in text
