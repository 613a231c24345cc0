"""The report's section "What was advised, and whether it held"."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bench.keys import content_hash
from bench.methods.advice import Ranking
from bench.results.analysis.comparison import compare
from bench.results.analysis.scores import trial_scores
from bench.results.folder import Range, Run, read_run, read_tuning, write_advice, write_json
from bench.results.report import Findings, document, render_html, render_markdown
from bench.results.report.advice import advice_section
from tests.damage import damage
from tests.made_up_tuning import made_up_tuning
from tests.results.folder.test_advice import ADVICE
from tests.results.report.rendered import table_with
from tests.results.scored_run import Scored, scored_run

Right = npt.NDArray[np.bool_]

RULES: Mapping[str, Ranking] = {
    "has_the_best": Ranking(strategies=("full_finetune",), reason="large data"),
    "worse": Ranking(strategies=("linear_probe",), reason="a baseline"),
    "second": Ranking(strategies=("svm", "linear_probe"), reason="small data"),
    "same_again": Ranking(
        strategies=("linear_probe",), backbones=("resnet50", "resnet18"), reason="a backbone too"
    ),
    "of_backbones": Ranking(backbones=("resnet18",), reason="by a score"),
    "nothing_here": Ranking(strategies=("svm",), reason="not here"),
    "silent": Ranking(reason="no features"),
}


def right(share: float, seed: int) -> Right:
    """Of 3 seeds and 60 samples."""
    return np.random.default_rng(seed).random((3, 60)) < share


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return scored_run(
        tmp_path / "run",
        [
            Scored(right=right(0.6, 1), axes={"strategy": "linear_probe"}),
            Scored(right=right(0.95, 2), axes={"strategy": "full_finetune"}),
        ],
        data={"dataset_fingerprint": "4567"},
    )


def findings(run: Run, **changes: Any) -> Findings:
    origin = replace(ADVICE.origin, suite_digest=content_hash(run.suite, digits=32))
    given = {"origin": origin, "rules": RULES, **changes}
    write_advice(replace(ADVICE, path=run.folder / "advice.json", **given))
    return Findings(run=run)


def section(found: Findings) -> str:
    return render_markdown(advice_section(found.advice, found.run))


def config(run: Run, strategy: str) -> str:
    return str(run.trials.loc[run.trials["strategy"] == strategy, "config"].iloc[0])


def test_the_best_has_its_own_figure_where_seeds_disagree_on_validation(tmp_path: Path) -> None:
    """As the verdict has it: nobody trains one config in one seed and another in the next."""

    def counts(*numbers: int) -> Right:
        return np.array([np.arange(10) < each for each in numbers])

    shares = {"linear_probe": counts(9, 5, 9), "full_finetune": counts(5, 9, 8)}
    configs = [Scored(right=own, axes={"strategy": name}) for name, own in shares.items()]
    told = findings(scored_run(tmp_path / "run", configs)).verdict_json["advice"]
    assert told["best"] == "linear_probe"
    by_rule = {each["rule"]: each for each in told["rules"]}
    assert by_rule["same_again"]["figure"] == pytest.approx(23 / 30)
    assert by_rule["has_the_best"]["figure"] == pytest.approx(22 / 30)


def test_each_rule_is_held_against_the_best_by_the_test_of_claims(run: Run) -> None:
    found = findings(run)
    table = table_with(section(found), "said").set_index("rule")
    assert list(table.index) == list(RULES)
    assert table.loc["has_the_best", "minus the best"] == "the best"
    assert table.loc["second", "in this suite"] == "linear_probe; not in this suite: svm"
    assert table.loc["same_again", "in this suite"] == "linear_probe; not in this suite: resnet50"
    assert table.loc["of_backbones", "in this suite"] == "full_finetune"
    assert table.loc["nothing_here", "in this suite"] == "not in this suite: svm"
    assert table.loc["silent", "said"] == "nothing"
    assert list(table["held"]) == ["yes", "no", "not tried", "not tried", "yes", "–", "–"]
    scored = trial_scores(run.judged, run.metric)
    sides = {
        strategy: {"": scored.of({int(s): (str(t),) for s, t in zip(own.seed, own.trial)})}  # noqa: B905
        for strategy, own in run.trials.groupby("strategy", sort=False)
    }
    (expected,) = compare(sides)
    told = {each["rule"]: each for each in found.verdict_json["advice"]["rules"]}
    assert told["second"]["difference"] == pytest.approx(expected.difference)
    assert (told["second"]["low"], told["second"]["high"]) == pytest.approx(expected.interval)
    assert told["second"]["figure"] == pytest.approx(right(0.6, 1).mean())
    assert (told["worse"]["held"], told["nothing_here"]["held"]) == (False, None)
    json.dumps(found.verdict_json, allow_nan=False)


@pytest.mark.parametrize(("high", "held"), [(0.8, "yes"), (0.3, "above")])
def test_expected_accuracies_and_costs_stand_beside_what_was_reached(
    run: Run, high: float, held: str
) -> None:
    ranges = {"resnet18": {"ridge_probe": Range(low=0.1, high=high)}, "resnet50": {}}
    cell = replace(ADVICE.cells[0], config=config(run, "linear_probe"), trials=3, seconds=3.0)
    cells = (cell, replace(cell, config="elsewhere"), replace(cell, seconds=None))
    text = section(findings(run, expected=ranges, cells=cells))
    table = table_with(text, "told by")
    reached = f"{100 * right(0.6, 1).mean():.1f}"
    assert table.iloc[0].tolist() == [
        "resnet18", "ridge probe", f"10.0–{100 * high:.1f}", reached, held
    ]  # fmt: skip
    costs = table_with(text, "seconds advised")
    assert costs.to_numpy().tolist() == [["linear_probe", "3", "6", "2"]]


def test_when_and_of_which_suite_it_was_written_is_told(run: Run) -> None:
    assert "before any trial was trained" in section(findings(run))
    origin = replace(ADVICE.origin, complete=2)  # with the digest of another suite
    text = section(findings(run, origin=origin, rule="second"))
    assert "when 2 trials were complete" in text
    assert "other settings, strategies or seeds then" in text
    assert "The rule to follow was second." in text


def test_searched_rates_stand_beside_those_of_the_suite(tmp_path: Path) -> None:
    run = made_up_tuning(tmp_path / "tuned", seeds=3)
    tuning = read_tuning(run.folder)
    assert tuning is not None
    studies: Sequence[Mapping[str, Any]] = list(tuning.description["studies"].values())
    cells = [replace(ADVICE.cells[0], config=each["untuned_config"], lr=0.001) for each in studies]
    cells[0] = replace(cells[0], lr=0.01)
    found = findings(run, cells=tuple(cells))
    table = table_with(section(found), "learning rate advised")
    assert len(table) == len(studies)
    assert table.iloc[0].tolist()[1:] == ["0.01", "0.0123", "1.2", "yes"]
    assert table.iloc[1].tolist()[1:] == ["0.001", "0.0123", "12", "no"]


def test_what_cannot_be_used_is_told_and_left_out(run: Run) -> None:
    assert list(advice_section(Findings(run=run).advice, run)) == []
    write_json(run.folder / "data.json", {**run.data, "dataset_fingerprint": "8901"})
    assert "is of other data than the run" in section(findings(read_run(run.folder)))
    damage(run.folder / "advice.json", "half")
    found = Findings(run=run)
    blocks = list(document(found, {}))
    assert "It is left out" in render_markdown(blocks)
    assert "What was advised" in render_html(blocks, found, {})
    assert "damaged" in found.verdict_json["advice"]["left_out"]
