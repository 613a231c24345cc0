"""The verdict says what the comparisons support, in at most five lines, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.results.folder import Run, read_run
from bench.results.report import Findings, write_report
from bench.results.report.answer import MAX_LINES, MAX_NAMES, named
from bench.results.report.blocks import Table
from bench.results.report.evidence import standing
from tests.made_up_run import TEST_IMAGES, made_up_run

NOISE = (0.004, -0.006, 0.001, 0.008, -0.003, 0.0, -0.005, 0.002, 0.007, -0.008)


def _run(
    folder: Path,
    accuracies: Mapping[str, Sequence[float]],
    *,
    val: Mapping[str, float] | None = None,
    seconds: Mapping[str, float] | None = None,
    schedules: Sequence[str] = ("cosine",),
    backbones: Mapping[tuple[str, str], str] | None = None,
    data: dict[str, Any] | None = None,
) -> Run:
    """A run in which the strategies reached these test accuracies by seed, on 300 images.

    `backbones` says which one a strategy and schedule have.
    """

    def change(row: dict[str, Any], _: dict[str, Any]) -> None:
        strategy = row["strategy"]
        own = accuracies[strategy]
        row["backbone"] = (backbones or {}).get((strategy, row["schedule"]), row["backbone"])
        if row["seed"] >= len(own):
            row.update(status="failed", error="boom", test_accuracy=None)
            return
        row["test_accuracy"] = round(own[row["seed"]] * TEST_IMAGES) / TEST_IMAGES
        row["val_accuracy"] = (val or {}).get(strategy, own[row["seed"]])
        row["train_seconds"] = (seconds or {}).get(strategy, 10.0)

    return made_up_run(
        folder,
        strategies=list(accuracies),
        schedules=schedules,
        seeds=max(map(len, accuracies.values())),
        epochs=1,
        change=change,
        data=data,
    )


def _lines(run: Run) -> dict[str, str]:
    lines = Findings(run=run).lines
    assert 1 <= len(lines) <= MAX_LINES
    text = " ".join(map(str, lines))
    assert "nan" not in text
    assert not re.search(r"\b0 seeds", text)
    return {line.about: line.text for line in lines}


def _around(mean: float, seeds: int = 10, *, turned: bool = False) -> list[float]:
    noise = NOISE[::-1] if turned else NOISE
    return [mean + x for x in noise[:seeds]]


def test_what_to_use_and_what_is_worse(tmp_path: Path) -> None:
    run = _run(tmp_path, {"a": _around(0.7), "b": _around(0.95, turned=True), "c": _around(0.8)})
    lines = _lines(run)
    assert list(lines) == ["Use", "Worse", "Trust"]
    assert lines["Use"].startswith("b. It is the best on validation (95.0 %). It reaches 95.0 % on")
    assert "on 300 test images (10 seeds; for other seeds and images 9" in lines["Use"]
    assert lines["Worse"].startswith("all others: c (by 15.0 points, ")
    assert "; a (by 25.0 points, " in lines["Worse"]
    assert lines["Trust"].startswith("it holds for training on this pool of 196 training images")


def test_a_cost_that_is_hardly_lower_is_not_told(tmp_path: Path) -> None:
    run = _run(
        tmp_path,
        {"a": _around(0.9, 3), "b": _around(0.91, 3, turned=True)},
        seconds={"a": 9.5, "b": 10.0},
    )
    open_line = _lines(run)["Open"]
    assert "compared with b." in open_line
    assert "less training time" not in open_line


def test_what_is_open_and_what_would_settle_it(tmp_path: Path) -> None:
    run = _run(
        tmp_path,
        {"a": _around(0.9, 3), "b": _around(0.91, 3, turned=True), "c": _around(0.6, 3)},
        seconds={"a": 2.0, "b": 10.0},
    )
    lines = _lines(run)
    assert list(lines) == ["Use", "Worse", "Open", "To settle it", "Trust"]
    assert lines["Use"].startswith("b. ")
    assert lines["Worse"].startswith("c (by 3")
    assert lines["Open"].startswith("a (-")
    assert "compared with b. a takes 5.0 times less training time and is at most " in lines["Open"]
    assert "test split of" in lines["To settle it"]
    assert (
        " images, for a. These seeds and test images show differences of" in (lines["To settle it"])
    )


def test_a_leader_that_loses_is_not_recommended(tmp_path: Path) -> None:
    run = _run(
        tmp_path,
        {"lucky": _around(0.7, 4), "good": _around(0.9, 4)},
        val={"lucky": 0.99, "good": 0.9},
    )
    lines = _lines(run)
    assert lines["Use"].startswith(
        "good. lucky is the best on validation, but is shown to be worse on the test split."
    )
    assert lines["Worse"].startswith("lucky (by 20.0 points, ")


def test_a_cheaper_one_that_is_shown_to_be_as_good(tmp_path: Path) -> None:
    """As good has to be shown: with 300 images by a wide margin only."""
    accuracies = {"dear": [0.95] * 5, "cheap": [0.95] * 5}
    costs = {"dear": 100.0, "cheap": 4.0}
    strict = _run(tmp_path / "one", accuracies, seconds=costs, val={"dear": 0.96, "cheap": 0.95})
    assert _lines(strict)["Use"].startswith("dear. It is the best on validation")
    wide = _run(tmp_path / "two", accuracies, seconds=costs, val={"dear": 0.96, "cheap": 0.95})
    suite = wide.folder / "suite.yaml"
    suite.write_text(f"{suite.read_text()}claims: {{margin: 0.2}}\n")
    lines = _lines(read_run(wide.folder))
    assert lines["Use"].startswith(
        "cheap. It is shown to be at most 20.0 points behind every other one, and takes 25.0 times "
        "less training time than dear, the best on validation."
    )
    assert lines["As good"].startswith("dear: shown to be within 20.0 points.")


def test_nothing_is_said_to_be_shown_of_one_that_is_only_unbeaten(tmp_path: Path) -> None:
    """`lucky` leads on validation, and `good` beats it; `wild` is cheap, and open against both."""
    wild = [0.83 + 18 * x for x in NOISE]
    run = _run(
        tmp_path,
        {"lucky": _around(0.75), "good": _around(0.92, turned=True), "wild": wild},
        val={"lucky": 0.99, "good": 0.8, "wild": 0.9},
        seconds={"lucky": 10.0, "good": 10.0, "wild": 1.0},
    )
    assert Findings(run=run).verdict.leader == "lucky"
    assert set(Findings(run=run).verdict.open) == {"lucky", "good"}
    use = _lines(run)["Use"]
    assert use.startswith("wild. It is the best on validation of those that nothing beats (90.0 %)")
    assert "shown" not in use


@pytest.mark.parametrize(("seeds", "further"), [(1, "2 more seeds"), (2, "1 more seed")])
def test_few_seeds_speak_of_models_only(tmp_path: Path, seeds: int, further: str) -> None:
    run = _run(tmp_path, {"a": [0.9] * seeds, "b": [0.6] * seeds})
    lines = _lines(run)
    assert lines["Of these models"].startswith(
        "differences are shown between the trained models only: b (behind by 30.0 points, "
    )
    assert lines["Open"].startswith(f"with {'one seed' if seeds == 1 else '2 seeds'} nothing can")
    assert lines["To settle it"] == f"at least {further}."
    assert "Worse" not in lines
    verdict = Findings(run=run).verdict
    assert {c.verdict for c in verdict.comparisons} == {"open"}
    (table,) = standing(verdict)
    assert isinstance(table, Table)
    place = table.header.index("verdict")
    assert [row[place] for row in table.rows] == ["recommended", "open; these models: worse"]


def test_equal_ones_are_open_and_no_lead_of_nothing(tmp_path: Path) -> None:
    lines = _lines(_run(tmp_path, {"a": [0.9] * 3, "b": [0.9] * 3}))
    assert "Worse" not in lines
    assert lines["Open"].startswith("b (+0.0 points, -")


def test_no_common_seed(tmp_path: Path) -> None:
    def change(row: dict[str, Any], _: dict[str, Any]) -> None:
        if (row["strategy"] == "a") == (row["seed"] < 3):
            row.update(status="failed", error="boom", test_accuracy=None)

    run = made_up_run(
        tmp_path, strategies=["a", "b"], schedules=["cosine"], seeds=6, epochs=1, change=change
    )
    lines = _lines(run)
    assert lines["Open"] == "nothing can be compared: no common seed."


def test_a_failed_strategy_is_left_out(tmp_path: Path) -> None:
    lines = _lines(_run(tmp_path, {"a": _around(0.9, 3), "b": _around(0.6, 3), "c": []}))
    assert lines["Worse"].startswith("b (by 30")
    assert "c" not in lines["Worse"].split()[0]


def test_one_strategy_and_none(tmp_path: Path) -> None:
    lines = _lines(_run(tmp_path / "one", {"a": _around(0.9, 3)}))
    assert lines["Result"].startswith(
        "a is the only strategy with a complete trial. It reaches 89.9 %"
    )
    none = made_up_run(
        tmp_path / "none",
        strategies=["a", "b"],
        seeds=1,
        epochs=1,
        change=lambda row, _: row.update(status="failed", error="x", test_accuracy=None),
    )
    assert _lines(none) == {
        "Nothing": "No complete trial has a test accuracy, so nothing can be compared."
    }


def test_strategies_meet_on_the_same_backbone(tmp_path: Path) -> None:
    """b is ahead on each backbone; a would look better by its own best backbone."""

    def change(row: dict[str, Any], _: dict[str, Any]) -> None:
        large = row["schedule"] == "cosine"
        row["backbone"] = "large" if large else "small"
        row["schedule"] = "constant"
        base = {True: 0.9, False: 0.7}[large]
        ahead = 0.08 if row["strategy"] == "b" else 0.0
        row["test_accuracy"] = row["val_accuracy"] = round((base + ahead) * 300) / 300
        if row["strategy"] == "b" and large:
            row.update(status="failed", error="out of memory", test_accuracy=None)

    run = made_up_run(
        tmp_path, strategies=["a", "b"], schedules=["cosine", "step"], seeds=4, change=change
    )
    verdict = Findings(run=run).verdict
    (comparison,) = verdict.comparisons
    assert comparison.blocks == ("small",)
    assert (comparison.first, comparison.second) == ("b", "a")
    assert comparison.difference == pytest.approx(0.08)
    assert verdict.recommended == "b"


@pytest.mark.parametrize("seeds", [1, 2])
def test_with_few_seeds_the_claim_is_one_about_the_models(tmp_path: Path, seeds: int) -> None:
    run = made_up_run(tmp_path, strategies=["a", "b"], schedules=["cosine"], seeds=seeds)
    assert _lines(run)["Trust"].startswith("it holds for these trained models, on test images like")
    write_report(run, figures={})
    text = (run.folder / "report.md").read_text()
    about = "interval: where the difference of these models lies for other images, in 95 of 100 "
    assert text.count(about) == 2
    assert "lies for other seeds" not in text


def test_only_those_with_few_seeds_are_trusted_as_models(tmp_path: Path) -> None:
    accuracies = {"a": _around(0.9), "b": _around(0.88), "few": _around(0.8, 2)}
    trust = _lines(_run(tmp_path, accuracies))["Trust"]
    assert trust.startswith("it holds for training on this pool of 196 training images, on any")
    assert "; of few, with too few seeds, for the trained models only." in trust


def test_of_several_configs_the_claim_is_one_about_those_chosen(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, strategies=["a", "b"], schedules=["cosine", "step"], seeds=4)
    trust = _lines(run)["Trust"]
    assert trust.startswith("it holds for the configs chosen here, trained on this pool of")


def test_a_second_look_costs_and_the_same_look_does_not(tmp_path: Path) -> None:
    run = _run(tmp_path, {"a": _around(0.9, 4), "b": _around(0.88, 4)})
    first = Findings(run=run).verdict
    assert first.look == 1
    written = json.loads((tmp_path / "looks.json").read_text())
    assert [len(look) for look in written["looks"]] == [8]
    again = Findings(run=read_run(tmp_path)).verdict
    assert again.look == 1
    assert again.comparisons == first.comparisons
    trials = written["looks"][0]
    (tmp_path / "looks.json").write_text(json.dumps({"looks": [trials[:4], trials[4:]]}))
    later = Findings(run=read_run(tmp_path)).verdict
    assert later.look == 2
    assert later.comparisons[0].level == pytest.approx(first.comparisons[0].level / 4)


def test_what_to_distrust_is_said_however_much_else_there_is(tmp_path: Path) -> None:
    """Worse, as good and open ones at once: nothing of it is lost."""
    accuracies = {
        "best": _around(0.9),
        "equal": _around(0.9),
        "wild": [0.87 + 12 * x for x in NOISE],
        "bad": _around(0.5),
    }
    val = {"best": 0.99, "equal": 0.95, "wild": 0.9, "bad": 0.5}
    run = _run(tmp_path, accuracies, val=val)
    suite = run.folder / "suite.yaml"
    suite.write_text(f"{suite.read_text()}claims: {{margin: 0.04}}\n")
    lines = _lines(read_run(tmp_path))
    assert list(lines) == ["Use", "Worse", "Open", "To settle it", "Trust"]
    assert lines["Worse"].startswith("bad (by 40.0 points, ")
    assert lines["Worse"].endswith("). As good: equal: shown to be within 4.0 points.")
    assert lines["Trust"].startswith("it holds for training on this pool")


def test_what_to_distrust(tmp_path: Path) -> None:
    counts = {
        "train": {"ants": 98, "bees": 98},
        "val": {"ants": 10, "bees": 10},
        "test": {"ants": 280, "bees": 20},
    }
    issue = {"kind": "leakage-near", "message": "m", "count": 2, "samples": []}
    data = {"classes": ["ants", "bees"], "counts": counts, "issues": [issue]}
    lines = _lines(_run(tmp_path, {"a": _around(0.9, 3), "b": _around(0.6, 3)}, data=data))
    assert lines["Trust"].endswith(
        "Note: 2 test images look like training images; the validation split that chooses has 20 "
        "images, so its accuracy is known to ± 7 points; the largest class has 14 times as many "
        "test images as the smallest, so accuracy tells little of the small ones."
    )


def test_the_verdict_as_json(tmp_path: Path) -> None:
    run = _run(tmp_path, {"a": _around(0.9, 3), "b": _around(0.6, 3), "c": _around(0.9, 2)})
    write_report(run, {})
    content = json.loads((tmp_path / "verdict.json").read_text())
    assert content["recommended"] == "a"
    assert (content["seeds"], content["test_samples"], content["margin"]) == (3, 300, 0.01)
    assert len(content["comparisons"]) == 3
    found = {(c["first"], c["second"]): c for c in content["comparisons"]}
    first = found["a", "b"]
    assert first["verdict"] == "better"
    assert first["low"] < first["difference"] < first["high"]
    assert found["a", "c"]["verdict"] == "open"
    assert found["a", "c"]["seeds"] == 2
    assert content["sentences"][0].startswith("Use: a. ")
    assert content["sentences"] == [str(line) for line in Findings(run=run).lines]


def test_only_the_first_names_are_listed() -> None:
    names = [f"s{i}" for i in range(MAX_NAMES + 3)]
    assert named(names) == "s0; s1; s2; s3; and 3 more"
    assert named(names[:2]) == "s0; s1"
