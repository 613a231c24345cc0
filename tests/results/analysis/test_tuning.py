from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna.importance  # not the stand-in that it is before the first import
import pandas as pd
import pyarrow.parquet as pq
import pytest

from bench.errors import BenchError
from bench.results.analysis import (
    Edge,
    Goal,
    Setting,
    Study,
    budgets,
    edges,
    evenness,
    front,
    gains,
    image_gap,
    importances,
    incumbents,
    number_text,
    overtakings,
    read_goals,
    read_studies,
)
from bench.results.analysis.crossed import crossed_p, crossed_table, joined
from bench.results.folder import Run, Tuning, read_tuning
from tests.made_up_tuning import ACCURACY, SECONDS, made_up_tuning

HIGHEST = Goal(name="val_accuracy", maximize=True)
SHORTEST = Goal(name="seconds", maximize=False)


def _tuning(folder: Path, **options: Any) -> Tuning:
    made_up_tuning(folder, **options)
    found = read_tuning(folder)
    assert found is not None
    return found


def _study(rows: Sequence[Mapping[str, Any]], space: Sequence[Setting], **options: Any) -> Study:
    """A study of these rows; what they do not say is plain."""
    plain = {"state": "complete", "origin": "sampler", "images": 10, "seconds": 1.0}
    listed = [
        {**plain, "number": number, "val_accuracy_sd": None, **row}
        for number, row in enumerate(rows)
    ]
    fields = {"best": None, "untuned_config": None, "tuned_config": None, **options}
    return Study(name="s", space=tuple(space), trials=pd.DataFrame(listed), **fields)


def _some(row: dict[str, Any]) -> None:
    if row["number"] == 3:
        row.update(state="failed", val_accuracy=None, val_accuracy_sd=None, error="boom")
    if row["number"] in (5, 6):
        row.update(state="pruned", val_accuracy=0.99)


def test_studies_are_those_of_the_description(tmp_path: Path) -> None:
    tuning = _tuning(tmp_path / "r", strategies=["b", "a"], schedules=["x", "y"])
    metadata = pq.read_schema(tmp_path / "r" / "tuning.parquet").metadata[b"bench.tuning"]
    about = json.loads(metadata)["studies"]
    studies = read_studies(tuning)
    assert [study.name for study in studies] == ["b · x", "b · y", "a · x", "a · y"] == list(about)
    for study in studies:
        assert list(study.trials["number"]) == list(range(12))
        assert set(study.trials["study"]) == {study.name}
        assert study.best == about[study.name]["best"]
        assert study.searched == ("lr", "weight_decay", "optimizer")
        assert study.suite is not None
        assert study.values_of(study.suite) == {
            "lr": "0.001",
            "weight_decay": "0.001",
            "optimizer": "sgd",
        }
    assert read_goals(tuning) == [HIGHEST]


def test_the_best_so_far_is_that_of_complete_trials(tmp_path: Path) -> None:
    tuning = _tuning(tmp_path / "r", strategies=["a", "b"], change=_some)
    rows = pd.read_parquet(tmp_path / "r" / "tuning.parquet")
    for study in read_studies(tuning):
        own = rows[rows["study"] == study.name].sort_values("number")
        found = incumbents(study, HIGHEST)
        assert list(found["images"]) == list(own["images"].cumsum())
        for index in range(len(own)):
            seen = own.iloc[: index + 1].query("state == 'complete'")
            best = seen.loc[seen["val_accuracy"].idxmax()]
            assert found["value"].iloc[index] == best["val_accuracy"] < 0.99
            assert found["sd"].iloc[index] == best["val_accuracy_sd"]
        fastest = own["seconds"].where(own["state"] == "complete").cummin().ffill()
        assert list(incumbents(study, SHORTEST)["value"]) == list(fastest)


def test_before_the_first_complete_trial_nothing_is_best() -> None:
    rows = [{"val_accuracy": None, "state": "failed"}, {"val_accuracy": 0.5}]
    found = incumbents(_study(rows, []), HIGHEST)
    assert np.isnan(found["value"].iloc[0])
    assert found["value"].iloc[1] == 0.5
    assert np.isnan(found["sd"]).all()
    assert incumbents(_study([], []), HIGHEST).empty


def test_budgets_are_sums_of_the_table(tmp_path: Path) -> None:
    tuning = _tuning(tmp_path / "r", strategies=["a", "b"], change=_some)
    rows = pd.read_parquet(tmp_path / "r" / "tuning.parquet")
    for budget in budgets(read_studies(tuning)):
        own = rows[rows["study"] == budget.study]
        states = own["state"].value_counts()
        failed = own["state"] == "failed"
        assert budget.images == own.loc[~failed, "images"].sum()
        assert budget.failed_images == own.loc[failed, "images"].sum() > 0
        assert budget.seconds == pytest.approx(own["seconds"].sum())
        assert budget.failed == states["failed"] == 1
        assert budget.pruned == states["pruned"] >= 2
        assert budget.complete == states["complete"]
        assert budget.complete + budget.pruned + budget.failed == budget.trials == 12


def test_failed_trials_are_no_budget() -> None:
    """The same images were processed, but one study learned from a twelfth of them."""
    whole, broken = budgets(
        [
            _study([{"images": 100}] * 12, []),
            _study(
                [{"images": 100, "state": "failed" if n else "complete"} for n in range(12)], []
            ),
        ]
    )
    assert whole.images == broken.images + broken.failed_images == 1200
    assert image_gap([whole, broken]) == pytest.approx(11 / 12)


def test_the_gap_is_relative_to_the_most() -> None:
    (one,) = budgets([_study([{"images": 100}], [])])
    assert image_gap([one, replace(one, images=90)]) == pytest.approx(0.1)
    assert image_gap([one, one]) == 0
    assert image_gap([one]) == image_gap([]) == image_gap([replace(one, images=0)]) == 0


@pytest.mark.parametrize(
    ("value", "log", "expected"),
    [
        (1e-4, True, True),
        (1.4e-4, True, True),  # log: 3.7 % of the range
        (1.7e-4, True, None),  # 5.8 %
        (1.7e-4, False, True),
        (0.5, True, None),  # 92.5 %
        (0.96, False, False),
        (0.8, True, False),
        (2.0, True, False),  # the suite's own value may lie outside
        (0.5, False, None),
    ],
)
def test_edges_are_within_five_percent(value: float, log: bool, expected: bool | None) -> None:
    setting = Setting(name="lr", low=1e-4, high=1.0, log=log)
    tried = [{"param_lr": 1e-4}, {"param_lr": value}, {"param_lr": 1.0}]
    found = edges([_study(tried, [setting], best=1)])
    sides = {None: [], True: ["lower"], False: ["upper"]}
    assert [edge.side for edge in found] == sides[expected]
    assert all((edge.study, edge.setting, edge.value) == ("s", setting, value) for edge in found)
    assert all(edge.end for edge in found)


@pytest.mark.parametrize(
    ("tried", "best", "limits", "found"),
    [
        ([0.2, 0.4, 0.6], 1, (False, False), []),
        ([0.2, 0.4], 1, (False, False), [("upper", False)]),  # nothing beyond was tried
        ([0.4], 0, (False, False), [("lower", False), ("upper", False)]),
        ([0.0, 0.4], 0, (True, False), []),  # it cannot be below
        ([0.0, 0.4], 0, (False, False), [("lower", True)]),
        ([0.0, 1.0], 1, (True, True), []),
    ],
)
def test_an_optimum_is_inside_if_worse_values_were_tried_on_both_sides(
    tried: list[float], best: int, limits: tuple[bool, bool], found: list[tuple[str, bool]]
) -> None:
    setting = Setting(name="x", low=0.0, high=1.0, limits=limits)
    rows = [{"param_x": value, "state": "failed"} for value in tried]
    edge = edges([_study(rows, [setting], best=best)])
    assert [(each.side, each.end) for each in edge] == found


@pytest.mark.parametrize(
    ("choices", "limits", "found"),
    [
        ((1, 2, 4), (False, False), [["lower"], [], ["upper"]]),
        ((1, 2, 4), (True, False), [[], [], ["upper"]]),
        ((4, 2, 1), None, [[], [], []]),  # of an earlier version
        (("a", 2, 4), (False, False), [[], [], []]),
    ],
)
def test_a_list_of_numbers_has_ends(
    choices: tuple[Any, ...], limits: tuple[bool, bool] | None, found: list[list[str]]
) -> None:
    setting = Setting(name="x", choices=choices, limits=limits)
    rows = [{"param_x": value} for value in choices]
    for best, sides in enumerate(found):
        edge = edges([_study(rows, [setting], best=best)])
        assert [each.side for each in edge] == sides


def test_which_studies_are_equally_tuned_in_words() -> None:
    edge = Edge(
        study="b",
        setting=Setting(name="lr", low=0.001, high=1.0, log=True),
        value=1.0,
        side="upper",
        end=True,
        trials=20,
    )
    text = "b, whose best lr, 1, is at the upper end of 0.001 to 1 (log) after 20 trials"
    other = replace(edge, study="c", value=0.03, side="lower", end=False, trials=1)
    beyond = "c, whose best lr, 0.03, is the smallest that was tried after 1 trial"
    assert evenness(["a", "b", "d"], [edge]) == f"equally tuned: a; d. Not equally tuned: {text}"
    assert evenness(["b", "c"], [edge, other]) == f"not equally tuned: {text}; {beyond}"
    assert evenness(["a"], []) == "equally tuned: a"


def test_what_has_no_range_has_no_edge() -> None:
    rows = [{"param_a": 8.0, "param_b": 1.0, "param_c": None}]
    space = [
        Setting(name="a", choices=(8, 16)),
        Setting(name="b", low=1, high=1),
        Setting(name="c", low=0, high=1),
    ]
    assert edges([_study(rows, space, best=0)]) == []
    assert edges([_study(rows, space)]) == []  # nothing chosen
    zero = Setting(name="b", low=0, high=1, log=True)
    assert edges([_study(rows, [zero], best=0)]) == []


def _right(rng: np.random.Generator, accuracy: float, seeds: int = 4) -> Any:
    return rng.random((seeds, 300)) < accuracy


def _read(run: Run) -> Tuning:
    found = read_tuning(run.folder)
    assert found is not None
    return found


def test_gains_are_those_of_the_crossed_test_in_one_family(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = ["a", "b", "c"]
    before = {name: _right(rng, 0.8) for name in names}
    after = {name: _right(rng, p) for name, p in zip(names, (0.95, 0.8, 0.6), strict=True)}
    run = made_up_tuning(tmp_path / "r", strategies=names, seeds=4, right=(before, after))
    tuning = _read(run)
    found = gains(tuning, read_studies(tuning), run.trials, predictions=run.predictions)
    tables = [crossed_table(after[name].astype(float) - before[name]) for name in names]
    ps = crossed_p(joined(tables), independent=3)
    for gain, name, p in zip(found, names, ps, strict=True):
        assert gain.study.name == name
        assert gain.before.mean == pytest.approx(before[name].mean())
        assert gain.after.sd == pytest.approx(np.std(after[name].mean(axis=1), ddof=1))
        comparison = gain.comparison
        assert comparison is not None
        assert (comparison.first, comparison.second) == ("tuned", "untuned")
        assert comparison.seeds == tuple(range(4))
        assert comparison.difference == pytest.approx(after[name].mean() - before[name].mean())
        assert (comparison.p, comparison.comparisons) == (pytest.approx(p), 3)
    verdicts = [gain.comparison.verdict for gain in found if gain.comparison is not None]
    assert (verdicts[0], verdicts[2]) == ("better", "worse")
    means = pd.Series({name: after[name].mean() for name in names})
    assert [g.rank_after for g in found] == list(means.rank(ascending=False).astype(int))


def test_nothing_is_claimed_without_predictions(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    right = {"a": _right(rng, 0.5)}, {"a": _right(rng, 0.99)}
    run = made_up_tuning(tmp_path / "r", strategies=["a"], seeds=4, right=right)
    (run.folder / "untuned_predictions.parquet").unlink()  # as in folders of earlier versions
    tuning = _read(run)
    assert tuning.untuned_predictions is None
    (gain,) = gains(tuning, read_studies(tuning), run.trials, predictions=run.predictions)
    assert gain.comparison is None
    assert gain.after.mean == pytest.approx(right[1]["a"].mean())


def test_predictions_of_the_untuned_run_are_checked(tmp_path: Path) -> None:
    run = made_up_tuning(tmp_path / "r", strategies=["a"], seeds=2)
    path = run.folder / "untuned_predictions.parquet"
    table = pq.read_table(path)
    tuning = _read(run)
    assert tuning.untuned_predictions is not None
    assert len(tuning.untuned_predictions) == table.num_rows
    strange = table.set_column(0, table.schema.field(0), [["x"] * table.num_rows])
    for changed in (strange, table.drop(["label"]), table.slice(0, 1).replace_schema_metadata({})):
        pq.write_table(changed, path)
        with pytest.raises(BenchError, match=r"untuned_predictions\.parquet"):
            _ = _read(run).untuned_predictions


def test_the_test_split_of_both_runs_is_joined(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    before, after = _right(rng, 0.8), _right(rng, 0.9)
    right = {"a": before}, {"a": after[:, :200]}
    run = made_up_tuning(tmp_path / "r", strategies=["a"], seeds=4, right=right)
    tuning = _read(run)
    (gain,) = gains(tuning, read_studies(tuning), run.trials, predictions=run.predictions)
    assert gain.comparison is not None
    assert gain.comparison.samples == 200
    expected = after[:, :200].mean() - before[:, :200].mean()
    assert gain.comparison.difference == pytest.approx(expected)


def test_only_common_seeds_are_compared_and_only_what_is_compared_corrects(tmp_path: Path) -> None:
    def known(seed: int) -> Any:
        def change(row: dict[str, Any], _: dict[str, Any]) -> None:
            if (row["strategy"], row["seed"]) == ("a", seed) or (row["strategy"], seed) == ("c", 2):
                row.update(status="failed", error="boom", test_accuracy=None)

        return change

    run = made_up_tuning(
        tmp_path / "r",
        strategies=list("abc"),
        seeds=3,
        change_untuned=known(2),
        change_tuned=known(0),
        describe=lambda about: about["studies"]["b"].update(tuned_config=None),
    )
    tuning = _read(run)
    a, b, c = gains(tuning, read_studies(tuning), run.trials, predictions=run.predictions)
    if a.comparison is not None:  # where the predictions of both share test images
        assert (a.comparison.seeds, a.comparison.comparisons) == ((1,), 1)
    assert (a.before.n, a.after.n) == (2, 2)
    assert b.comparison is c.comparison is None
    assert (b.rank_after, c.rank_before) == (None, None)
    assert math.isnan(b.after.mean)


def test_overtakings_are_pairs_that_changed_places(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    accuracies = {"a": 0.9, "b": 0.75, "c": 0.75, "d": 0.5}
    before = {name: _right(rng, p) for name, p in accuracies.items()}
    before["c"] = before["b"]  # equal: no change of places
    after = {**before, "b": _right(rng, 0.99)}
    run = made_up_tuning(tmp_path / "r", strategies=list("abcd"), seeds=4, right=(before, after))
    tuning = _read(run)
    found = gains(tuning, read_studies(tuning), run.trials, predictions=run.predictions)
    assert [gain.rank_before for gain in found] == [1, 2, 2, 4]
    assert [gain.rank_after for gain in found] == [2, 1, 3, 4]
    (swapped,) = overtakings(found, run.trials, predictions=run.predictions)
    assert (swapped.first, swapped.second, swapped.comparisons) == ("b", "a", 6)
    assert swapped.difference == pytest.approx(after["b"].mean() - after["a"].mean())
    assert swapped.verdict == "better"
    (unknown,) = overtakings(found, run.trials)
    assert (unknown.first, unknown.verdict) == ("b", "open")


def test_the_front_is_what_nothing_dominates(tmp_path: Path) -> None:
    tuning = _tuning(tmp_path / "r", objectives=(ACCURACY, SECONDS), change=_some, trials=20)
    objectives = read_goals(tuning)
    rows = pd.read_parquet(tmp_path / "r" / "tuning.parquet").query("state == 'complete'")
    for study in read_studies(tuning):
        own = rows[rows["study"] == study.name]
        kept = [
            row["number"]
            for row in own.to_dict("records")
            if not (
                (own["val_accuracy"] >= row["val_accuracy"])
                & (own["seconds"] <= row["seconds"])
                & (own["number"] != row["number"])
            ).any()
        ]
        found = front(study, objectives)
        assert sorted(found["number"]) == kept
        assert found["val_accuracy"].is_monotonic_decreasing
        assert found["seconds"].is_monotonic_decreasing


def _deciding(count: int, **options: Any) -> Study:
    """A study in which the learning rate decides all and the dropout nothing."""
    rng = np.random.default_rng(1)
    rates, dropouts = 10 ** rng.uniform(-4, 0, count), rng.uniform(0, 1, count)
    kinds = rng.choice(["x", "y"], count)
    rows = [
        {"param_lr": rate, "param_drop": drop, "param_kind": kind}
        | {"val_accuracy": 1 - abs(math.log10(rate) + 2) / 4, "val_loss": 0.1}
        for rate, drop, kind in zip(rates, dropouts, kinds, strict=True)
    ]
    space = [
        Setting(name="lr", low=1e-4, high=1.0, log=True),
        Setting(name="drop", low=0.0, high=0.9),  # some were tried above it
        Setting(name="kind", choices=("x", "y")),
    ]
    return _study(rows, space, **options)


def test_what_decides_is_important() -> None:
    verbosity = optuna.logging.get_verbosity()
    shares = importances(_deciding(60), HIGHEST)
    assert list(shares) == ["lr", "drop", "kind"]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["lr"] > 0.5
    assert optuna.logging.get_verbosity() == verbosity


def test_of_too_little_no_importance_is_told() -> None:
    study = _deciding(8)
    assert importances(study, HIGHEST)
    assert importances(_deciding(7), HIGHEST) == {}
    assert importances(replace(study, space=study.space[:1]), HIGHEST) == {}
    assert importances(replace(study, trials=study.trials.assign(state="pruned")), HIGHEST) == {}
    never = replace(study, trials=study.trials.assign(val_accuracy=math.nan))
    assert importances(never, HIGHEST) == {}
    unused = (*study.space, Setting(name="other", low=0, high=1))
    assert importances(replace(study, space=unused), HIGHEST) == {}


def test_what_optuna_refuses_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("too few trials")

    verbosity = optuna.logging.get_verbosity()
    monkeypatch.setattr(optuna.importance, "get_param_importances", refuse)
    assert importances(_deciding(9), HIGHEST) == {}
    assert optuna.logging.get_verbosity() == verbosity


def test_a_setting_that_was_not_varied_has_no_importance() -> None:
    study = _deciding(20)
    same = study.trials.assign(param_drop=0.5, param_kind="x")
    fixed = (study.space[0], Setting(name="drop", low=0.5, high=0.5), study.space[2])
    shares = importances(replace(study, trials=same, space=fixed), HIGHEST)
    assert shares["drop"] == 0
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("cell", "choices", "expected"),
    [
        (1.0, (True, False), "yes"),
        (8.0, (8, 16), "8"),
        ("8", (8, "auto"), "8"),
        (None, (None, 1.0), "none"),
        (math.nan, (None, 1.0), "none"),
        (None, (8, 16), None),
        ("{'name': 'step', 'gamma': 0.5}", ({"name": "step", "gamma": 0.5},), "step(gamma=0.5)"),
        ("gone", ("a", "b"), "gone"),
    ],
)
def test_choices_in_words(cell: Any, choices: tuple[Any, ...], expected: str | None) -> None:
    assert Setting(name="x", choices=choices).text(cell) == expected


def test_numbers_in_words() -> None:
    numbers = (0.001, 0.00123456, 16.0, 1e-5, 120000.0, 1e7, 0.0)
    texts = ["0.001", "0.00123", "16", "1e-05", "120000", "1e+07", "0"]
    assert [number_text(number) for number in numbers] == texts
    assert Setting(name="lr", low=1e-5, high=1.0, log=True).range_text == "1e-05 to 1 (log)"
    assert Setting(name="x", choices=(None, True, 3)).range_text == "none, yes, 3"


def test_numbers_beside_another_studys_words_are_numbers(tmp_path: Path) -> None:
    spaces = {"a": {"x": {"low": 0.0, "high": 1.0, "log": False}}, "b": {"x": {"choices": ["u"]}}}
    tuning = _tuning(tmp_path / "r", strategies=["a", "b"], spaces=spaces)
    assert tuning.trials["param_x"].dtype.kind not in "fi"
    first, second = read_studies(tuning)
    assert first.column(first.space[0]).between(0, 1).all()
    assert set(second.column(second.space[0])) == {"u"}
    assert edges([first]) is not None
    assert first.chosen is not None
    assert first.values_of(first.chosen)["x"].startswith("0.")
