"""Configs of two runs: which belong together."""

from __future__ import annotations

from typing import Any

from bench.results.analysis.matching import Cell, differing_axes, match_configs

PLAIN = {"dataset": "d", "strategy": "a", "backbone": "r18", "schedule": "cosine", "lr": 0.01}


def _cells(*changes: dict[str, Any], prefix: str = "") -> dict[str, Cell]:
    return {f"{prefix}{index}": {**PLAIN, **each} for index, each in enumerate(changes)}


def _joined(first: dict[str, Cell], second: dict[str, Cell]) -> list[tuple[str, str]]:
    return list(match_configs(first, second).joined)


def test_the_same_configs_join_first() -> None:
    first = _cells({"lr": 0.1}, {"lr": 0.01})
    second = _cells({"lr": 0.01}, {"lr": 0.001}, prefix="x")
    found = match_configs(first, second)
    assert found.joined == (("1", "x0"),)
    # 0.1 and 0.001 are told apart within their runs: joining them would be a guess.
    assert (found.only_first, found.only_second, found.ambiguous) == (("0",), ("x1",), ())


def test_another_learning_rate_joins_by_strategy_and_schedule() -> None:
    grid = [{"strategy": s, "schedule": c} for s in "ab" for c in ("cosine", "step")]
    first = _cells(*grid)
    second = _cells(*({**cell, "lr": 0.001} for cell in grid[::-1]), prefix="x")
    assert _joined(first, second) == [("0", "x3"), ("1", "x2"), ("2", "x1"), ("3", "x0")]
    assert differing_axes(first["0"], second["x3"]) == ["lr"]


def test_a_run_and_its_tuned_run_join() -> None:
    """The search gave each cell a head and a learning rate, which tell the cells apart too."""
    grid = [{"schedule": c} for c in ("cosine", "step")]
    tuned = [
        {**cell, "head": f"linear(dropout={n})", "lr": 0.1 / (n + 1)}
        for n, cell in enumerate(grid[::-1])
    ]
    first = _cells(*({**cell, "head": "linear"} for cell in grid))
    second = _cells(*tuned, prefix="x")
    assert _joined(first, second) == [("0", "x1"), ("1", "x0")]
    assert differing_axes(first["0"], second["x1"]) == ["head", "lr"]


def test_axes_in_both_runs_match_and_others_differ() -> None:
    first = _cells({"lr": 0.1, "weight_decay": 0.0}, {"lr": 0.01, "weight_decay": 0.0})
    second = _cells({"lr": 0.01, "weight_decay": 0.1}, {"lr": 0.1, "weight_decay": 0.1}, prefix="x")
    assert _joined(first, second) == [("0", "x1"), ("1", "x0")]


def test_what_only_one_run_knows_does_not_count() -> None:
    first, second = _cells({}), _cells({"resize": "crop"}, prefix="x")
    assert _joined(first, second) == [("0", "x0")]
    assert differing_axes(first["0"], second["x0"]) == []


def test_what_is_ambiguous_is_listed_and_not_guessed() -> None:
    first, second = _cells({"lr": 0.1}, {"lr": 0.01}), _cells({"lr": 0.001}, prefix="x")
    found = match_configs(first, second)
    assert (found.joined, found.ambiguous) == ((), ((("0", "1"), ("x0",)),))
    assert (found.only_first, found.only_second) == ((), ())
    twins = _cells({"resize": "crop"}, {"resize": "pad"}, prefix="x")
    found = match_configs(_cells({}), twins)
    assert (found.joined, found.ambiguous) == ((), ((("0",), ("x0", "x1")),))


def test_other_strategies_backbones_and_data_sets_never_join() -> None:
    for other in ({"strategy": "b"}, {"backbone": "r50"}, {"dataset": "e"}):
        found = match_configs(_cells({}), _cells(other, prefix="x"))
        assert (found.joined, found.only_first, found.only_second) == ((), ("0",), ("x0",))


def test_no_configs() -> None:
    found = match_configs({}, _cells({}))
    assert (found.joined, found.only_first, found.only_second) == ((), (), ("0",))
