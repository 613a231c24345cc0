"""What `bench show`, `bench why` and `bench compare` print."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from bench.errors import BenchError
from bench.results.analysis import compare_runs
from bench.results.folder import Run
from bench.results.report.reasons import find_trial, why
from bench.results.report.terminal import show_comparison, show_run, show_trial, sparkline
from tests.made_up_run import made_up_run


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
    assert "until the same command with --retry failed tries it again" in reasons["failed"]
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


def test_a_comparison_in_the_terminal(run: Run, tmp_path: Path) -> None:
    def worse(row: dict[str, Any], _: dict[str, Any]) -> None:
        if row["strategy"] == "full_finetune":
            row["test_accuracy"] -= 0.1 + 0.001 * row["seed"]

    other = made_up_run(tmp_path / "b", seeds=3, epochs=5, change=worse, environment={"cpu": "x"})
    shown = _printed(show_comparison(compare_runs(run, other)))
    lines = [line for line in shown.splitlines() if line.strip().startswith("full_finetune")]
    assert len(lines) == 2
    assert all("worse" in line and "-10." in line for line in lines)
    assert "environment differs in" in shown


def test_terminal_codes_and_markup_stay_text(tmp_path: Path) -> None:
    evil = "[red]a[/red]\x1b[2J\x1b]0;title\x07"
    run = made_up_run(tmp_path / "r", strategies=[evil, "b"], seeds=2, epochs=2)
    shown = _printed(
        [*show_run(run), *show_trial(run, find_trial(run, run.trials["trial"].iloc[0]))]
    )
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "[red]a[/red]" in shown
