"""The answer claims what the comparisons support and says what they do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.results.analysis import smallest_p
from bench.results.report import Findings
from bench.results.report.answer import MAX_NAMES, answer, named
from tests.made_up_run import made_up_run

NOISE = (0.004, -0.006, 0.001, 0.008, -0.003, 0.0, -0.005, 0.002, 0.007, -0.008)


def _answer(
    folder: Path,
    accuracies: Mapping[str, Sequence[float]],
    *,
    val: Mapping[str, float] | None = None,
    schedules: Sequence[str] = ("cosine",),
    right: Mapping[str, int] | None = None,
) -> list[str]:
    """The answer to a run in which the strategies reached these test accuracies by seed.

    `right` says how many of 40 test images each predicts rightly, in every seed.
    """

    def change(row: dict[str, Any], _: dict[str, Any]) -> None:
        own = accuracies[row["strategy"]]
        if row["seed"] >= len(own):
            row.update(status="failed", error="boom", test_accuracy=None)
            return
        row["test_accuracy"] = own[row["seed"]]
        row["val_accuracy"] = (val or {}).get(row["strategy"], own[row["seed"]])

    run = made_up_run(
        folder,
        strategies=list(accuracies),
        schedules=schedules,
        seeds=max(map(len, accuracies.values())),
        epochs=1,
        change=change,
    )
    found = Findings(run=run).contest
    if found is not None and right is not None:
        seeds = range(max(map(len, accuracies.values())))
        predictions = {(s, seed): _predicted(right[s]) for s in accuracies for seed in seeds}
        found = replace(found, predictions=predictions)
    return answer(found)


def _predicted(right: int) -> pd.DataFrame:
    """40 test images, of which the first `right` are predicted rightly."""
    predicted = ["ant" if sample < right else "bee" for sample in range(40)]
    return pd.DataFrame({"sample": range(40), "label": "ant", "predicted": predicted})


def _around(mean: float, seeds: int = 10, *, turned: bool = False) -> list[float]:
    noise = NOISE[::-1] if turned else NOISE
    return [mean + x for x in noise[:seeds]]


def test_a_lead_over_all_is_claimed_in_one_sentence(tmp_path: Path) -> None:
    first, *_ = _answer(
        tmp_path, {"a": _around(0.7), "b": _around(0.95, turned=True), "c": _around(0.8)}
    )
    assert first.startswith("b beats all 2 others: 95.0 % ± 0.5 over 10 seeds on the test split, ")
    assert "15.0 points, 14." in first
    assert f"ahead of the next, c (every corrected p ≤ {3 * smallest_p(10):.2g})" in first


def test_a_lead_over_some(tmp_path: Path) -> None:
    sentences = _answer(
        tmp_path,
        {"a": _around(0.95), "b": _around(0.7, turned=True), "c": _around(0.9495, turned=True)},
    )
    assert sentences[0] == "a has the highest mean test accuracy: 95.0 % ± 0.5 over 10 seeds."
    assert sentences[1].startswith("It beats b (by 25.0 points, 24.")
    assert f"corrected p = {3 * smallest_p(10):.2g})." in sentences[1]
    assert sentences[2].startswith("It is not distinguishable from c (0.0 points, -0.")
    assert "beats c" not in " ".join(sentences)


def test_five_seeds_say_first_that_they_cannot_tell(tmp_path: Path) -> None:
    sentences = _answer(tmp_path, {"a": _around(0.7, 5), "b": _around(0.9, 5, turned=True)})
    assert sentences[0] == (
        "With 5 seeds no difference can be significant: for 1 pair of strategy values the "
        "smallest attainable p is 0.062; it takes 6 seeds."
    )
    assert sentences[1].startswith("b has the highest mean test accuracy: 89.9 % ± 0.6")
    assert sentences[2].startswith("It is ahead of a (19.8 points, ")
    assert "about 1 more seed would be needed" in sentences[2]
    assert "beats" not in " ".join(sentences)
    enough = _answer(tmp_path / "six", {"a": _around(0.7, 6), "b": _around(0.9, 6, turned=True)})
    assert "It beats a (by 19.8 points" in enough[1]


def test_one_seed(tmp_path: Path) -> None:
    sentences = " ".join(_answer(tmp_path, {"a": [0.9], "b": [0.8]}))
    assert "With one seed no difference can be significant" in sentences
    assert "90.0 % (one seed)" in sentences
    assert "ahead of b (10.0 points; one seed shows no spread)" in sentences


def test_equal_strategies(tmp_path: Path) -> None:
    sentences = " ".join(_answer(tmp_path, {"a": _around(0.9), "b": _around(0.9)}))
    assert "not distinguishable from b (0.0 points, 0.0 to 0.0; hardly any number" in sentences


def test_validation_may_choose_another(tmp_path: Path) -> None:
    accuracies = {"a": _around(0.9, 3), "b": _around(0.8, 3)}
    said = _answer(tmp_path / "one", accuracies, val={"a": 0.7, "b": 0.8})
    assert "Validation accuracy alone would have chosen b, which reaches 80.0 %" in " ".join(said)
    said = _answer(tmp_path / "other", accuracies)
    assert "would have chosen the same strategy." in " ".join(said)


def test_several_configs_of_a_strategy_are_represented(tmp_path: Path) -> None:
    accuracies = {"a": _around(0.9, 3), "b": _around(0.8, 3)}
    said = " ".join(_answer(tmp_path / "two", accuracies, schedules=["cosine", "constant"]))
    assert "stands here as the config of it that has the highest mean validation" in said
    assert "stands here" not in " ".join(_answer(tmp_path / "one", accuracies))


def test_different_seeds_are_mentioned(tmp_path: Path) -> None:
    said = _answer(tmp_path / "one", {"a": [0.9, 0.8], "b": [0.7]})
    assert said[-1] == "Not all have the same complete seeds; only common ones are compared."
    said = _answer(tmp_path / "two", {"a": [0.9, 0.8], "b": [0.7, 0.7]})
    assert "only common ones" not in said[-1]


def test_one_strategy_and_none(tmp_path: Path) -> None:
    assert _answer(tmp_path / "one", {"a": [0.9, 0.8]}) == [
        "a is the only strategy with a complete trial.",
        "Its mean test accuracy is 85.0 % ± 7.1 over 2 seeds.",
    ]
    assert answer(None) == [
        "No complete trial has a test accuracy, so there is nothing to compare."
    ]


@pytest.mark.parametrize("count", [1, MAX_NAMES, MAX_NAMES + 3])
def test_many_names_are_cut_short(count: int) -> None:
    said = named([f"n{i}" for i in range(count)])
    assert said.count(";") == min(count, MAX_NAMES + 1) - 1
    assert said.endswith("and 3 more") == (count > MAX_NAMES)


def test_what_the_test_images_say_of_models_where_the_seeds_say_nothing(tmp_path: Path) -> None:
    few = {"a": _around(0.95, 3), "b": _around(0.94, 3, turned=True), "c": _around(0.7, 3)}
    # McNemar, exact: 39 against 20 right of 40 gives 2 / 2¹⁹, and six tests bear that.
    said = _answer(tmp_path / "some", few, right={"a": 39, "b": 38, "c": 20})
    sentence = next(s for s in said if s.startswith("The test images"))
    assert "those of c in 3 of 3 seeds, from no other (McNemar, corrected)" in sentence
    # 39 against 33 gives 2 / 2⁶ = 0.03, which six tests do not bear.
    said = _answer(tmp_path / "none", few, right={"a": 39, "b": 38, "c": 33})
    assert "The test images do not tell its models from theirs either (McNemar)." in said


def test_models_are_not_spoken_of_where_strategies_are_told_apart(tmp_path: Path) -> None:
    far = {"a": _around(0.95), "b": _around(0.7, turned=True)}
    assert "test images tell" not in " ".join(_answer(tmp_path, far, right={"a": 39, "b": 20}))
