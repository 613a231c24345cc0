"""Widening: a best value at the end of a range is searched beyond it, within the same budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from bench.suite import Choices, Limit, Range, Searched
from bench.tuning import studies
from bench.tuning.studies import CellStudy, First
from bench.tuning.widening import setting_of, wider_ends
from tests.tuning.test_studies import _params, _perform, _search, _study

SAMPLERS = [
    "tpe",
    "grid",
    *(pytest.param(s, marks=pytest.mark.campaign) for s in ("random", "qmc", "gp", "cmaes")),
]
NARROW = Range(low=1e-3, high=1e-1, log=True)
GRID = Choices(values=(1e-3, 1e-2, 1e-1))
Score = Callable[[dict[str, Any], int], float]


def _peak(*, lr: float) -> Score:
    """The best learning rate is `lr`; weight decay matters little, and best is 0.03."""

    def score(params: dict[str, Any], seed: int) -> float:
        far = abs(math.log10(params["lr"] / lr))
        return 0.9 - 0.1 * far - 0.5 * abs(params.get("weight_decay", 0.03) - 0.03) - 0.01 * seed

    return score


def _run(study: CellStudy, score: Score, rounds: int | None = None) -> None:
    while (rounds is None or rounds > 0) and (suggestions := study.ask()):
        _perform(study, suggestions, score)
        rounds = None if rounds is None else rounds - 1


def _made(sampler: str, storage: Any = None, **method: Any) -> CellStudy:
    if sampler == "cmaes":
        pytest.importorskip("cmaes")
    ranges: dict[str, Any] = {"lr": GRID if sampler == "grid" else NARROW}
    if sampler != "grid":
        ranges["weight_decay"] = Range(low=0.0, high=0.1)
    return _study(storage, ranges=ranges, sampler=sampler, **{"trials": 24, **method})


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("lr", [2e-5, 2.0, 0.01])  # below, above, inside
def test_an_optimum_outside_of_the_range_is_found_inside_of_a_wider_one(
    sampler: str, lr: float
) -> None:
    study = _made(sampler)
    _run(study, _peak(lr=lr))
    assert study.best is not None
    assert abs(math.log10(study.best.params["lr"] / lr)) < 0.5
    reached = study.reached["lr"]
    ends = (min(reached.values), max(reached.values)) if sampler == "grid" else reached
    low, high = ends if isinstance(ends, tuple) else (ends.low, ends.high)
    assert low <= lr <= high
    assert 1e-6 <= low <= 1e-3  # three decades at most, downwards and upwards
    assert 1e-1 <= high <= 100
    assert not [edge for edge in study.edges() if edge.setting.name == "lr"]
    assert len(study.study.trials) <= 24
    assert len(study.study.trials) == 24 or sampler == "grid"
    params = [repr(sorted(params.items())) for params in _params(study)]
    assert len(set(params)) == len(params)  # new trials only
    decays = [params["weight_decay"] for params in _params(study) if "weight_decay" in params]
    assert min(decays, default=0.0) >= 0.0  # the setting's own limit


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_interrupted_search_widens_as_one_left_alone(sampler: str, tmp_path: Path) -> None:
    """Cut in the middle of rounds: some trials of a round have ended, the others are left."""

    def storage() -> JournalStorage:
        return JournalStorage(JournalFileBackend(str(tmp_path / "journal")))

    score = _peak(lr=2.0)
    undisturbed = _made(sampler, trials=16)
    _run(undisturbed, score)
    for ended in (1, 4, 2, 0, 3):
        study = _made(sampler, storage(), trials=16)
        for suggestion in study.ask()[:ended]:
            _perform(study, [suggestion], score)
    again = _made(sampler, storage(), trials=16)
    _run(again, score)
    assert _params(again) == _params(undisturbed)
    assert any("edge" in str(t.user_attrs.get("origin")) for t in again.study.trials)


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp"])
def test_a_search_that_is_cut_between_two_values_of_a_trial_goes_on_as_one_left_alone(
    sampler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def storage() -> JournalStorage:
        return JournalStorage(JournalFileBackend(str(tmp_path / "journal")))

    score, suggest = _peak(lr=2.0), studies._suggest
    undisturbed = _made(sampler, trials=12)
    _run(undisturbed, score)
    for values in (3, 1, 5, 7):
        left = iter(range(values))

        def cut(*given: Any, left: Iterator[int] = left) -> Any:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return suggest(*given)

        study = _made(sampler, storage(), trials=12)
        with monkeypatch.context() as patched:
            patched.setattr(studies, "_suggest", cut)
            with pytest.raises(KeyboardInterrupt):
                _run(study, score)
    again = _made(sampler, storage(), trials=12)
    _run(again, score)
    assert _params(again) == _params(undisturbed)


def test_all_cells_have_the_same_budget_whether_they_widen_or_not() -> None:
    inside, outside = _made("tpe"), _made("tpe")
    _run(inside, _peak(lr=0.01))
    _run(outside, _peak(lr=2.0))
    images = [
        sum(trial.user_attrs["images"] for trial in study.study.trials)
        for study in (inside, outside)
    ]
    assert len(inside.study.trials) == len(outside.study.trials) == 24
    assert images[0] == images[1]
    origins = [row["origin"] for row in outside.rows()]
    assert origins[0] == "suite"
    assert set(origins) == {"suite", "sampler", "edge"}


def test_a_search_with_more_trials_goes_on_as_one_that_had_them() -> None:
    longer = _made("tpe", trials=20)
    _run(longer, _peak(lr=2.0))
    study = _made("tpe", trials=8)
    _run(study, _peak(lr=2.0))
    assert study.edges()[0].setting.name == "lr"
    study.method = study.method.model_copy(update={"trials": 20})
    _run(study, _peak(lr=2.0))
    assert _params(study) == _params(longer)


@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_without_widening_the_range_stays_and_the_edge_is_told(sampler: str) -> None:
    study = _made(sampler, widen=0)
    _run(study, _peak(lr=2.0))
    assert study.reached == study.ranges
    assert max(params["lr"] for params in _params(study)) <= 0.1
    (edge,) = (edge for edge in study.edges() if edge.setting.name == "lr")
    assert (edge.side, edge.end) == ("upper", True)
    assert "at the upper end of" in edge.text


def test_nothing_is_widened_before_the_first_values_were_tried(tmp_path: Path) -> None:
    """Even if a round of them is cut."""

    def storage() -> JournalStorage:
        return JournalStorage(JournalFileBackend(str(tmp_path / "journal")))

    firsts = [First(params={"lr": 0.1 - number / 1e3}, run="a") for number in range(5)]
    undisturbed = _study(ranges={"lr": NARROW}, trials=12, earlier=firsts)
    _run(undisturbed, _peak(lr=2.0))
    origins = [row["origin"] for row in undisturbed.rows()]
    assert origins == ["suite", *["earlier"] * 5, "sampler", "sampler", "edge", *["sampler"] * 3]
    for ended in (4, 1, 0):
        study = _study(storage(), ranges={"lr": NARROW}, trials=12, earlier=firsts)
        for suggestion in study.ask()[:ended]:
            _perform(study, [suggestion], _peak(lr=2.0))
    again = _study(storage(), ranges={"lr": NARROW}, trials=12)
    _run(again, _peak(lr=2.0))
    assert _params(again) == _params(undisturbed)


def test_widening_ends_after_so_many_steps() -> None:
    study = _made("tpe", widen=1)
    _run(study, _peak(lr=1e4))
    assert study.reached["lr"].high == 1.0  # type: ignore[union-attr]
    assert " is at the upper end of 0.001 to 1 (log) after 24 trials" in study.edges()[0].text


def test_a_failed_trial_beyond_the_best_is_a_worse_one() -> None:
    study = _study(ranges={"lr": Choices(values=(0.01, 0.1))}, sampler="grid", trials=12)
    while suggestions := study.ask():
        for suggestion in suggestions:
            if suggestion.params["lr"] > 0.5:
                study.fail(suggestion, "the loss is not finite")
            else:
                _perform(study, [suggestion], _peak(lr=0.1))
    assert sorted(params["lr"] for params in _params(study)) == [0.01, 0.1, 1.0]
    assert study.edges() == []


def test_a_list_is_a_grid_to_the_grid_only() -> None:
    study = _study(ranges={"lr": GRID}, sampler="random", trials=8)
    _run(study, _peak(lr=2.0))
    assert study.reached == study.ranges
    assert [(edge.side, edge.end) for edge in study.edges()] == [("upper", True)]


@pytest.mark.parametrize(
    ("values", "limits", "below", "above"),
    [
        (Range(low=1e-4, high=0.1, log=True), (0, None), [1e-5, 1e-6, 1e-7], [1, 10, 100]),
        (Range(low=0.2, high=0.6), (0, 1), [0.0], [0.8, 0.9, 0.95]),
        (Range(low=8, high=24, step=8), (1, None), [], [32, 40, 48]),
        (Choices(values=(0.1, 0.2, 0.5)), (0, None), [0.05, 0.025, 0.0125], [1.25, 3.125, 7.8125]),
        (Choices(values=(0.0, 1e-4, 1e-3)), (0, None), [], [0.01, 0.1, 1.0]),
        (Choices(values=(0, 2)), (None, None), [-2, -4, -6], [4, 6, 8]),
    ],
)
def test_by_how_much_a_range_is_widened(
    values: Range | Choices, limits: tuple[Any, Any], below: list[float], above: list[float]
) -> None:
    """A decade, half the width, a list's own ratio; not beyond what the setting may be."""
    lowest, highest = limits
    item = Searched(
        key="x",
        values=values,
        whole=isinstance(values, Range) and values.step == 8,
        lowest=None if lowest is None else Limit(value=lowest, included=True),
        highest=None if highest is None else Limit(value=highest, included=False),
    )
    for lower, expected in ((True, below), (False, above)):
        assert wider_ends(item, values, lower=lower, times=3) == pytest.approx(expected)
    at_limit = setting_of(item, values, values).limits
    assert at_limit == (below == [] and lowest == 0, False)


def test_values_of_earlier_runs_come_after_the_suite_s_own_and_widen_the_range() -> None:
    firsts = [
        First(params={"lr": 0.5}, run="a"),
        First(params={"lr": 0.01, "weight_decay": 0.0}, run="b"),  # the suite's own
        First(params={"lr": 0.02, "weight_decay": 0.01}, run="c"),
    ]
    study = _study(ranges={"lr": NARROW, "weight_decay": Range(low=0.0, high=0.1)})
    assert not study.enqueue_first(firsts)  # it has its first trials
    study = _study(ranges={"lr": NARROW, "weight_decay": Range(low=0.0, high=0.1)}, earlier=firsts)
    own, wide, known, _ = study.ask()
    assert own.params == {"lr": 0.01, "weight_decay": 0.0}
    assert wide.params["lr"] == 0.5
    assert 0 <= wide.params["weight_decay"] <= 0.1
    assert known.params == {"lr": 0.02, "weight_decay": 0.01}
    assert study.started_from() == {"a", "b", "c"}
    assert study.reached["lr"] == Range(low=1e-3, high=0.5, log=True)
    _search(study)
    assert [row["origin"] for row in study.rows()][:3] == ["suite", "earlier", "earlier"]
