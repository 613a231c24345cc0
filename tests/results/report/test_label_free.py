"""The report's section "Judging without labels", and what verdict.json has of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import weightedtau

from bench.results.folder import Run, read_run, write_json
from bench.results.folder.columns import LABEL_FREE
from bench.results.report import Findings, render_markdown
from bench.results.report.label_free import label_free_json, label_free_section
from tests.made_up_run import made_up_run
from tests.results.report.rendered import table_with

CERTAIN = {"from_scratch": -0.1, "full_finetune": -0.3, "freeze_backbone": -0.2}


def _add(row: dict[str, Any], _: dict[str, Any]) -> None:
    values = {"negative_entropy": CERTAIN[row["strategy"]]}
    row[LABEL_FREE] = json.dumps({"samples": 70, "values": values})


def _run(folder: Path, *, tested: bool) -> Run:
    run = made_up_run(folder, strategies=list(CERTAIN), schedules=["cosine"], change=_add)
    write_json(folder / "data.json", {**run.data, "target_tested": tested})
    return read_run(folder)


def _text(found: Findings) -> str:
    assert found.label_free is not None
    return render_markdown(label_free_section(found.label_free, found.grid))


def test_choices_stand_beside_the_oracle(tmp_path: Path) -> None:
    run = _run(tmp_path, tested=True)
    found = Findings(run=run)
    means = run.trials.groupby("strategy")["test_accuracy"].mean()
    best = str(means.idxmax())
    rows = table_with(_text(found), "chosen by").set_index("chosen by")
    assert rows.loc["oracle", "config"] == best
    assert rows.loc["negative entropy", "config"] == "from_scratch"
    regret = means[best] - means["from_scratch"]
    assert rows.loc["negative entropy", "regret"] == f"{100 * regret:+.1f}"
    told = label_free_json(found.label_free, found.grid)  # type: ignore[arg-type]
    assert found.verdict_json["label_free"] == told
    (own,) = [each for each in told["validators"] if each["name"] == "negative_entropy"]
    assert own["regret"] == pytest.approx(regret)
    assert own["low"] < own["regret"] < own["high"]
    tau = weightedtau(list(CERTAIN.values()), [means[name] for name in CERTAIN]).statistic
    assert own["correlation"] == pytest.approx(tau)


def test_without_a_test_split_of_the_target_there_is_no_oracle(tmp_path: Path) -> None:
    found = Findings(run=_run(tmp_path, tested=False))
    text = _text(found)
    assert "nobody knows what these reach there" in text
    assert "oracle" not in text
    assert "oracle" not in found.verdict_json["label_free"]
    assert "figure" not in found.verdict_json["label_free"]["validators"][0]


def test_a_run_without_target_data_says_nothing(tmp_path: Path) -> None:
    found = Findings(run=made_up_run(tmp_path, strategies=["a"], seeds=1, epochs=1))
    assert found.label_free is None
    assert "label_free" not in found.verdict_json
