"""`split_check`: the same under a random split, kept apart from everything that decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bench
from bench.errors import SuiteError
from bench.results.analysis.intervals import Estimate
from bench.results.analysis.split_check import flattered, penalties
from bench.results.metric import metric_called
from bench.results.report.markdown import render_markdown
from bench.results.report.split_check import split_check_section
from bench.runs.catalogue import catalogue
from bench.runs.resolve import resolve_run
from bench.runs.split_check import check_sentence
from bench.suite import load_suite

SITES = {
    "name": "fractal_sites", "sites": 6, "images_per_class": 30, "image_size": 16,
    "site_only": True, "split": {"by": "group"}, "test_fraction": 0.4,
}  # fmt: skip
SUITE: dict[str, Any] = {
    "name": "sites",
    "dataset": SITES,
    "backbone": "shufflenet_v2_x0_5",
    "weights": "none",
    "strategy": "from_scratch",
    "augmentation": "none",
    "epochs": 1,
    "batch_size": 64,  # all of them: no batch of one
    "image_size": 32,
    "precision": "fp32",
    "lr": [0.001, 0.01],
    "seed": [0, 1],
}


@pytest.mark.usefixtures("no_report")
def test_one_config_of_each_strategy_is_trained_once_more(tmp_path: Path) -> None:
    run = bench.run({**SUITE, "split_check": True}, out=tmp_path, device="cpu", workers=1)
    assert list(run.trials["status"]) == ["complete"] * 4
    check = bench.read_run(run.folder / "split_check")
    assert list(check.trials["status"]) == ["complete"] * 2
    assert set(check.trials["seed"]) == {0, 1}
    assert not set(check.trials["trial"]) & set(run.trials["trial"])
    groups = [set(each.predictions["group"]) for each in (run, check)]
    assert len(groups[0]) < len(groups[1])
    (found,) = penalties(run, check)
    assert found.flattered.value == pytest.approx(found.random.value - found.whole.value)
    shown = render_markdown(list(split_check_section(run)))
    assert "What a random split would have said" in shown
    assert not list(split_check_section(check))
    plain = resolve_run(SUITE, out=tmp_path, device="cpu")
    assert [each.id for each in plain.trials] == list(run.trials["trial"])
    assert not plain.pending


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split_check": "some"}, "split_check must be true, false or 'all', got 'some'"),
        ({"split_check": True, "dataset": {**SITES, "split": None}}, "keeps groups whole"),
        ({"split_check": True, "tune": {"space": {"momentum": [0.0, 0.9]}, "trials": 2}},
         "split_check and tune cannot be combined"),
    ],
)  # fmt: skip
def test_what_cannot_be_checked_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        bench.plan({**SUITE, **change}, device="cpu")


def test_the_plan_tells_the_cost() -> None:
    plan = bench.plan({**SUITE, "split_check": True}, device="cpu")
    (sentence,) = [each for each in plan.sentences if each.startswith("split_check")]
    assert "one config of each strategy" in sentence
    assert "2 trainings" in sentence
    suite = load_suite({**SUITE, "split_check": "all"}, catalogue()).suite
    assert check_sentence(suite, [], 10.0) is None


def test_the_interval_of_a_difference_joins_those_of_both() -> None:
    whole = Estimate(value=0.6, interval=(0.5, 0.72))
    random = Estimate(value=0.9, interval=(0.86, 0.93))
    found = flattered(whole, random, metric_called("accuracy"))
    # Zou and Donner (2008), by hand.
    low = 0.3 - (0.04**2 + 0.12**2) ** 0.5
    high = 0.3 + (0.03**2 + 0.1**2) ** 0.5
    assert found.value == pytest.approx(0.3)
    assert found.interval == pytest.approx((low, high))
    less = flattered(whole, random, metric_called("log_loss"))
    assert less.value == pytest.approx(-0.3)
    assert less.interval == pytest.approx((-high, -low))
