"""Groups of test images as samples: against textbook formulas, and on simulated runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta, ttest_1samp

from bench.methods.metrics import accuracy
from bench.results.analysis import compare_pairs, read_verdict, trial_scores
from bench.results.analysis.across import compare_runs
from bench.results.analysis.by_class import share_of
from bench.results.analysis.comparison import Comparison
from bench.results.analysis.crossed import (
    LEAST_GROUPS,
    crossed_p,
    crossed_table,
    half_widths,
    joined,
)
from bench.results.analysis.outlook import outlook
from bench.results.analysis.scores import (
    MAX_BLOCKS,
    Scores,
    blocks_of_groups,
    by_group,
    in_groups,
    pseudo_values,
)
from bench.results.folder import Run, prediction_columns, read_run, write_json
from bench.results.metric import metric_called
from bench.results.report.changes import about
from bench.results.report.evidence import Findings
from tests.results.scored_run import Scored, scored_run

SIZES = np.array([1, 7, 2, 2, 12, 5, 1, 4, 3, 9])
GROUP = np.repeat(np.arange(len(SIZES)), SIZES)


def _values(seed: int, rows: int = 3) -> np.ndarray:
    return (np.random.default_rng(seed).random((rows, SIZES.sum())) < 0.8).astype(float)


def _scores(values: np.ndarray) -> Scores:
    names = tuple(map(str, range(values.shape[1])))
    return Scores(seeds=tuple(range(len(values))), samples=names, values=values)


def _pair(first: Scores, second: Scores) -> Comparison:
    (found,) = compare_pairs([("a", "b", {"": first}, {"": second})])
    return found


def test_the_spread_over_groups_is_that_of_cluster_robust_errors() -> None:
    values = _values(0)
    found = by_group(values, GROUP)
    assert found.mean(axis=1) == pytest.approx(values.mean(axis=1))
    number = len(SIZES)
    for row, own in zip(values, found, strict=True):
        left_out = np.array([row[g != GROUP].mean() for g in range(number)])
        # The delete-one-cluster jackknife (CV3).
        robust = (number - 1) / number * np.square(left_out - left_out.mean()).sum()
        assert own.var(ddof=1) / number == pytest.approx(robust)


def test_a_group_left_out_gives_a_mean_the_same_scores() -> None:
    right = _values(1, rows=1)
    probabilities = np.stack([right[0], 1 - right[0]], axis=1)
    labels = np.zeros(len(GROUP), np.int64)
    found = pseudo_values(accuracy, labels, probabilities, GROUP, len(SIZES))
    assert found == pytest.approx(by_group(right, GROUP)[0])


def test_many_groups_stand_in_blocks_that_part_none() -> None:
    groups = [f"p{index // 2}" for index in range(3 * MAX_BLOCKS)]
    block = blocks_of_groups(groups)
    assert len(set(block)) == MAX_BLOCKS
    assert all(block[index] == block[index + 1] for index in range(0, len(groups), 2))


def test_groups_of_one_image_are_images_to_the_last_bit() -> None:
    values = _values(2)
    scores = _scores(values)
    assert in_groups(scores, [f"p{index}" for index in range(values.shape[1])]) is scores
    rng = np.random.default_rng(3)
    frames = []
    for trial in "ab":
        probabilities = rng.dirichlet((1, 1), 40)
        columns = prediction_columns(
            samples=[f"{index:02}" for index in range(40)], labels=np.arange(40) % 2,
            probabilities=probabilities, classes=("x", "y"),
        )  # fmt: skip
        frames.append(pd.DataFrame(columns).assign(trial=trial))
    plain = pd.concat(frames, ignore_index=True)
    for name in ("accuracy", "log_loss", "macro_f1", "auroc"):
        found = [
            trial_scores(each, metric_called(name))
            for each in (plain, plain.assign(group="p" + plain["sample"]))
        ]
        scored = [each.of({0: ("a",), 1: ("b",)}) for each in found if each is not None]
        assert scored[0] is not None
        assert scored[1] is not None
        assert scored[0].samples == scored[1].samples
        assert np.array_equal(scored[0].values, scored[1].values)
        assert scored[1].grouping is None


def test_without_luck_of_training_it_is_students_t_over_groups() -> None:
    by_sample = np.random.default_rng(4).normal(0.3, 1, 9)
    table = joined([crossed_table(np.tile(by_sample, (3, 1)), grain=0.0, grouped=True)])
    wanted = ttest_1samp(by_sample, 0)
    assert crossed_p(table, independent=1)[0] == pytest.approx(wanted.pvalue, rel=2e-3)
    half = half_widths(table, independent=1, alpha=0.05)[0]
    assert half == pytest.approx(wanted.confidence_interval().high - by_sample.mean(), rel=2e-3)


@pytest.mark.parametrize("groups", [6, 12, 60])
def test_intervals_of_groups_leave_out_0_where_p_is_small(groups: int) -> None:
    rng = np.random.default_rng(groups)
    tables = joined(
        [
            crossed_table(rng.normal(lead, 1, (4, groups)), grain=0.0, grouped=True)
            for lead in np.linspace(0, 1.5, 12)
        ]
    )
    for alpha in (0.05, 0.005):
        half = half_widths(tables, independent=3, alpha=alpha)
        claimed = crossed_p(tables, independent=3) < alpha
        assert ((np.abs(tables.effect) > half) == claimed).all()


def test_a_table_of_images_is_judged_as_without_groups_beside_it() -> None:
    rng = np.random.default_rng(5)
    plain, grouped = rng.normal(0.2, 1, (2, 4, 50))
    alone = joined([crossed_table(plain), crossed_table(grouped)])
    both = joined([crossed_table(plain), crossed_table(grouped, grouped=True)])
    expected, found = (crossed_p(each, independent=2) for each in (alone, both))
    assert found[0] == pytest.approx(expected[0], rel=1e-3)
    assert found[1] > expected[1]


def test_few_groups_show_an_interval_and_claim_nothing() -> None:
    sizes = np.full(LEAST_GROUPS - 1, 40)
    group = [f"p{g}" for g in np.repeat(np.arange(len(sizes)), sizes)]
    best, worst = np.ones((4, sizes.sum())), np.zeros((4, sizes.sum()))
    worst[:, ::40] = 1
    found = _pair(*(in_groups(_scores(values), group) for values in (best, worst)))
    assert found.samples == LEAST_GROUPS - 1
    assert found.few_groups
    assert found.interval[0] > 0
    assert (found.verdict, found.models_verdict, found.not_worse) == ("open", "open", False)
    more = np.tile(best, (1, 2)), np.tile(worst, (1, 2))
    twice = [*group, *(f"q{name}" for name in group)]
    assert _pair(*(in_groups(_scores(values), twice) for values in more)).verdict == "better"


def test_a_group_with_most_of_the_images_lets_nothing_be_claimed() -> None:
    group = ["p"] * 101 + [f"q{index}" for index in range(100)]
    right = np.random.default_rng(12).random((4, len(group))) < 0.9
    sides = [_scores(each.astype(float)) for each in (right, np.zeros_like(right))]
    found = _pair(*(in_groups(each, group) for each in sides))
    assert (found.samples, found.few_groups, found.verdict) == (101, True, "open")
    assert _pair(*sides).verdict == "better"


def test_fewer_than_three_seeds_are_judged_by_groups_too() -> None:
    first, second = (
        in_groups(_scores(_values(seed, rows=1)), [*map(str, GROUP)]) for seed in (6, 7)
    )
    found = _pair(first, second)
    wanted = ttest_1samp((first.values - second.values)[0], 0)
    assert found.of_models
    assert found.p == pytest.approx(wanted.pvalue)


def test_shares_of_classes_count_groups() -> None:
    hits = _values(8).astype(bool)
    counted = np.ones_like(hits)
    groups = [f"p{g}" for g in GROUP]
    plain = share_of(hits, counted, crossed=True)
    grouped = share_of(hits, counted, crossed=True, groups=groups)
    assert grouped.value == plain.value
    whole = np.tile(np.repeat([1, 0, 1, 1, 1, 0, 1, 1, 1, 1], SIZES).astype(bool), (3, 1))
    widths = [
        np.diff(share_of(whole, counted, crossed=True, groups=own).interval)[0]
        for own in (None, groups)
    ]
    assert widths[1] > 1.5 * widths[0]
    one = share_of(whole, counted, crossed=False, groups=["p"] * len(GROUP))
    assert np.isnan(one.interval).all()


@pytest.fixture
def clinic(tmp_path: Path) -> Run:
    """Two strategies, of which one is wrong on all images of half of the groups."""
    group = [f"p{index // 20}" for index in range(240)]
    rng = np.random.default_rng(9)
    base = rng.random((3, 240)) < 0.95
    other = base & (np.arange(240) % 40 < 26)
    configs = [
        Scored(right=base, axes={"strategy": "linear_probe"}),
        Scored(right=other, axes={"strategy": "full_finetune"}),
    ]
    return scored_run(tmp_path / "run", configs, groups=group, data={"groups_count": True})


def test_a_run_counts_groups_and_says_so(clinic: Run) -> None:
    verdict = read_verdict(clinic)
    assert (verdict.samples, verdict.groups) == (240, 12)
    (pair,) = verdict.comparisons
    assert (pair.samples, pair.grouped) == (12, True)
    text = " ".join(map(str, Findings(run=clinic).lines))
    assert "240 test images in 12 groups" in text
    assert Findings(run=clinic).verdict_json["test_groups"] == 12


def test_a_run_of_an_earlier_version_keeps_its_rule(clinic: Run) -> None:
    data = {name: value for name, value in clinic.data.items() if name != "groups_count"}
    write_json(clinic.folder / "data.json", data)
    earlier = read_run(clinic.folder)
    verdict = read_verdict(earlier)
    assert (verdict.groups, verdict.comparisons[0].samples) == (0, 240)
    assert "group" in earlier.predictions
    assert "come in 12 groups and are counted one by one" in str(Findings(run=earlier).lines[-1])


def _beta_binomial(
    rng: np.random.Generator, runs: int, groups: int
) -> tuple[list[float], list[float]]:
    """p of two equal strategies, by groups and by images; a group's chance is a strategy's own."""
    by_groups, by_images = [], []
    for _ in range(runs):
        sizes = np.minimum(rng.geometric(0.1, groups), 60)
        group = np.repeat(np.arange(groups), sizes)
        sides = []
        for _ in range(2):
            chance = beta.rvs(0.85, 0.15, size=groups, random_state=rng)[group]
            sides.append((rng.random((3, len(group))) < chance).astype(float))
        difference = sides[0] - sides[1]
        grain = 1 / (len(group) + 2)
        table = crossed_table(by_group(difference, group), grain=grain, grouped=True)
        by_groups.append(float(crossed_p(joined([table]), independent=1)[0]))
        by_images.append(float(crossed_p(joined([crossed_table(difference)]), independent=1)[0]))
    return by_groups, by_images


@pytest.mark.campaign
@pytest.mark.parametrize("groups", [LEAST_GROUPS, 12, 40])
def test_equal_strategies_are_told_apart_at_the_nominal_rate(groups: int) -> None:
    found = _beta_binomial(np.random.default_rng(10), 1500, groups)
    by_groups, by_images = (np.mean(np.array(each) < 0.05) for each in found)
    assert by_groups < 0.07
    assert by_images > 0.3


def test_a_metric_of_groups_has_its_figure_as_mean() -> None:
    frame = pd.DataFrame(
        prediction_columns(
            samples=[f"{index:03}" for index in range(60)],
            labels=np.arange(60) % 2,
            probabilities=np.random.default_rng(11).dirichlet((1, 1), 60),
            classes=("x", "y"),
            groups=[f"p{index // 5}" for index in range(60)],
        )
    ).assign(trial="t")
    for name in ("accuracy", "macro_f1", "auroc"):
        scored = trial_scores(frame, metric_called(name))
        scores = None if scored is None else scored.of({0: ("t",)})
        assert scores is not None
        assert scores.grouping is not None
        assert (scores.grouping.groups, scores.images, len(scores.samples)) == (12, 60, 12)


def test_runs_are_compared_by_groups_if_they_count_in_one_of_them(clinic: Run) -> None:
    shutil.copytree(clinic.folder, clinic.folder.parent / "earlier")
    earlier = clinic.folder.parent / "earlier"
    data = {name: value for name, value in clinic.data.items() if name != "groups_count"}
    write_json(earlier / "data.json", data)
    found = compare_runs(clinic, read_run(earlier))
    assert {each.comparison.samples for each in found.compared if each.comparison} == {12}
    assert "Each of 12 groups of test images counts as one sample." in about(found)
    alone = compare_runs(read_run(earlier), read_run(earlier))
    assert {each.comparison.samples for each in alone.compared if each.comparison} == {240}


def test_a_plan_says_what_groups_can_show() -> None:
    few, more = (outlook(2, 3, 400, groups) for groups in (LEAST_GROUPS - 1, 20))
    assert "400 test images in 7 groups: nothing can be claimed" in few
    assert more.endswith("right or wrong together")
    assert more.startswith(outlook(2, 3, 400).partition(":")[0])
