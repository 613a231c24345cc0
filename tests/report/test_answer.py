from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.report.answer import answer, overlapping
from bench.summary import ConfigResult, spread


def _results(accuracies: Mapping[str, Sequence[float]]) -> list[ConfigResult]:
    """Results in order, best mean first; validation accuracy is the test accuracy less a tenth."""
    means = [round(sum(values) / len(values), 12) for values in accuracies.values()]
    return [
        ConfigResult(
            config=name,
            label=name,
            cell={},
            rank=1 + sum(other > mean for other in means),
            seeds=tuple(range(len(values))),
            test_accuracy=spread(values),
            val_accuracy=spread(value - 0.1 for value in values),
            last_test_accuracy=spread(values),
            train_seconds=spread([1.0]),
            best_epochs=(3,),
        )
        for (name, values), mean in zip(accuracies.items(), means, strict=True)
    ]


def test_overlapping_ranges_are_admitted() -> None:
    results = _results({"a": [0.90, 0.94], "b": [0.91, 0.91], "c": [0.5, 0.6]})
    sentences = " ".join(answer(results))
    assert "a has the highest mean test accuracy: 92.0 % over 2 seeds" in sentences
    assert "(± 2.8 points, from 90.0 to 94.0 %)" in sentences
    assert "overlaps with that of 1 of the 2 other configs (b)" in sentences
    assert "do not settle" in sentences
    assert "significan" not in sentences
    assert [result.label for result in overlapping(results[0], results[1:])] == ["b"]


def test_a_clear_lead_is_a_hint_not_a_proof() -> None:
    sentences = " ".join(answer(_results({"a": [0.90, 0.94], "b": [0.5, 0.6]})))
    assert "No other config's range over seeds reaches into its own" in sentences
    assert "hint, not a proof" in sentences
    assert "The other config, b, has 55.0 %" in sentences


def test_one_seed_says_so() -> None:
    sentences = " ".join(answer(_results({"a": [0.9], "b": [0.8]})))
    assert "90.0 % (one seed)" in sentences
    assert "cannot be told" in sentences


def test_equal_leaders_are_both_named() -> None:
    sentences = answer(_results({"a": [0.9, 0.8], "b": [0.8, 0.9], "c": [0.1, 0.1]}))
    assert sentences[0] == "2 configs share the highest mean test accuracy, 85.0 %: a; b."


def test_validation_may_choose_another() -> None:
    best, other = _results({"a": [0.9, 0.9], "b": [0.8, 0.8]})
    swapped = [
        ConfigResult(**{**vars(best), "val_accuracy": spread([0.7])}),
        ConfigResult(**{**vars(other), "val_accuracy": spread([0.8])}),
    ]
    assert "would have chosen b, which reaches 80.0 %" in " ".join(answer(swapped))
    assert "would have chosen the same config" in " ".join(answer([best, other]))


def test_different_seeds_are_mentioned() -> None:
    assert "different ones" in answer(_results({"a": [0.9, 0.8], "b": [0.7]}))[-1]
    assert "different ones" not in answer(_results({"a": [0.9, 0.8], "b": [0.7, 0.7]}))[-1]


def test_one_config_and_none() -> None:
    assert answer(_results({"a": [0.9, 0.8]}))[0] == "a is the only config with a complete trial."
    assert answer([]) == ["No complete trial has a test accuracy, so there is nothing to compare."]
