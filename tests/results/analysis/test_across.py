"""Runs against each other: what is the same, what moved, what differs around them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import ttest_rel

from bench.results.analysis import compare_runs, holm
from bench.results.folder import Run
from tests.made_up_run import made_up_run


def _run(folder: Path, *, shift: Callable[[int], float] | None = None, **options: Any) -> Run:
    def change(row: dict[str, Any], _: dict[str, Any]) -> None:
        if shift is not None and row["strategy"] == "full_finetune":
            row["test_accuracy"] += shift(row["seed"])

    return made_up_run(folder, change=change, schedules=["cosine"], epochs=2, **options)


def test_equal_runs_are_the_same(tmp_path: Path) -> None:
    found = compare_runs(_run(tmp_path / "a"), _run(tmp_path / "b"))
    assert {change.judgement for change in found.changes} == {"same"}
    assert len(found.changes) == 4
    assert (found.environment, found.regressions) == ((), ())
    assert [d.name for d in found.suite] == ["name"]


@pytest.mark.parametrize(("amount", "judgement"), [(-0.05, "worse"), (0.02, "better")])
@pytest.mark.parametrize("seeds", [3, 9])
def test_a_change_beyond_the_noise(
    tmp_path: Path, seeds: int, amount: float, judgement: str
) -> None:
    before = _run(tmp_path / "a", seeds=seeds)
    after = _run(tmp_path / "b", seeds=seeds, shift=lambda seed: amount + 0.002 * (seed % 3))
    found = compare_runs(before, after)
    judged = {change.label: change.judgement for change in found.changes}
    assert judged.pop("full_finetune") == judgement
    assert set(judged.values()) == {"same"}
    assert len(found.regressions) == (judgement == "worse")


def test_few_seeds_are_judged_by_students_t(tmp_path: Path) -> None:
    before = _run(tmp_path / "a", seeds=4)
    after = _run(tmp_path / "b", seeds=4, shift=lambda seed: (0.01, -0.02, 0.03, 0.02)[seed])
    (change,) = (c for c in compare_runs(before, after).changes if c.label == "full_finetune")
    assert change.judgement == "within noise"
    sides = [
        run.trials.query("strategy == 'full_finetune'")["test_accuracy"] for run in (after, before)
    ]
    expected = ttest_rel(*sides)
    assert change.corrected == pytest.approx(holm([expected.pvalue, 1, 1, 1])[0])
    interval = expected.confidence_interval()
    assert change.interval == pytest.approx((interval.low, interval.high))


def test_what_differs_around_them(tmp_path: Path) -> None:
    environment = {"cpu": "other", "command": "x", "versions": {"torch": "2.11.0"}}
    before = _run(tmp_path / "a", strategies=["full_finetune", "from_scratch"])
    after = _run(
        tmp_path / "b", strategies=["full_finetune", "freeze_backbone"], environment=environment
    )
    found = compare_runs(before, after)
    assert [change.label for change in found.changes] == ["full_finetune"]
    assert (found.only_before, found.only_after) == (("from_scratch",), ("freeze_backbone",))
    differences = {d.name: (d.before, d.after) for d in found.environment}
    assert differences["versions.torch"] == ("2.15.0", "2.11.0")
    assert differences["python"] == ("3.11.7", "–")
    assert "command" not in differences


def test_failed_trials_and_other_seeds_do_not_count(tmp_path: Path) -> None:
    before = _run(tmp_path / "a", strategies=["full_finetune"], seeds=3)
    after = _run(tmp_path / "b", strategies=["full_finetune"], seeds=2)
    (change,) = compare_runs(before, after).changes
    assert change.seeds == (0, 1)
