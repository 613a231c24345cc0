"""What `bench show`, `bench why` and `bench compare` print."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console, RenderableType

from bench.errors import BenchError
from bench.results.analysis import compare_runs
from bench.results.folder import Run
from bench.results.report.reasons import find_trial, why
from bench.results.report.terminal import show_comparison, show_run, show_trial, sparkline
from tests.made_up_run import made_up_run
from tests.results.scored_run import Scored, scored_run


def _printed(parts: Iterable[RenderableType]) -> str:
    console = Console(width=200, color_system=None, record=True, quiet=True)
    with console.capture() as capture:
        console.quiet = False
        for part in parts:
            console.print(part, highlight=False)
    return capture.get()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made_up_run(tmp_path_factory.mktemp("r") / "made_up", seeds=3, epochs=5)


def test_sparklines_span_the_range() -> None:
    assert sparkline([0.0, 0.5, 1.0], low=0.0, high=1.0) == "▁▅█"
    assert sparkline([float("nan"), 0.3], low=0.3, high=0.3) == " ▁"
    assert len(sparkline([0.5] * 1000, low=0, high=1)) <= 60
    assert sparkline([], low=0, high=1) == ""


def test_a_run_in_the_terminal(run: Run) -> None:
    shown = _printed(show_run(run))
    means = 100 * run.trials.groupby(["strategy", "schedule"])["test_accuracy"].mean()
    for (strategy, schedule), mean in means.items():
        (line,) = (x for x in shown.splitlines() if f" {strategy} · {schedule} " in x)
        assert f" {mean:.1f} " in line
        assert sum(character in "▁▂▃▄▅▆▇█" for character in line) == 5


def test_a_trial_in_the_terminal(run: Run) -> None:
    row = run.trials.iloc[3]
    trial = find_trial(run, row["trial"][:8])
    shown = _printed(show_trial(run, trial))
    assert f"{row['strategy']} · {row['schedule']} · seed {row['seed']}" in shown
    assert f"Epoch {row['best_epoch']} was chosen" in shown
    assert "val accuracy" in shown
    assert "train loss" in shown


def test_trials_are_found_by_id_and_by_label(run: Run) -> None:
    row = run.trials.iloc[0]
    label = f"{row['strategy']} · {row['schedule']} · seed {row['seed']}"
    assert find_trial(run, label)["trial"] == row["trial"]
    with pytest.raises(BenchError, match="must name one trial, '' begins 24"):
        find_trial(run, "")
    with pytest.raises(BenchError, match="got 'nothing'"):
        find_trial(run, "nothing")


def test_why_a_trial_became_what_it_is(tmp_path: Path) -> None:
    def change(row: dict[str, Any], curves: dict[str, Any]) -> None:
        if row["strategy"] == "failed":
            row.update(status="failed", error="lower lr", test_accuracy=None)
        if row["strategy"] == "skipped":
            row.update(status="skipped", error="no such head", test_accuracy=None)
        if row["strategy"] == "early":
            kept = [i for i, epoch in enumerate(curves["epoch"]) if epoch <= 3]
            for name, values in curves.items():
                curves[name] = [values[i] for i in kept]
        if row["strategy"] == "shared":
            row["reused_epochs"] = 2
            curves["loss"] = [0.7, 0.6, 0.5, 0.4, 0.7, 0.6, 0.5, 0.4]
        if row["strategy"] == "first":
            curves["loss"] = [0.7, 0.6, 0.3, 0.2, 0.7, 0.6, 0.3, 0.2]

    strategies = ["failed", "skipped", "early", "first", "shared", "pretrained_head"]
    run = made_up_run(
        tmp_path / "r",
        strategies=strategies,
        schedules=["s"],
        seeds=1,
        epochs=4,
        change=change,
        environment={"started": "2026-03-01T09:00:00+00:00"},
    )
    reasons = {
        str(row["strategy"]): " ".join(why(run, find_trial(run, row["trial"])))
        for row in run.trials.to_dict("records")
    }
    assert "failed after 0 finished epochs: lower lr" in reasons["failed"]
    assert "add --retry failed to run it again" in reasons["failed"]
    assert reasons["skipped"] == "It was skipped before anything ran: no such head."
    assert "stopped early, after 3 of 4 epochs" in reasons["early"]
    assert "together with an earlier trial (such as first · seed 0)" in reasons["shared"]
    assert "trained by the last start of this run" in reasons["first"]
    assert "It trains nothing" in reasons["pretrained_head"]


def test_what_an_earlier_start_trained_was_kept(tmp_path: Path) -> None:
    started = {"started": "2026-03-02T00:00:00+00:00"}
    run = made_up_run(tmp_path / "r", seeds=1, epochs=2, environment=started)
    first, *_ = why(run, find_trial(run, run.trials["trial"].iloc[0]))
    assert first.startswith("It was trained by an earlier start of this run (finished 2026-03-01")


def test_a_comparison_in_the_terminal(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rights = [rng.random((3, 300)) < p for p in (0.95, 0.9)]
    before = scored_run(
        tmp_path / "a",
        [
            Scored(right=each, axes={"strategy": name})
            for name, each in zip("pq", rights, strict=True)
        ],
    )
    after = scored_run(
        tmp_path / "b",
        [
            Scored(right=rng.random((3, 300)) < 0.6, axes={"strategy": "p", "lr": 0.001}),
            Scored(right=rights[1], axes={"strategy": "q"}),
            Scored(right=rights[1], axes={"strategy": "r"}),
        ],
    )
    shown = _printed(show_comparison(compare_runs(before, after)))
    (line,) = (line for line in shown.splitlines() if "p (lr 0.01 → 0.001)" in line)
    assert "worse" in line
    assert re.search(r" same *$", shown, flags=re.MULTILINE)
    assert "corrected over 2 configs" in shown
    assert "only in the second: r" in shown


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_are_told(tmp_path: Path, seeds: int) -> None:
    right = np.random.default_rng(0).random((seeds, 300)) < 0.9
    before = scored_run(tmp_path / "a", [Scored(right=right)])
    after = scored_run(tmp_path / "b", [Scored(right=right & (np.arange(300) > 90))])
    shown = _printed(show_comparison(compare_runs(before, after)))
    assert "With fewer than 3 common seeds only the trained models are compared" in shown
    assert "open; these models: worse" in shown


def _compared(before: Run, after: Run) -> str:
    """On one line."""
    return " ".join(_printed(show_comparison(compare_runs(before, after))).split())


def test_what_cannot_be_compared_is_told(tmp_path: Path) -> None:
    right = np.random.default_rng(0).random((3, 300)) < 0.9
    before = scored_run(tmp_path / "a", [Scored(right=right)], data={"fingerprint": "x"})
    bare = scored_run(tmp_path / "b", [Scored(right=right)], predictions=False)
    shown = _compared(before, bare)
    assert "Nothing can be claimed: the second run has no predictions of it." in shown
    names = [f"other/{index}" for index in range(300)]
    other = scored_run(tmp_path / "c", [Scored(right=right)], samples=names)
    shown = _compared(before, other)
    assert "The runs have no test image in common" in shown
    part = scored_run(
        tmp_path / "d",
        [Scored(right=right[:, :100])],
        samples=[f"test/{index:04}.jpg" for index in range(100)],
        labels=np.arange(100) % 2 ^ (np.arange(100) < 10),
        data={"fingerprint": "y"},
    )
    shown = _compared(before, part)
    assert "The data of the two runs are not the same" in shown
    assert (
        "The first run has 300 test images, the second 100: the 90 that both have are compared; "
        "10 with another label are left out." in shown
    )
    unclear = scored_run(
        tmp_path / "e", [Scored(right=right, axes={"lr": lr}) for lr in (0.1, 0.001)]
    )
    shown = _compared(before, unclear)
    assert "not joined, as it is not clear which belongs to which: full_finetune (first)" in shown
    assert "The runs have no config in common." in shown


def test_terminal_codes_and_markup_stay_text(tmp_path: Path) -> None:
    evil = "[red]a[/red]\x1b[2J\x1b]0;title\x07"
    run = made_up_run(tmp_path / "r", strategies=[evil, "b"], seeds=2, epochs=2)
    shown = _printed(
        [*show_run(run), *show_trial(run, find_trial(run, run.trials["trial"].iloc[0]))]
    )
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "[red]a[/red]" in shown
