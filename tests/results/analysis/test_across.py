"""Runs against each other: what is claimed, on which seeds and images, what differs around them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bench.results.analysis import compare_runs
from bench.results.analysis.across import Difference, ScoredPair, changes_of
from bench.results.analysis.crossed import crossed_p, crossed_table, joined
from bench.results.analysis.scores import Scores
from bench.results.folder import Run, write_json
from bench.results.folder.run import read_run
from tests.made_up_run import BRIER, made_up_run
from tests.results.scored_run import Scored, scored_run

STRATEGIES = ("a", "b", "c")


def _right(
    rng: np.random.Generator, accuracy: float, seeds: int = 3, samples: int = 300
) -> npt.NDArray[np.bool_]:
    """Some images are hard for all models, others for the single one."""
    own = rng.random((seeds, samples))
    return np.asarray(np.where(rng.random(samples) < 0.5, own, own[0]) < accuracy)


def _configs(rights: Sequence[npt.NDArray[np.bool_]], **options: Any) -> list[Scored]:
    return [
        Scored(right=right, axes={"strategy": name, **options})
        for name, right in zip(STRATEGIES, rights, strict=False)
    ]


def _runs(
    folder: Path, *, drop: float = 0.0, seeds: int = 3, **options: Any
) -> tuple[Run, Run, list[Any], list[Any]]:
    rng = np.random.default_rng(0)
    before = [_right(rng, 0.9, seeds) for _ in STRATEGIES]
    after = [_right(rng, 0.9 - drop, seeds), *(_right(rng, 0.9, seeds) for _ in "bc")]
    return (
        scored_run(folder / "before", _configs(before)),
        scored_run(folder / "after", _configs(after), **options),
        before,
        after,
    )


def test_a_run_against_itself_is_the_same(tmp_path: Path) -> None:
    before, *_ = _runs(tmp_path)
    found = compare_runs(before, before)
    assert [change.judgement for change in found.changes] == ["same"] * 3
    assert (found.environment, found.suite, found.regressions) == ((), (), ())
    assert (found.ambiguous, found.only_before, found.only_after) == ((), (), ())
    assert (found.scores.common, found.scores.relabelled) == (300, 0)


def test_claims_are_those_of_the_crossed_test_in_one_family(tmp_path: Path) -> None:
    before, after, one, other = _runs(tmp_path, drop=0.2)
    found = compare_runs(before, after)
    tables = [crossed_table(b.astype(float) - a) for a, b in zip(one, other, strict=True)]
    ps = crossed_p(joined(tables), independent=3)
    for change, p, sides in zip(found.changes, ps, zip(one, other, strict=True), strict=True):
        comparison = change.comparison
        assert comparison is not None
        assert comparison.p == pytest.approx(p)
        assert comparison.comparisons == 3
        assert (change.before, change.after) == pytest.approx([side.mean() for side in sides])
        assert comparison.difference == pytest.approx(change.after - change.before)
        assert change.seeds == (0, 1, 2)
    assert [change.label for change in found.regressions] == ["a"]
    assert found.changes[0].comparison is not None
    assert found.changes[0].comparison.interval[1] < 0
    turned = compare_runs(after, before)
    assert turned.changes[0].judgement == "better"


@pytest.mark.parametrize("seeds", [1, 2])
def test_with_few_seeds_nothing_is_a_regression(tmp_path: Path, seeds: int) -> None:
    before, after, *_ = _runs(tmp_path, drop=0.4, seeds=seeds)
    found = compare_runs(before, after)
    assert found.of_models
    assert found.regressions == ()
    (first, *_) = found.changes
    assert first.judgement == "open"
    assert first.comparison is not None
    assert first.comparison.models_verdict == "worse"


def test_only_common_seeds_count(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    one, other = _right(rng, 0.9, 4), _right(rng, 0.8, 4)
    before = scored_run(tmp_path / "a", [Scored(right=one, seeds=(0, 1, 2, 3))])
    after = scored_run(tmp_path / "b", [Scored(right=other, seeds=(1, 2, 3, 4))])
    (change,) = compare_runs(before, after).changes
    assert change.seeds == (1, 2, 3)
    assert (change.before, change.after) == pytest.approx((one[1:].mean(), other[:3].mean()))
    later = scored_run(tmp_path / "c", [Scored(right=other, seeds=(4, 5, 6, 7))])
    found = compare_runs(before, later)
    (change,) = found.changes
    assert (change.comparison, change.judgement) == (None, "open")
    assert change.reason == "no common seed"
    assert math.isnan(change.before)
    assert found.compared == ()


def test_samples_are_joined_by_id_and_label(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    one, other = _right(rng, 0.9), _right(rng, 0.7)
    names = [f"{index}.jpg" for index in range(300)]
    labels = np.arange(300) % 2
    moved = labels.copy()
    moved[250:] = 1 - moved[250:]
    before = scored_run(
        tmp_path / "a", [Scored(right=one)], samples=names, data={"fingerprint": "x"}
    )
    order = np.argsort([name[::-1] for name in names])
    after = scored_run(
        tmp_path / "b",
        [Scored(right=other[:, order][:, :200])],
        samples=[names[index] for index in order][:200],
        labels=moved[order][:200],
        data={"fingerprint": "y"},
    )
    found = compare_runs(before, after)
    both = [index for index in order[:200] if index < 250]
    facts = found.scores
    assert (facts.before, facts.after, facts.common) == (300, 200, len(both))
    assert (facts.relabelled, found.same_data) == (200 - len(both), False)
    (change,) = found.changes
    assert (change.before, change.after) == pytest.approx(
        (one[:, both].mean(), other[:, both].mean())
    )


def test_nothing_is_claimed_of_other_images(tmp_path: Path) -> None:
    right = _right(np.random.default_rng(3), 0.9)
    before = scored_run(tmp_path / "a", [Scored(right=right)])
    other = [f"other/{index}" for index in range(300)]
    after = scored_run(tmp_path / "b", [Scored(right=~right)], samples=other)
    found = compare_runs(before, after)
    assert found.scores.common == 0
    assert found.regressions == found.compared == ()
    assert found.changes[0].reason == "no common test image"
    assert (found.changes[0].before, found.changes[0].after) == pytest.approx(
        (right.mean(), 1 - right.mean())
    )


def test_nothing_is_claimed_without_predictions(tmp_path: Path) -> None:
    right = _right(np.random.default_rng(3), 0.9)
    before = scored_run(tmp_path / "a", [Scored(right=right)], predictions=False)
    after = scored_run(tmp_path / "b", [Scored(right=~right)])
    found = compare_runs(before, after)
    assert found.regressions == found.compared == ()
    assert found.changes[0].reason == "the first run has no predictions of it"
    assert found.changes[0].before == pytest.approx(right.mean())


def test_a_run_and_one_with_another_learning_rate(tmp_path: Path) -> None:
    rights = [_right(np.random.default_rng(n), 0.9) for n in range(2)]
    before = scored_run(tmp_path / "a", _configs(rights))
    after = scored_run(tmp_path / "b", _configs(rights, lr=0.001))
    found = compare_runs(before, after)
    assert [change.judgement for change in found.changes] == ["same", "same"]
    for change in found.changes:
        assert [(d.name, d.before, d.after) for d in change.differs] == [("lr", "0.01", "0.001")]
    near = scored_run(tmp_path / "c", _configs(rights, lr=0.01 + 1e-12))
    (differs, *_) = compare_runs(before, near).changes[0].differs
    assert differs.before != differs.after


def test_what_differs_around_them(tmp_path: Path) -> None:
    rights = [_right(np.random.default_rng(n), 0.9) for n in range(2)]
    before = scored_run(tmp_path / "a", _configs(rights))
    (first, second) = _configs(rights)
    other = Scored(right=second.right, axes={"strategy": "z"})
    after = scored_run(tmp_path / "b", [first, other], suite="name: later\n")
    write_json(
        after.folder / "environment.json",
        {"cpu": "other", "command": "x", "versions": {"torch": "2.11.0"}},
    )
    found = compare_runs(before, read_run(after.folder))
    assert [change.label for change in found.changes] == ["a"]
    assert (found.only_before, found.only_after) == (("b",), ("z",))
    differences = {d.name: (d.before, d.after) for d in found.environment}
    assert differences == {
        "cpu": ("made-up processor", "other"),
        "versions.torch": ("–", "2.11.0"),
    }
    assert [(d.name, d.before, d.after) for d in found.suite] == [("name", "made_up", "later")]


def test_another_rule_of_inputs_is_told(tmp_path: Path) -> None:
    """Under one suite, as what `resize: auto` comes to depends on the version."""
    told = {"used_by": ["net · w"], "kind": "image", "size": 64}
    runs = []
    for name, rules in (("a", ["crop"]), ("b", ["squash", "pad"]), ("c", [])):
        run = made_up_run(tmp_path / name, strategies=["x"], seeds=1, epochs=1)
        inputs = [{**told, "resize": rule} for rule in rules]
        content = {**run.data, "inputs": inputs}
        (run.folder / "data.json").write_text(json.dumps(content))
        runs.append(read_run(run.folder))
    found = [each for each in compare_runs(*runs[:2]).environment if each.name == "inputs"]
    assert found == [
        Difference(name="inputs", before="64 px by crop", after="64 px by squash, 64 px by pad")
    ]
    for other in (runs[0], runs[2]):
        assert all(each.name != "inputs" for each in compare_runs(runs[0], other).environment)


@pytest.mark.parametrize(
    ("fact", "value"), [("resize", "squash"), ("interpolation", "bicubic"), ("std", [1.0] * 3)]
)
@pytest.mark.parametrize("asked", [False, True])
def test_other_inputs_are_compared_only_if_the_suites_ask_for_them(
    tmp_path: Path, fact: str, value: object, asked: bool
) -> None:
    rule: dict[str, object] = {
        "used_by": ["net · w"], "kind": "image", "size": 64, "resize": "crop",
        "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.25] * 3,
    }  # fmt: skip
    runs = []
    for name, own in (("a", rule), ("b", {**rule, fact: value})):
        run = made_up_run(tmp_path / name, strategies=["x"], seeds=3, epochs=1)
        (run.folder / "data.json").write_text(json.dumps({**run.data, "inputs": [own]}))
        runs.append(read_run(run.folder))
    if asked:
        runs[1] = replace(runs[1], suite={**runs[1].suite, "weights": "others"})
    told = "" if asked else f"images became inputs in different ways ({fact})"
    found = compare_runs(*runs).changes
    assert {(change.comparison is not None, change.reason) for change in found} == {(asked, told)}
    again = compare_runs(runs[0], runs[0]).changes
    assert all(change.comparison is not None for change in again)


def test_runs_by_another_metric(tmp_path: Path) -> None:
    before, after, one, other = _runs(tmp_path, drop=0.2)
    accuracy = {"name": "accuracy", "label": "accuracy", "higher_is_better": True, "percent": True}
    by_accuracy = compare_runs(before, after)
    for run in (before, after):
        write_json(run.folder / "data.json", {**run.data, "metrics": [BRIER, accuracy]})
    found = compare_runs(read_run(before.folder), read_run(after.folder))
    assert found.metric.name == "brier"
    assert found.changes[0].judgement == "worse"
    # Right predictions score 0.02, wrong ones 1.62.
    assert [c.before for c in found.changes] == pytest.approx(
        [0.02 * each.mean() + 1.62 * (1 - each.mean()) for each in one]
    )
    assert other
    write_json(after.folder / "data.json", {**after.data, "metrics": [accuracy, BRIER]})
    mixed = compare_runs(read_run(before.folder), read_run(after.folder))
    assert (mixed.metric.name, [each.name for each in mixed.chosen_by]) == (
        "accuracy",
        ["brier", "accuracy"],
    )
    assert [c.judgement for c in mixed.changes] == [c.judgement for c in by_accuracy.changes]


def test_a_metric_that_is_no_mean_is_scored_on_the_same_blocks(tmp_path: Path) -> None:
    """Blocks of samples must be the same in both runs, whatever their order."""
    balanced = {
        "name": "balanced_accuracy",
        "label": "balanced accuracy",
        "higher_is_better": True,
        "percent": True,
    }
    right = _right(np.random.default_rng(5), 0.8, samples=450)
    names = [f"{index}.jpg" for index in range(450)]
    order = np.random.default_rng(6).permutation(450)
    labels = np.arange(450) % 2
    runs = []
    for name, own in (("a", np.arange(450)), ("b", order)):
        scored_run(
            tmp_path / name,
            [Scored(right=right[:, own])],
            samples=[names[index] for index in own],
            labels=labels[own],
            data={"metrics": [balanced]},
        )
        runs.append(read_run(tmp_path / name))
    (change,) = compare_runs(*runs).changes
    assert change.judgement == "same"
    assert change.before == pytest.approx(right.mean(), abs=0.01)


# What the test is worth -----------------------------------------------------------------------


def _simulated(
    rng: np.random.Generator, *, seeds: int, configs: int, drop: float = 0.0, samples: int = 400
) -> list[str]:
    """The judgements of two runs of equal configs, but for the first, which may be worse.

    Half of what makes an image hard goes with the image; a training is lucky by half a point.
    """
    names = tuple(map(str, range(samples)))
    hard = rng.normal(size=samples)
    pairs = []
    for index in range(configs):
        sides = []
        for threshold in (-1.28, -1.28 + (0.44 if drop and not index else 0.0)):
            luck = 0.03 * rng.normal(size=(seeds, 1))
            own = hard + rng.normal(size=(seeds, samples)) / 2 + rng.normal(size=samples) / 2
            values = (own / math.sqrt(1.5) + luck > threshold).astype(np.float64)
            sides.append(Scores(seeds=tuple(range(seeds)), samples=names, values=values))
        pairs.append(ScoredPair(label=str(index), before=sides[0], after=sides[1]))
    return [change.judgement for change in changes_of(pairs)]


@pytest.mark.parametrize(("seeds", "studies", "most"), [(1, 20, 0), (2, 30, 0), (3, 150, 0.05)])
def test_equal_runs_seldom_fail(seeds: int, studies: int, most: float) -> None:
    rng = np.random.default_rng(8)
    failed = ["worse" in _simulated(rng, seeds=seeds, configs=10) for _ in range(studies)]
    assert np.mean(failed) <= most


def test_a_drop_of_ten_points_is_caught() -> None:
    rng = np.random.default_rng(9)
    caught = [_simulated(rng, seeds=3, configs=10, drop=0.1)[0] == "worse" for _ in range(40)]
    assert np.mean(caught) >= 0.8
