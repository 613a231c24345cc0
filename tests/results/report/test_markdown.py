from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from markdown_it import MarkdownIt

from bench.results.analysis import interquartile_mean, mean_interval, read_verdict
from bench.results.folder import Run, RunStore, read_run
from bench.results.plots import write_plots
from bench.results.report import Findings, document, render_markdown, write_report
from tests.made_up_run import STRATEGIES, made_up_run


def _markdown(run: Run) -> str:
    return render_markdown(document(Findings(run=run), {}))


def _rendered(source: str) -> str:
    return str(MarkdownIt("commonmark").enable("table").render(source))


def _tables(source: str) -> list[pd.DataFrame]:
    """Every table of a report, as a reader of the rendered page sees it."""
    found = []
    for body in re.findall(r"<table>.*?</table>", _rendered(source), flags=re.DOTALL):
        rows = [
            [html.unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
            for row in re.findall(r"<tr>(.*?)</tr>", body, flags=re.DOTALL)
        ]
        found.append(pd.DataFrame(rows[1:], columns=rows[0]))
    return found


def _table(source: str, column: str) -> pd.DataFrame:
    """The table with this column."""
    return next(table for table in _tables(source) if column in table)


def test_ranking_equals_what_the_tables_say(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, seeds=3)
    ranking = _table(_markdown(run), "rank")
    assert list(ranking.columns) == [
        *("rank", "strategy", "schedule", "lr", "seeds", "test", "95 %", "median", "IQM"),
        *("val", "best epoch", "last", "time (s)"),
    ]
    assert len(ranking) == 8
    trials = pd.read_parquet(tmp_path / "trials.parquet")
    means = []
    for row in ranking.to_dict("records"):
        mine = trials.query("strategy == @row['strategy'] and schedule == @row['schedule']")
        test = 100 * mine["test_accuracy"]
        means.append(test.mean())
        epochs = sorted(mine["best_epoch"])
        assert row["seeds"] == "3"
        assert row["lr"] == f"{mine['lr'].iloc[0]:g}"
        assert row["test"] == f"{test.mean():.1f} ± {test.std():.1f}"
        low, high = mean_interval(test / 100)
        assert row["95 %"] == f"{100 * low:.1f}–{100 * high:.1f}"
        assert row["median"] == f"{test.median():.1f}"
        assert row["IQM"] == f"{interquartile_mean(test):.1f}"
        assert row["val"] == f"{100 * mine['val_accuracy'].mean():.1f}"
        assert row["last"] == f"{100 * mine['last_test_accuracy'].mean():.1f}"
        assert row["time (s)"] == f"{mine['train_seconds'].mean():.1f}"
        assert row["best epoch"] in (f"{epochs[0]}–{epochs[-1]}", str(epochs[0]))
    assert means == sorted(means, reverse=True)


def test_the_answer_comes_first_and_names_the_best(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "made_up", seeds=8, schedules=["cosine"])
    source = _markdown(run)
    title, verdict, table, terms, complete, heading = source.split("\n\n")[:6]
    assert title == "# Results of made_up"
    best = run.trials.groupby("strategy")["val_accuracy"].mean().idxmax()
    assert verdict.startswith(f"- **Use:** {best}. It is the best on validation (")
    assert "\n- **Worse:** from_scratch (by 2" in verdict
    assert verdict.count("\n") < 5
    assert f"minus {best}" in table
    assert table.count("\n") == 5
    assert "verdict: better or worse: the interval leaves out 0" in terms
    assert complete == "Complete: 32 of 32 trials."
    assert heading == "## Evidence"


def test_the_one_table_equals_the_verdict(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, seeds=4, schedules=["cosine"])
    verdict = read_verdict(run)
    standing = _table(_markdown(run), "verdict")
    assert list(standing["strategy"]) == [each.name for each in verdict.contenders]
    by_name = standing.set_index("strategy").to_dict("index")
    for each in verdict.contenders:
        row = by_name[each.name]
        low, high = each.interval
        assert row["accuracy (%)"] == f"{100 * each.figure:.1f}"
        assert row["95 %"] == f"{100 * low:.1f}–{100 * high:.1f}"
        assert row["time (s)"] == f"{each.costs['train_seconds']:.1f}"
        own = verdict.rivals.get(each.name)
        if own is None:
            assert row["verdict"] == "recommended"
            continue
        assert row[f"minus {verdict.recommended}"] == f"{-100 * own.difference:+.1f}"
        ends = [-100 * end for end in own.interval[::-1]]
        shown = [float(end) for end in row["interval"].split(" to ")]
        assert shown == pytest.approx(ends, abs=0.051)
        opposite = {"better": "worse", "worse": "better", "as_good": "as good", "open": "open"}
        assert row["verdict"] == opposite[own.verdict]


def test_pairs_equal_what_the_analysis_says(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, seeds=8, schedules=["cosine"])
    pairs = _table(_markdown(run), "claim")
    comparisons = read_verdict(run).comparisons
    assert len(pairs) == len(comparisons) == 6
    for row, comparison in zip(pairs.to_dict("records"), comparisons, strict=True):
        assert (row["first"], row["second"]) == (comparison.first, comparison.second)
        assert row["difference"] == f"{100 * comparison.difference:+.1f}"
        ends = [100 * end for end in comparison.interval]
        shown = [float(end) for end in row["interval"].split(" to ")]
        assert shown == pytest.approx(ends, abs=0.051)
        assert [end > 0 for end in shown] == [end > 0 for end in ends]
        assert row["corrected"] == f"{comparison.corrected:.2g}"
        assert row["seeds"] == "8"
        claimed = comparison.verdict in ("better", "worse")
        assert row["claim"].endswith(" is better") == claimed
    assert any(claim.endswith(" is better") for claim in pairs["claim"])
    assert any(claim == "open" for claim in pairs["claim"])


def test_how_far_the_seeds_agree_on_a_config_is_told(tmp_path: Path) -> None:
    vals = {"x": [0.80, 0.80, 0.80, 0.80], "y": [0.78, 0.78, 0.78, 0.90]}

    def change(row: dict[str, Any], _: dict[str, Any]) -> None:
        if row["strategy"] == "a":
            row["val_accuracy"] = vals[row["schedule"]][row["seed"]]
        else:
            row["val_accuracy"] = 0.7 if row["schedule"] == "x" else 0.6

    run = made_up_run(tmp_path, strategies=["a", "b"], schedules=["x", "y"], seeds=4, change=change)
    val = run.trials[run.trials["strategy"] == "a"].pivot_table(
        index="seed", columns="schedule", values="val_accuracy"
    )
    others = [val.drop(index=seed).mean().idxmax() for seed in val.index]
    differing = sum(choice != val.mean().idxmax() for choice in others)
    assert differing == 1
    assert "together choose except in these seeds: 1 of 4 of a." in _markdown(run)
    agreed = made_up_run(tmp_path / "agreed", schedules=["x"], seeds=4)
    assert "has several configs" not in _markdown(agreed)


def test_of_many_pairs_those_of_the_best_are_shown(tmp_path: Path) -> None:
    strategies = [f"s{i}" for i in range(11)]
    run = made_up_run(tmp_path, strategies=strategies, schedules=["cosine"], seeds=2, epochs=2)
    source = _markdown(run)
    pairs = _table(source, "claim")
    best = run.trials.groupby("strategy")["val_accuracy"].mean().idxmax()
    assert set(pairs["first"]) == {best}
    assert len(pairs) == 10
    assert f"Only pairs with {best} are shown." in source


def test_what_does_not_vary_is_named_once(tmp_path: Path) -> None:
    source = _markdown(made_up_run(tmp_path, seeds=1, epochs=2))
    same = "The same for all: backbone resnet18, weights imagenet, head linear, augmentation flip,"
    assert same in source
    assert source.count("resnet18") == 1
    assert "- **strategy** (4): from_scratch, full_finetune" in source
    assert "- **lr** given by the axes above: 0.001, 0.01" in source
    assert "hymenoptera, 2 classes; images: 196 train, 300 test, 48 val" in source


def test_figures_and_files_are_linked_relatively(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "run", strategies=["bitfit", "full_finetune"], seeds=1, epochs=2)
    path, html_path = write_report(run)
    assert (path, html_path) == (run.folder / "report.md", run.folder / "report.html")
    page = _rendered(path.read_text(encoding="utf-8"))
    targets = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert {"plots/test_accuracy.png", "plots/curves.png", "trials.parquet"} <= set(targets)
    assert len([target for target in targets if target.startswith("plots/trials/")]) == 4
    for target in targets:
        assert (run.folder / target).exists()
    assert "checkpoints" not in targets


def test_given_figures_are_not_drawn_again(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, strategies=["bitfit"], schedules=["cosine"], seeds=1, epochs=1)
    figures = write_plots(run, tmp_path / "elsewhere").files
    source = write_report(run, figures)[0].read_text(encoding="utf-8")
    assert "(elsewhere/curves.png)" in source
    assert not (tmp_path / "plots").exists()


def test_what_is_not_complete_is_told_with_its_reason(tmp_path: Path) -> None:
    error = "RuntimeError: a | b <script>alert(1)</script>\n```\n  at `line` 3"

    def fail(row: dict[str, Any], _: dict[str, Any]) -> None:
        if row["strategy"] == "full_finetune":
            row.update(status="failed", error=error, test_accuracy=None)
        if row["strategy"] == "from_scratch" and row["seed"] == 0:
            row.update(status="skipped", error=None)

    run = made_up_run(tmp_path, seeds=2, epochs=2, change=fail)
    RunStore(tmp_path).consolidate([*run.trials["trial"], "waiting"])
    source = _markdown(read_run(tmp_path))
    assert "Complete: 10 of 17 trials (4 failed, 2 skipped, 1 not run yet)." in source
    assert "No trial of 2 configs is complete." in source
    assert "1 trial not run yet" in source
    assert (
        "4 trials failed: full_finetune · cosine (seed 0, 1); "
        "full_finetune · step(step_size=7) (seed 0, 1)"
    ) in source
    assert "2 trials skipped" in source
    page = _rendered(source)
    assert "<script>" not in page
    assert html.escape(error, quote=True) in page
    assert "full_finetune" not in "".join(_table(source, "rank")["strategy"])


def test_a_long_list_of_failures_stays_short(tmp_path: Path) -> None:
    run = made_up_run(
        tmp_path,
        strategies=[f"s{i}" for i in range(15)],
        schedules=["cosine"],
        seeds=2,
        epochs=1,
        change=lambda row, _: row.update(status="failed", error="x\n" * 100),
    )
    source = _markdown(run)
    assert (
        "- **Nothing:** No complete trial has a test accuracy, so nothing can be compared."
        in source
    )
    assert "30 trials failed: s0 (seed 0, 1); s1 (seed 0, 1)" in source
    assert "and 3 more configs" in source
    assert "… 70 more lines" in source
    assert "## Ranking" not in source


def test_data_and_environment_are_told(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, seeds=1, epochs=1)
    source = _markdown(run)
    assert "- **leakage-near** (2): 2 test images look like" in source
    counts = next(table for table in _tables(source) if "train" in table)
    assert counts.to_dict("records") == [
        {"class": "ants", "train": "98", "test": "150", "val": "24"},
        {"class": "bees", "train": "98", "test": "150", "val": "24"},
    ]
    facts = next(table for table in _tables(source) if "what" in table)
    assert facts.set_index("what")["value"]["versions torch"] == "2.15.0"
    assert "```sh\nbench run suites/made_up.yaml --device cpu\n```" in source


@pytest.mark.campaign
def test_hostile_names_stay_inert(tmp_path: Path) -> None:
    classes = ("<img src=x onerror=alert(1)>", "a|b`c", "# not a heading", "*bold*\nnew line")
    strategies = ["evil(x=|)|`<b>", *STRATEGIES]
    issue = {"kind": "<i>kind</i>", "message": "file |a|\n\n# b.jpg", "count": 1, "samples": []}
    data = {
        "dataset": "<u>d</u>",
        "classes": list(classes),
        "counts": {"train": dict.fromkeys(classes, 1)},
        "issues": [issue],
    }
    run = made_up_run(
        tmp_path,
        strategies=strategies,
        schedules=["cosine"],
        seeds=1,
        epochs=2,
        classes=classes,
        data=data,
        environment={"command": ["bench", "run", "a `b`.yaml"], "cpu": "x|<b>y</b>\n# z"},
    )
    source = write_report(run)[0].read_text(encoding="utf-8")
    tokens = MarkdownIt("commonmark").enable("table").parse(source)
    raw = {token.content.strip() for token in tokens if token.type == "html_block"}
    assert raw == {"<details><summary>Single trials (5 complete)</summary>", "</details>"}
    assert not [c for t in tokens for c in t.children or () if c.type == "html_inline"]
    headings = [
        tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"
    ]
    assert "not a heading" not in " ".join(headings)
    assert len(headings) == len(set(headings)) == 16
    counts = next(table for table in _tables(source) if "train" in table)
    assert list(counts["class"]) == [" ".join(name.split()) for name in classes]
    assert "evil(x=|)|`<b>" in set(_table(source, "rank")["strategy"])
    assert "bench run 'a `b`.yaml'" in source


@pytest.mark.parametrize(
    "options",
    [
        {"strategies": ["full_finetune"], "schedules": ["cosine"], "seeds": 1},
        {"strategies": ["pretrained_head"], "schedules": ["cosine"]},
        {"epochs": 1, "seeds": 2},
        {"data": {"dataset": "x"}, "environment": {"cpu": "y"}, "seeds": 1, "epochs": 1},
    ],
)
def test_small_runs_are_reported(tmp_path: Path, options: dict[str, Any]) -> None:
    source = _markdown(made_up_run(tmp_path, **options))
    assert "## Ranking" in source
    assert "nan" not in source.replace("nan(", "")
    assert "None" not in source
    assert "<NA>" not in source


def test_reused_epochs_are_told(tmp_path: Path) -> None:
    def reuse(row: dict[str, Any], _: dict[str, Any]) -> None:
        row["reused_epochs"] = 2

    run = made_up_run(tmp_path, schedules=["cosine"], seeds=1, epochs=5, change=reuse)
    assert "8 of 20 epochs shared" in _markdown(run)


def test_reports_of_the_same_files_are_equal(tmp_path: Path) -> None:
    made_up_run(tmp_path, seeds=1, epochs=1)
    first, second = (_markdown(read_run(tmp_path)) for _ in range(2))
    assert first == second
