"""Named test sets: figures and claims on each, their mean, and orders that turn round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.results.analysis import read_verdict
from bench.results.analysis.scores import Grouping, Scores
from bench.results.analysis.test_sets import mean_over, read_test_sets
from bench.results.folder import Run
from bench.results.report.document import document
from bench.results.report.evidence import Findings
from bench.results.report.markdown import render_markdown
from tests.results.scored_run import Scored, scored_run

SETS = ("clinic_a",) * 160 + ("clinic_b",) * 240
LEADS = {"linear_probe": (0.95, 0.70), "full_finetune": (0.75, 0.92)}


def made(folder: Path, test_sets: tuple[str, ...] | None = SETS) -> Run:
    rng = np.random.default_rng(0)
    draws = rng.random((3, len(SETS)))
    at = np.array([int(name == "clinic_b") for name in SETS])
    configs = [
        Scored(right=draws < np.array(chances)[at], axes={"strategy": name})
        for name, chances in LEADS.items()
    ]
    return scored_run(folder, configs, test_sets=test_sets)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return made(tmp_path / "run")


def test_each_set_has_figures_and_claims_of_its_own(run: Run) -> None:
    found = read_test_sets(run)
    assert found is not None
    assert {name: own.samples for name, own in found.verdicts.items()} == {
        "clinic_a": 160, "clinic_b": 240,
    }  # fmt: skip
    rows = run.predictions[run.predictions["test_set"] == "clinic_a"]
    right = (rows["label"] == rows["predicted"]).groupby(rows["trial"]).mean()
    strategy = run.trials.set_index("trial")["strategy"]
    for each in found.verdicts["clinic_a"].contenders:
        own = right[strategy[right.index].to_numpy() == each.name]
        assert each.figure == pytest.approx(own.mean())
        assert each.interval[0] < each.figure < each.interval[1]
    assert found.worst == {"linear_probe": "clinic_b", "full_finetune": "clinic_a"}


def test_an_order_that_turns_round_is_shown_by_two_claims(run: Run) -> None:
    found = read_test_sets(run)
    assert found is not None
    (turn,) = found.turns
    assert turn.shown
    assert {turn.first: turn.first_ahead, turn.second: turn.second_ahead} == {
        "linear_probe": ("clinic_a",), "full_finetune": ("clinic_b",),
    }  # fmt: skip
    assert "is better on clinic_" in str(Findings(run=run).lines[-1])


def test_sets_and_verdict_share_the_error(run: Run, tmp_path: Path) -> None:
    """Two sets of a quarter each, the verdict half: corrected by 4, 4 and 2."""
    found = read_test_sets(run)
    assert found is not None
    assert [own.comparisons[0].comparisons for own in found.verdicts.values()] == [4, 4]
    assert read_verdict(run).comparisons[0].comparisons == 2
    for names in (None, ("one",) * len(SETS)):
        other = made(tmp_path / f"{names is None}", names)
        assert read_test_sets(other) is None
        assert read_verdict(other).comparisons[0].comparisons == 1


def test_the_mean_over_sets_counts_each_the_same(run: Run) -> None:
    found = read_test_sets(run)
    assert found is not None
    for name, mean in found.means.items():
        figures = [own.contender(name).figure for own in found.verdicts.values()]
        assert mean.value == pytest.approx(np.mean(figures))
        assert mean.interval[0] < mean.value < mean.interval[1]


def test_the_mean_over_sets_has_the_error_of_a_stratified_sample() -> None:
    rng = np.random.default_rng(1)
    tables = [rng.normal(middle, 1, (1, count)) for middle, count in ((0, 50), (5, 200))]
    sides = [
        Scores(seeds=(0,), samples=tuple(map(str, range(each.shape[1]))), values=each)
        for each in tables
    ]
    found = mean_over(sides)
    assert found is not None
    assert found.values.mean() == pytest.approx(np.mean([each.mean() for each in tables]))
    stratified = sum(each.var() / each.size for each in tables) / 4
    assert found.values.var() / found.values.size == pytest.approx(stratified)
    grouped = Scores(
        **{**vars(sides[0]), "grouping": Grouping(groups=50, images=90, largest=0.1, counts=True)}
    )
    both = mean_over([grouped, sides[1]])
    assert both is not None
    assert both.grouping == Grouping(groups=250, images=290, largest=0.1, counts=False)
    assert mean_over([Scores(seeds=(1,), samples=("0",), values=np.ones((1, 1))), *sides]) is None


def test_the_report_has_a_section_and_the_json_too(run: Run) -> None:
    findings = Findings(run=run)
    text = render_markdown(list(document(findings, {})))
    assert "### Test sets" in text
    assert "clinic_a (160 images)" in text
    assert "mean over sets" in text
    assert "linear_probe is ahead on clinic_a" in text or "full_finetune is ahead" in text
    sets = findings.verdict_json["test_sets"]
    assert list(sets) == ["clinic_a", "clinic_b"]
    assert {name: own["comparisons"][0]["first"] for name, own in sets.items()} == {
        "clinic_a": "linear_probe", "clinic_b": "full_finetune",
    }  # fmt: skip
    assert all(own["comparisons"][0]["verdict"] == "better" for own in sets.values())
