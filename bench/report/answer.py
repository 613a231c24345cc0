"""The answer of a run in plain sentences, for every form of report. Nothing here is escaped."""

from __future__ import annotations

from collections.abc import Sequence

from bench.summary import ConfigResult, Spread

MAX_NAMES = 4


def answer(results: Sequence[ConfigResult]) -> list[str]:
    """Which config is ahead, by how much, and what that is worth; `results` as they rank.

    Ranges over seeds are described, not tested.
    """
    ranked = [result for result in results if result.rank is not None]
    if not ranked:
        return ["No complete trial has a test accuracy, so there is nothing to compare."]
    leaders = [result for result in ranked if result.rank == 1]
    others = ranked[len(leaders) :]
    if len(ranked) == 1:
        sentences = [f"{ranked[0].label} is the only config with a complete trial."]
        return [*sentences, f"Its mean test accuracy is {_figures(ranked[0].test_accuracy)}."]
    if len(leaders) > 1:
        sentences = [
            f"{len(leaders)} configs share the highest mean test accuracy, "
            f"{_percent(leaders[0].test_accuracy.mean)}: {named(leaders)}."
        ]
    else:
        sentences = [
            f"{leaders[0].label} has the highest mean test accuracy: "
            f"{_figures(leaders[0].test_accuracy)}.",
            _overlap(leaders[0], others),
        ]
    return [
        *sentences,
        _chosen_by_validation(leaders, ranked),
        *_others(others),
        *_unequal_seeds(ranked),
    ]


def named(results: Sequence[ConfigResult]) -> str:
    """The configs by name, the first few of many."""
    names = [result.label for result in results[:MAX_NAMES]]
    more = len(results) - len(names)
    return "; ".join(names) + (f"; and {more} more" if more else "")


def overlapping(best: ConfigResult, others: Sequence[ConfigResult]) -> list[ConfigResult]:
    """Those whose range of test accuracy over seeds meets the range of `best`."""
    own = best.test_accuracy
    return [
        other
        for other in others
        if other.test_accuracy.high >= own.low and other.test_accuracy.low <= own.high
    ]


def _overlap(best: ConfigResult, others: Sequence[ConfigResult]) -> str:
    if best.test_accuracy.n < 2:
        return (
            "It ran with one seed, so how much of its lead is chance cannot be told from this run."
        )
    meeting = overlapping(best, others)
    if meeting:
        return (
            f"Its range over seeds overlaps with that of {len(meeting)} of the {len(others)} other "
            f"configs ({named(meeting)}): these seeds alone do not settle which of them is best."
        )
    return (
        "No other config's range over seeds reaches into its own; with so few seeds that is a "
        "hint, not a proof."
    )


def _chosen_by_validation(leaders: Sequence[ConfigResult], ranked: Sequence[ConfigResult]) -> str:
    known = [result for result in ranked if result.val_accuracy.n]
    if not known:
        return "No validation accuracy is known."
    chosen = max(known, key=lambda result: result.val_accuracy.mean)
    if chosen in leaders:
        name = "the same config" if len(leaders) == 1 else chosen.label
        return f"By validation accuracy alone one would have chosen {name}."
    return (
        f"By validation accuracy alone one would have chosen {chosen.label}, "
        f"which reaches {_figures(chosen.test_accuracy)} on the test split."
    )


def _others(others: Sequence[ConfigResult]) -> list[str]:
    if not others:
        return []
    if len(others) == 1:
        return [f"The other config, {others[0].label}, has {_figures(others[0].test_accuracy)}."]
    return [
        f"Next is {others[0].label} with {_figures(others[0].test_accuracy)}; "
        f"the lowest is {others[-1].label} with {_figures(others[-1].test_accuracy)}."
    ]


def _unequal_seeds(ranked: Sequence[ConfigResult]) -> list[str]:
    if len({result.seeds for result in ranked}) == 1:
        return []
    return ["Not every config has the same complete seeds, so their means are over different ones."]


def _figures(accuracy: Spread) -> str:
    mean = _percent(accuracy.mean)
    if accuracy.n == 1:
        return f"{mean} (one seed)"
    return (
        f"{mean} over {accuracy.n} seeds "
        f"(± {100 * accuracy.sd:.1f} points, from {100 * accuracy.low:.1f} to "
        f"{_percent(accuracy.high)})"
    )


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"
