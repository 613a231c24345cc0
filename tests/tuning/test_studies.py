"""Studies: budgets, samplers, pruning and going on, with made-up trainings."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from bench.suite import Choices, Limit, Method, Range, Searched
from bench.training.state import EpochRecord, Scores
from bench.tuning.cells import Cell
from bench.tuning.studies import (
    CellStudy,
    First,
    Suggestion,
    beating,
    directions,
    make_pruner,
    owner,
)
from tests.tiny import make_trial

EPOCHS, IMAGES = 9, 10
LR = Range(low=1e-4, high=1.0, log=True)
DECAY = Range(low=0.0, high=0.1)
LOWEST = {
    "lr": Limit(value=0, included=False),
    "weight_decay": Limit(value=0, included=True),
    "batch_size": Limit(value=1, included=True),
}
HIGHEST = {"momentum": Limit(value=1, included=False)}
RANGES: dict[str, Range | Choices] = {"lr": LR, "weight_decay": DECAY}


def _study(
    storage: Any = None,
    *,
    ranges: dict[str, Any] | None = None,
    own: float = 0.01,
    earlier: Sequence[First] = (),
    **method: Any,
) -> CellStudy:
    ranges = ranges or RANGES
    space = {
        name: Searched(
            key=name,
            values=values,
            whole=name == "batch_size",
            lowest=LOWEST.get(name),
            highest=HIGHEST.get(name),
        )
        for name, values in ranges.items()
    }
    method.setdefault("trials", 12)
    method.setdefault("seeds", (1000, 1001))
    chosen = Method(**method)
    cell = Cell(label="a", key="key", own=(make_trial(lr=own),), space=space)
    made = CellStudy(
        cell=cell,
        study=optuna.create_study(
            study_name="a",
            storage=storage or InMemoryStorage(),
            directions=[
                "maximize" if o == "val_accuracy" else "minimize" for o in chosen.objective
            ],
            load_if_exists=True,
        ),
        method=chosen,
        ranges=ranges,
        epochs=EPOCHS,
        images_per_epoch=IMAGES,
    )
    made.study.pruner = make_pruner(chosen.pruner, epochs=EPOCHS)
    made.enqueue_first(earlier)
    return made


def _accuracy(params: dict[str, Any], seed: int) -> float:
    """Best at a learning rate of 0.03; seeds differ by a constant."""
    distance = abs(math.log10(params["lr"] / 0.03))
    return max(0.0, 0.95 - 0.2 * distance) - 0.01 * seed


def _records(accuracies: Sequence[float], losses: Sequence[float] | None = None) -> Any:
    return tuple(
        EpochRecord(
            epoch=epoch + 1,
            lr=0.1,
            train=Scores(loss=1.0, metrics={"accuracy": 0.5}),
            val=Scores(
                loss=(losses or [1 - a for a in accuracies])[epoch], metrics={"accuracy": accuracy}
            ),
            train_seconds=2.0,
            val_seconds=1.0,
        )
        for epoch, accuracy in enumerate(accuracies)
    )


def _perform(
    study: CellStudy,
    suggestions: Sequence[Suggestion],
    value: Callable[[dict[str, Any], int], float] = _accuracy,
) -> None:
    """Train the suggestions: accuracy rises linearly to its value at the last epoch."""
    live = [(suggestion, 0) for suggestion in suggestions]
    while live:
        following = []
        for suggestion, index in live:
            stop = study.stops[index]
            records = [
                _records([value(suggestion.params, s) * (e + 1) / EPOCHS for e in range(stop)])
                for s in range(len(study.method.seeds))
            ]
            if study.take(suggestion, records, stop=stop):
                following.append((suggestion, index + 1))
        live = following


def _search(study: CellStudy, rounds: int | None = None) -> None:
    while (rounds is None or rounds > 0) and (suggestions := study.ask()):
        _perform(study, suggestions)
        rounds = None if rounds is None else rounds - 1


def _params(study: CellStudy) -> list[dict[str, Any]]:
    return [trial.params for trial in study.study.get_trials()]


@pytest.fixture
def journal(tmp_path: Path) -> Callable[[], JournalStorage]:
    return lambda: JournalStorage(JournalFileBackend(str(tmp_path / "tuning.journal")))


# Budget ---------------------------------------------------------------------------------------


def test_a_budget_of_trials_is_spent_to_the_last_and_no_further() -> None:
    study = _study(trials=10, batch=4)
    _search(study)
    assert len(study.study.trials) == 10
    assert study.ask() == []
    study.method = study.method.model_copy(update={"trials": 13})
    _search(study)
    assert len(study.study.trials) == 13


def test_a_budget_of_images_buys_more_trials_where_pruning_saves_some() -> None:
    whole = EPOCHS * IMAGES * 2
    trials = {}
    for pruner in ("none", "halving"):
        study = _study(trials=None, images=12 * whole, pruner=pruner, batch=4)
        _search(study)
        spent = sum(trial.user_attrs["images"] for trial in study.study.trials)
        assert 12 * whole <= spent < 16 * whole  # the last batch may go beyond it
        trials[pruner] = len(study.study.trials)
    assert trials["none"] == 12
    assert trials["halving"] > 16


def test_a_budget_of_seconds() -> None:
    study = _study(trials=None, seconds=3.0 * EPOCHS * 2 * 7, batch=3)
    _search(study)
    assert 7 <= len(study.study.trials) <= 9


# Sampling -------------------------------------------------------------------------------------


def test_the_suite_s_own_values_come_first() -> None:
    study = _study(own=0.02)
    first, *others = study.ask()
    assert first.params == {"lr": 0.02, "weight_decay": 0.0}
    assert first.trial.user_attrs["origin"] == "suite"
    assert all("origin" not in other.trial.user_attrs for other in others)


def test_own_values_outside_of_the_space_are_left_out() -> None:
    assert "origin" not in _study(own=5.0).ask()[0].trial.user_attrs


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "qmc", "cmaes"])
def test_a_study_goes_on_after_an_end_as_if_there_had_been_none(
    sampler: str, tmp_path: Path
) -> None:
    if sampler == "cmaes":
        pytest.importorskip("cmaes")
    undisturbed = _study(sampler=sampler, trials=14)
    _search(undisturbed)

    def storage() -> JournalStorage:
        return JournalStorage(JournalFileBackend(str(tmp_path / "journal")))

    for _ in range(4):  # a new process each
        _search(_study(storage(), sampler=sampler, trials=14), rounds=1)
    again = _study(storage(), sampler=sampler, trials=14)
    assert _params(again) == _params(undisturbed)
    assert len({repr(params) for params in _params(again)}) == 14


def test_another_seed_searches_elsewhere() -> None:
    first, other = _study(seed=1), _study(seed=2)
    for study in (first, other):
        _search(study)
    assert _params(first)[0] == _params(other)[0]  # the suite's own
    assert _params(first)[1] != _params(other)[1]


def test_tpe_finds_a_better_value_than_random_search_on_average() -> None:
    def best(sampler: str, seed: int) -> float:
        study = _study(sampler=sampler, seed=seed, trials=32, own=1e-4)
        _search(study)
        assert study.best is not None
        return float(study.best.user_attrs["val_accuracy"])

    tpe, random = (
        sum(best(sampler, seed) for seed in range(5)) / 5 for sampler in ("tpe", "random")
    )
    assert tpe > random


@pytest.mark.parametrize("own", [0.5, 0.01])  # beside the grid, and on it
def test_a_grid_is_walked_once(own: float) -> None:
    ranges = {
        "lr": Choices(values=(0.1, 0.01, 0.001)),
        "optimizer": Choices(values=("sgd", "adam")),
    }
    study = _study(ranges=ranges, sampler="grid", trials=50, own=own)
    _search(study)
    tried = {(trial.params["lr"], trial.params["optimizer"]) for trial in study.study.trials}
    assert tried == {(lr, o) for lr in (0.1, 0.01, 0.001) for o in ("sgd", "adam")}
    assert len(study.study.trials) == 6


def test_momentum_is_searched_with_sgd_only() -> None:
    ranges = {
        "optimizer": Choices(values=("sgd", "adam")),
        "momentum": Range(low=0.5, high=0.9),
        "lr": LR,
    }
    study = _study(ranges=ranges, sampler="random", trials=16)
    _search(study)
    for trial in study.study.trials:
        assert ("momentum" in trial.params) == (trial.params["optimizer"] == "sgd")


def test_what_is_no_part_of_a_quasi_random_sequence_is_drawn_for_each_trial() -> None:
    ranges = {
        "optimizer": Choices(values=("adamw", "sgd")),
        "momentum": Range(low=0.5, high=0.8),  # the suite's own is beyond it
        "lr": LR,
    }
    study = _study(ranges=ranges, sampler="qmc", trials=16)
    _search(study)
    drawn = [t.params["momentum"] for t in study.study.trials if "momentum" in t.params]
    assert len(drawn) > 2
    assert len(set(drawn)) == len(drawn)


def test_whole_numbers_stay_whole() -> None:
    study = _study(ranges={"batch_size": Range(low=8, high=32, step=8)})
    while suggestions := study.ask():
        assert all(type(s.params["batch_size"]) is int for s in suggestions)
        assert {s.params["batch_size"] % 8 for s in suggestions} == {0}
        _perform(study, suggestions, lambda params, _: params["batch_size"] / 100)
    assert study.reached["batch_size"] == Range(low=8, high=64, step=8)


# Results --------------------------------------------------------------------------------------


def test_scores_are_means_over_tuning_seeds_at_the_epoch_that_validation_chooses() -> None:
    study = _study(trials=1)
    (suggestion,) = study.ask()
    up = [0.1 * epoch for epoch in range(EPOCHS)]
    peak = [0.5, 0.9, 0.9, *[0.2] * (EPOCHS - 3)]
    losses = [0.7, 0.6, 0.4, *[2.0] * (EPOCHS - 3)]
    study.take(suggestion, [_records(up, [1.0] * EPOCHS), _records(peak, losses)], stop=EPOCHS)
    (row,) = study.rows()
    assert row["val_accuracy"] == pytest.approx((0.8 + 0.9) / 2)
    assert row["val_accuracy_sd"] == pytest.approx(0.1 / math.sqrt(2))
    assert row["val_loss"] == pytest.approx((1.0 + 0.4) / 2)
    assert row["seconds"] == 2 * EPOCHS * 3.0
    assert (row["epochs"], row["images"]) == (EPOCHS, 2 * EPOCHS * IMAGES)
    assert (row["state"], row["origin"], row["param_lr"]) == ("complete", "suite", 0.01)
    assert row["started"].tzinfo is not None


def test_early_stopping_completes_a_trial_and_costs_what_it_trained() -> None:
    study = _study(trials=1, pruner="halving")
    assert study.stops == (1, 3, 9)
    (suggestion,) = study.ask()
    assert study.take(suggestion, [_records([0.5]), _records([0.5])], stop=1)
    short = _records([0.5, 0.5])
    assert not study.take(suggestion, [short, short], stop=3)
    (trial,) = study.study.trials
    assert trial.state == TrialState.COMPLETE
    assert trial.user_attrs["images"] == 4 * IMAGES


def test_a_failure_is_recorded_and_the_study_goes_on() -> None:
    study = _study(trials=6, batch=2)
    first, second = study.ask()
    study.fail(first, "the loss is not finite")
    _perform(study, [second])
    _search(study)
    failed, *others = study.study.trials
    assert failed.state == TrialState.FAIL
    assert all(trial.state == TrialState.COMPLETE for trial in others)
    assert len(others) == 5
    row = next(study.rows())
    assert (row["state"], row["error"]) == ("failed", "the loss is not finite")
    assert row["val_accuracy"] is None


def test_of_equal_accuracies_the_lower_loss_is_best() -> None:
    study = _study(trials=3, batch=3)
    for suggestion, loss in zip(study.ask(), (0.5, 0.3, 0.4), strict=True):
        own = _records([0.9] * EPOCHS, [loss] * EPOCHS)
        study.take(suggestion, [own, own], stop=EPOCHS)
    assert study.best is not None
    assert study.best.number == 1


@pytest.mark.parametrize(("objective", "best"), [("val_accuracy", 0), ("val_loss", 1)])
def test_the_objective_chooses(objective: str, best: int) -> None:
    study = _study(trials=2, batch=2, objective=(objective,))
    first, second = study.ask()
    study.take(first, [_records([0.9] * EPOCHS, [0.5] * EPOCHS)] * 2, stop=EPOCHS)
    study.take(second, [_records([0.8] * EPOCHS, [0.4] * EPOCHS)] * 2, stop=EPOCHS)
    assert study.best is not None
    assert study.best.number == best


def _by_brier(trials: int) -> CellStudy:
    study = _study(trials=trials, batch=trials, objective=("val_metric",))
    own = (make_trial(metric="brier"),)
    return replace(study, cell=replace(study.cell, own=own))


def _brier(*values: float) -> Any:
    return tuple(
        replace(record, val=Scores(loss=0.5, metrics={"accuracy": 0.5, "brier": value}))
        for record, value in zip(_records([0.5] * len(values)), values, strict=True)
    )


def test_of_another_metric_the_goal_is_where_it_is_better() -> None:
    assert directions(Method(objective=("val_metric",)), "brier") == ["minimize"]
    assert directions(Method(objective=("val_metric",)), "macro_f1") == ["maximize"]
    both = Method(objective=("val_accuracy", "seconds"))
    assert directions(both, "brier") == ["maximize", "minimize"]
    study = _by_brier(2)
    for suggestion, best in zip(study.ask(), (0.4, 0.3), strict=True):
        study.take(suggestion, [_brier(0.9, best, *[0.8] * (EPOCHS - 2))] * 2, stop=EPOCHS)
    assert study.best is not None
    assert study.best.number == 1
    assert [row["val_metric"] for row in study.rows()] == [0.4, 0.3]
    assert [row["val_accuracy"] for row in study.rows()] == [0.5, 0.5]


def test_a_trial_whose_metric_is_not_known_fails() -> None:
    study = _by_brier(1)
    (suggestion,) = study.ask()
    study.take(suggestion, [_brier(*[math.nan] * EPOCHS)] * 2, stop=EPOCHS)
    (row,) = study.rows()
    assert (row["state"], study.best) == ("failed", None)
    assert "its brier is not known" in row["error"]


def test_two_objectives() -> None:
    study = _study(trials=2, batch=2, objective=("val_accuracy", "seconds"))
    _search(study)
    assert all(len(trial.values) == 2 for trial in study.study.trials)
    assert study.best is not None


# Pruning --------------------------------------------------------------------------------------


def test_successive_halving_keeps_about_a_third_at_every_look() -> None:
    """Against the rule itself: promoted if among the best ⌊n/3⌋ (at least 1) seen so far."""
    study = _study(pruner="halving", sampler="random", trials=40, batch=4, own=0.5)
    _search(study)
    seen: dict[int, list[float]] = {1: [], 3: []}
    for batch_start in range(0, 40, 4):
        live = study.study.trials[batch_start : batch_start + 4]
        for look in (1, 3):
            kept = []
            for trial in live:
                value = trial.intermediate_values[look]
                seen[look].append(value)
                best = sorted(seen[look], reverse=True)[: max(1, len(seen[look]) // 3)]
                if value >= best[-1]:
                    kept.append(trial)
                else:
                    assert trial.state == TrialState.PRUNED
                    assert trial.user_attrs["epochs"] == look
            live = kept
        assert all(trial.state == TrialState.COMPLETE for trial in live)
    states = [trial.state for trial in study.study.trials]
    assert 20 < states.count(TrialState.PRUNED) < 40


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_other_pruners_stop_poor_trials_and_keep_the_best(pruner: str) -> None:
    study = _study(pruner=pruner, sampler="random", trials=40)
    _search(study)
    pruned = [t for t in study.study.trials if t.state == TrialState.PRUNED]
    assert pruned
    assert {trial.user_attrs["epochs"] for trial in pruned} <= {1, 3}
    assert study.best is not None
    finals = [_accuracy(trial.params, 0) for trial in pruned]
    assert _accuracy(study.best.params, 0) > sum(finals) / len(finals)


# Several processes ----------------------------------------------------------------------------


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives until the test has ended."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with process:
        yield process
        process.kill()


def _owned_by(process: subprocess.Popen[bytes]) -> str:
    host, _, _ = owner().partition("|")
    return f"{host}|{process.pid}|{psutil.Process(process.pid).create_time():.2f}"


def _left_behind(storage: JournalStorage, by: str, *, trials: int) -> list[Suggestion]:
    """What the process `by` has begun in the second round of a search, and not ended."""
    study = _study(storage, trials=trials)
    _search(study, rounds=1)
    left = study.ask()
    for suggestion in left:
        suggestion.trial.set_user_attr("owner", by)
    return left


def test_what_a_dead_process_left_is_taken_up_and_nothing_is_lost(
    journal: Callable[[], JournalStorage], stranger: subprocess.Popen[bytes]
) -> None:
    undisturbed = _study(trials=12)
    _search(undisturbed)
    left = _left_behind(journal(), _owned_by(stranger), trials=12)
    other = _study(journal(), trials=12)
    assert other.waiting_for_others()
    assert {s.number for s in other.ask()}.isdisjoint({s.number for s in left})
    stranger.kill()
    stranger.wait()
    taken = _study(journal(), trials=12)
    assert not taken.waiting_for_others()
    numbers = {suggestion.number for suggestion in taken.ask()}
    assert numbers >= {suggestion.number for suggestion in left}
    _search(_study(journal(), trials=12))
    assert len(taken.study.trials) == 12
    assert {trial.state for trial in taken.study.trials} == {TrialState.COMPLETE}
    assert _params(taken)[:4] == _params(undisturbed)[:4]


def test_a_machine_that_gives_no_sign_of_life_is_replaced(
    journal: Callable[[], JournalStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = _study(trials=8)
    _search(undisturbed)
    left = _left_behind(journal(), "elsewhere|1|0.00", trials=8)
    clock = [1000.0]
    monkeypatch.setattr("bench.tuning.studies.time.monotonic", lambda: clock[0])
    other = _study(journal(), trials=8)
    assert other.waiting_for_others()
    for beats in range(3):  # it works, and says so
        clock[0] += 200
        for suggestion in left:
            suggestion.trial.set_user_attr("beats", beats)
        assert other.waiting_for_others()
        assert not other.ask()
    clock[0] += 299
    assert other.waiting_for_others()
    clock[0] += 2
    assert not other.waiting_for_others()
    assert {s.number for s in other.ask()} == {s.number for s in left}
    _search(_study(journal(), trials=8))
    assert _params(_study(journal(), trials=8)) == _params(undisturbed)


def test_both_sides_may_end_a_trial(journal: Callable[[], JournalStorage]) -> None:
    slow, quick = _study(journal(), trials=4), _study(journal(), trials=4)
    suggestion = slow.ask()[0]
    suggestion.trial.set_user_attr("owner", "")
    (taken,) = (s for s in quick.ask() if s.number == suggestion.number)
    quick.fail(taken, "first")
    slow.fail(suggestion, "second")
    (row,) = (row for row in slow.rows() if row["number"] == suggestion.number)
    assert (row["state"], row["error"]) == ("failed", "first")


def test_a_process_says_that_it_works(
    journal: Callable[[], JournalStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.tuning.studies.BEAT_SECONDS", 0.01)
    study = _study(journal(), trials=4)
    suggestions = study.ask()

    def beats() -> int:
        trials = _study(journal(), trials=4).study.get_trials()
        return min(trials[s.number].user_attrs.get("beats", 0) for s in suggestions)

    with beating(suggestions):
        while beats() < 2:
            time.sleep(0.01)


def test_a_process_that_died_before_it_said_whose_the_trial_is(
    journal: Callable[[], JournalStorage],
) -> None:
    undisturbed = _study(trials=8)
    _search(undisturbed)
    killed = _study(journal(), trials=8)
    _search(killed, rounds=1)
    killed.study.sampler = killed._sampler(4, killed.ranges)
    killed.study.ask()  # and dead: no owner, no values
    _search(_study(journal(), trials=8))
    assert _params(_study(journal(), trials=8)) == _params(undisturbed)
