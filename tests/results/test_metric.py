"""A run by another metric: what is better follows it everywhere, and nothing speaks of accuracy."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from bench.errors import BenchError
from bench.results.analysis import (
    compare_runs,
    natural_target,
    rank_over_blocks,
    reach_verdict,
    representatives,
    trial_measures,
    variance_shares,
)
from bench.results.folder import Run, read_run, write_json
from bench.results.grid import rank_configs, read_grid
from bench.results.metric import ACCURACY, Metric
from bench.results.plots import draw_figures
from bench.results.report import Findings, document, render_markdown, write_report
from bench.results.report.html import page_data
from bench.results.report.reasons import why
from bench.results.report.tables import render_csv, render_latex, tables
from bench.results.report.terminal import show_comparison, show_run, show_trial
from bench.results.trackers import _points
from tests.made_up_run import BRIER, CLASSES, mirrored_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return mirrored_run(tmp_path_factory.mktemp("runs") / "made_up", seeds=8)


def _copied(run: Run, folder: Path) -> Run:
    for path in run.folder.glob("*.*"):
        (folder / path.name).write_bytes(path.read_bytes())
    return read_run(folder)


def _plain(*parts: Any) -> str:
    console = Console(width=400)
    with console.capture() as captured:
        for part in parts:
            console.print(part, highlight=False)
    return captured.get()


def test_figures_of_fractions_are_percent_and_others_plain() -> None:
    score = Metric(name="s", label="score", higher_is_better=False, percent=False)
    assert [ACCURACY.text(0.935), ACCURACY.difference(0.012)] == ["93.5 %", "+1.2"]
    assert [score.text(v) for v in (0.12345, 0.0, 1e-5, 12345.6)] == [
        "0.123", "0.000", "1e-05", "1.2e+04",
    ]  # fmt: skip
    assert score.difference(-0.0123) == "-0.012"
    # What rounds to nothing has no side.
    assert (ACCURACY.text(-1e-5), ACCURACY.difference(-1e-5)) == ("0.0 %", "+0.0")
    assert score.text(-0.0) == "0.000"
    seeds = (0.96, 0.97, 0.9725)
    one, other = sum(seeds) / 3, sum(seed / 3 for seed in seeds)
    assert one != other
    assert ACCURACY.text(one) == ACCURACY.text(other) == "96.8 %"
    assert (ACCURACY.axis_label, score.axis_label) == ("accuracy (%)", "score")


def test_what_is_better_is_the_same_on_either_side_of_the_mirror(run: Run) -> None:
    trials = run.trials
    plain, mirrored = read_grid(trials), read_grid(trials, run.metric)
    ranked, turned = rank_configs(trials, plain), rank_configs(trials, mirrored)
    assert [r.config for r in turned] == [r.config for r in ranked]
    means = [r.test.mean for r in turned]
    assert means == sorted(means)
    assert representatives(trials, mirrored) == representatives(trials, plain)
    one, other = (reach_verdict(trials, grid, run.predictions) for grid in (plain, mirrored))
    assert [c.name for c in other.contenders] == [c.name for c in one.contenders]
    assert other.recommended == one.recommended
    for accurate, scored in zip(one.comparisons, other.comparisons, strict=True):
        assert scored.difference == pytest.approx(-accurate.difference, abs=1e-6)
        assert scored.interval == pytest.approx(accurate.turned().interval, abs=1e-4)
        assert scored.verdict == accurate.verdict
        assert scored.improvement == accurate.improvement
        assert scored.corrected == pytest.approx(accurate.corrected, rel=1e-3)
    assert {c.verdict for c in other.comparisons} >= {"better"}
    shares = [[e.share for e in variance_shares(trials, grid)] for grid in (plain, mirrored)]
    assert shares[1] == pytest.approx(shares[0])


def test_ranks_over_blocks_begin_with_the_best(run: Run) -> None:
    both = [run.trials.assign(backbone=name) for name in ("a", "b")]
    trials = pd.concat(both)
    ranks = [rank_over_blocks(trials, read_grid(trials, m)) for m in (ACCURACY, run.metric)]
    assert ranks[0] is not None
    assert ranks[1] is not None
    assert ranks[1].ranks == ranks[0].ranks


def test_the_target_is_one_that_some_config_reaches(run: Run) -> None:
    target = natural_target(run.trials, run.metric)
    means = run.trials.groupby("config")["val_brier"].mean()
    assert target == pytest.approx(float(f"{target:.2g}"))
    assert means.min() <= target < means.min() * 1.1
    measures = trial_measures(run, target=target)
    curves = run.curves[run.curves["split"] == "val"]
    for trial, row in measures.iterrows():
        own = curves[curves["trial"] == trial].set_index("epoch")["brier"]
        reached = own.index[own <= target]
        first = reached[0] if len(reached) else float("nan")
        assert row["epochs_to_target"] == pytest.approx(first, nan_ok=True)
        assert row["area"] == pytest.approx(own.mean())


def test_the_report_goes_by_the_metric_alone(run: Run) -> None:
    found = Findings(run=run)
    text = render_markdown(document(found, {}))
    best = found.results[0]
    recommended = found.verdict.contender(found.verdict.recommended or "")
    assert f"It reaches {recommended.figure:.3f} on 300 test images" in text
    assert "first minus second (less is better)" in text
    for of_accuracy in ("McNemar", "Wilson", "points,", "mean test accuracy"):
        assert of_accuracy not in text
    for other in ("validation accuracy", "Accuracies"):
        assert other not in text.replace("training minus validation accuracy", "")
    assert "Every trial stands at the epoch with the lowest validation Brier score" in text
    (listed,) = (t for t in tables(document(found, {})) if t.name == "metrics")
    assert listed.header[-2:] == ("Brier score", "accuracy (%)")
    of_best = run.trials[run.trials["config"] == best.config]
    sd = of_best["test_accuracy"].std()
    assert listed.rows[0][-1] == f"{100 * of_best['test_accuracy'].mean():.1f} ± {100 * sd:.1f}"


def test_a_claim_names_who_is_lower(run: Run) -> None:
    (pairs,) = (t for t in tables(document(Findings(run=run), {})) if t.name == "pairs")
    assert "McNemar" not in pairs.header
    claimed = [row for row in pairs.rows if str(row[-1]).endswith(" is better")]
    assert claimed
    for first, second, difference, *_, claim in claimed:
        winner = first if str(difference).startswith("-") else second
        assert str(claim) == f"{winner} is better"


def test_the_figures_go_by_the_metric(run: Run) -> None:
    drawn = dict(draw_figures(run))
    assert {"test_brier", "brier_against_time"} <= drawn.keys()
    assert not any("accuracy" in name for name in drawn)
    best = rank_configs(run.trials, read_grid(run.trials, run.metric))[0]
    for name in ("test_brier", "strategies", "curves", "heat_map_schedule"):
        title = re.sub(r"\s", " ", drawn[name].get_suptitle())
        assert "Brier score" in title
        labels = [ax.get_xlabel() + ax.get_ylabel() for ax in drawn[name].axes]
        assert not any("accuracy" in label or "%" in label for label in labels)
    assert f"reaches a test Brier score of {best.test.mean:.3f}" in re.sub(
        r"\s", " ", drawn["test_brier"].get_suptitle()
    )


def test_the_page_and_the_terminal_go_by_the_metric(run: Run) -> None:
    page = page_data(Findings(run=run))
    assert (page["metric"], page["higher"]) == ("brier", False)
    assert list(page["curve_metrics"]) == ["brier", "accuracy", "loss"]
    first = page["trials"][0]
    assert first["test"] == run.trials["test_brier"][0]
    assert len(page["curves"][first["id"]]["val"]["brier"]) == 12
    trial = {str(k): v for k, v in run.trials.iloc[0].items()}
    shown = _plain(*show_run(run), *show_trial(run, trial))
    assert "test Brier score" in shown
    assert "test %" not in shown
    assert "val brier" in shown
    assert "train brier" not in shown
    assert any("the lowest validation Brier score" in sentence for sentence in why(run, trial))
    names = {name for name, *_ in _points(trial, run.curves.head(24), run.metrics)}
    assert {"brier/val", "accuracy/train", "chosen/test_brier"} <= names
    assert "brier/train" not in names


def test_runs_are_compared_by_what_both_chose_by(run: Run, tmp_path: Path) -> None:
    worse = _copied(run, tmp_path)
    # A quarter of the test images goes wrong that was right before.
    wrong = worse.predictions["sample"].isin([f"test/{index:04}.jpg" for index in range(75)])
    for name in CLASSES:
        own = worse.predictions["label"] == name
        column = f"probability_{name}"
        worse.predictions.loc[wrong & own, column] = 1 - math.sqrt(0.5)
        worse.predictions.loc[wrong & ~own, column] = math.sqrt(0.5)
    found = compare_runs(run, worse)
    assert {change.judgement for change in found.changes} == {"worse"}
    assert {change.judgement for change in compare_runs(worse, run).changes} == {"better"}
    assert "less is better" in _plain(*show_comparison(found))
    write_json(worse.folder / "data.json", {**worse.data, "metrics": [asdict(ACCURACY)]})
    other = read_run(worse.folder)
    found = compare_runs(run, other)
    assert found.metric == ACCURACY
    assert {change.judgement for change in found.changes} == {"same"}
    assert "chose its epochs by Brier score, the second by accuracy" in _plain(
        *show_comparison(found)
    )


@pytest.mark.parametrize(
    ("best", "target"), [(0.0, 0.0), (1e-200, 0.0), (3.41e-5, 3.5e-5), (871.0, 880.0)]
)
def test_targets_of_any_size(run: Run, best: float, target: float) -> None:
    assert natural_target(run.trials.assign(val_brier=best), run.metric) == pytest.approx(target)


HOSTILE = "<script>x</script>|$\\evil{}\x1b[31m\u202e&_"


def test_a_hostile_label_steers_nothing(tmp_path: Path) -> None:
    run = mirrored_run(tmp_path, strategies=["a", "b"], schedules=["s"], seeds=2, epochs=2)
    write_json(tmp_path / "data.json", {"metrics": [{**BRIER, "label": HOSTILE}]})
    run = read_run(tmp_path)
    write_report(run, {})
    for name in ("report.md", "report.html"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "<script>x" not in text
        assert "\x1b" not in text
        assert "\u202e" not in text
    for table in tables(document(Findings(run=run), {})):
        assert "\\evil" not in render_latex(table)
        assert "\x1b" not in render_csv(table)
    shown = _plain(*show_run(run), *show_comparison(compare_runs(run, run)))
    assert "\x1b[31m" not in shown


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ([{**BRIER, "name": "../x"}], "metrics.0.name"),
        ([{**BRIER, "name": "loss"}], "metrics.0.name"),
        ([{**BRIER, "label": ""}], "metrics.0.label"),
        ([{**BRIER, "percent": "yes"}], "metrics.0.percent"),
        ([BRIER, BRIER], "two metrics have the same name"),
        ([{**BRIER, "name": "macro_f1"}], "no column of macro_f1"),
        ("brier", "metrics"),
    ],
)
def test_metrics_that_are_described_wrongly_are_refused(
    run: Run, tmp_path: Path, metrics: Any, message: str
) -> None:
    _copied(run, tmp_path)
    (tmp_path / "data.json").write_text(json.dumps({"metrics": metrics}))
    with pytest.raises(BenchError, match=message):
        read_run(tmp_path)
