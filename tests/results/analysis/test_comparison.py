"""What may be claimed of two things that were scored on the same samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from scipy.stats import t as student

from bench.results.analysis.comparison import (
    ALPHA,
    Comparison,
    compare,
    compare_pairs,
    look_level,
)
from bench.results.analysis.crossed import crossed_p, crossed_table, joined
from bench.results.analysis.scores import Scores


def _scores(values: npt.ArrayLike, seeds: Sequence[int] | None = None) -> dict[str, Scores]:
    table = np.asarray(values, dtype=np.float64)
    rows, columns = table.shape
    return {
        "": Scores(
            seeds=tuple(range(rows) if seeds is None else seeds),
            samples=tuple(f"{column:04}" for column in range(columns)),
            values=table,
        )
    }


def _right(rng: np.random.Generator, accuracy: float, seeds: int, samples: int) -> npt.NDArray:
    return (rng.random((seeds, samples)) < accuracy).astype(np.float64)


def _pair(one: npt.ArrayLike, other: npt.ArrayLike) -> Comparison:
    (found,) = compare({"a": _scores(one), "b": _scores(other)})
    return found


def test_every_pair_stands_in_the_family() -> None:
    rng = np.random.default_rng(1)
    tables = {
        name: _right(rng, p, 3, 200) for name, p in zip("abcd", (0.9, 0.9, 0.7, 0.8), strict=True)
    }
    found = compare({name: _scores(table) for name, table in tables.items()})
    assert [(c.first, c.second) for c in found] == [
        ("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d"),
    ]  # fmt: skip
    family = joined([crossed_table(tables[c.first] - tables[c.second]) for c in found])
    assert [c.p for c in found] == pytest.approx(crossed_p(family, independent=3))
    for c in found:
        assert c.difference == pytest.approx(tables[c.first].mean() - tables[c.second].mean())
        assert c.comparisons == 6
        assert c.corrected == pytest.approx(min(1, 6 * c.p * math.pi**2 / 6))
        assert c.verdict == ("open" if c.corrected >= ALPHA else c.verdict)
    assert found[1].verdict == "better"


@settings(max_examples=60, deadline=None)
@given(
    seeds=st.integers(1, 5),
    samples=st.integers(2, 60),
    accuracies=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    draw=st.integers(0, 10**6),
)
def test_interval_p_and_verdict_agree(
    seeds: int, samples: int, accuracies: tuple[float, float], draw: int
) -> None:
    rng = np.random.default_rng(draw)
    one, other = (_right(rng, p, seeds, samples) for p in accuracies)
    found = _pair(one, other)
    low, high = found.interval
    assert 0 < found.p <= 1
    assert low - 1e-9 <= found.difference <= high + 1e-9
    told_apart = found.corrected < ALPHA
    assert told_apart == (low > 0 or high < 0)
    seen = found.models_verdict if found.of_models else found.verdict
    assert told_apart == (seen in ("better", "worse"))
    assert found.of_models == (seeds < 3)
    if found.of_models:
        assert found.verdict == "open"
    turned = found.turned()
    assert turned.interval == (-high, -low)
    opposite = {"better": "worse", "worse": "better"}
    assert turned.verdict == opposite.get(found.verdict, found.verdict)


def test_one_seed_is_the_exact_test_of_mcnemar() -> None:
    one = np.ones((1, 100))
    other = np.ones((1, 100))
    other[0, :12] = 0
    one[0, 20:22] = 0
    found = _pair(one, other)
    assert found.p == pytest.approx(binomtest(12, 14, 0.5).pvalue)
    # The error of Agresti and Min: half a sample in each of the four cells.
    error = math.sqrt(12.5 + 2.5 - (12.5 - 2.5) ** 2 / 102) / 102
    half = student.isf(look_level(1) / 2, 99) * error
    assert found.interval == pytest.approx((0.1 - half, 0.1 + half))
    assert (found.verdict, found.models_verdict) == ("open", "better")


def test_what_the_exact_test_does_not_claim_is_not_claimed() -> None:
    """Six samples to none of 300: Student's t alone would claim it."""
    one, other = np.ones((1, 300)), np.ones((1, 300))
    other[0, :6] = 0
    found = _pair(one, other)
    assert found.p == pytest.approx(2 * 0.5**6)
    assert found.p > found.level
    low, high = found.interval
    assert low == 0.0
    assert high >= 0.04
    assert found.models_verdict == "open"


def test_equal_models_differ_by_about_a_sample_at_most() -> None:
    for seeds in (1, 2, 3):
        found = _pair(np.ones((seeds, 50)), np.ones((seeds, 50)))
        assert (found.difference, found.p, found.corrected) == (0.0, 1.0, 1.0)
        low, high = found.interval
        assert -0.1 < low < -0.02
        assert 0.02 < high < 0.1


def test_nothing_in_common_is_told_as_such() -> None:
    one = _scores(np.ones((3, 20)), seeds=(0, 1, 2))
    later = _scores(np.zeros((3, 20)), seeds=(3, 4, 5))
    (apart,) = compare({"a": one, "b": later})
    assert (apart.seeds, apart.by_seed, apart.corrected) == ((), (), 1.0)
    assert math.isnan(apart.difference)
    assert apart.verdict == apart.models_verdict == "open"
    (elsewhere,) = compare({"a": {"r18": one[""]}, "b": {"r50": one[""]}})
    assert elsewhere.blocks == ()
    assert elsewhere.verdict == "open"


def test_pairs_use_the_seeds_that_both_have() -> None:
    rng = np.random.default_rng(3)
    one, other = _right(rng, 0.9, 5, 80), _right(rng, 0.5, 4, 80)
    (found,) = compare({"a": _scores(one), "b": _scores(other, seeds=(1, 2, 3, 9))})
    assert found.seeds == (1, 2, 3)
    assert found.difference == pytest.approx(one[1:4].mean() - other[:3].mean())
    assert found.by_seed == pytest.approx(one[1:4].mean(axis=1) - other[:3].mean(axis=1))


def test_blocks_are_compared_within() -> None:
    """Always ahead on the same backbone, but behind if each met the other's best."""
    rng = np.random.default_rng(4)
    small = _right(rng, 0.6, 3, 400)
    large = np.ones_like(small)
    worse = [np.where(rng.random(small.shape) < 0.15, 0.0, table) for table in (small, large)]
    first = {"small": _scores(small)[""], "large": _scores(large)[""]}
    second = {"small": _scores(worse[0])[""], "large": _scores(worse[1])[""]}
    (both,) = compare({"a": first, "b": second})
    assert both.blocks == ("small", "large")
    expected = (small.mean() - worse[0].mean() + large.mean() - worse[1].mean()) / 2
    assert both.difference == pytest.approx(expected)
    assert both.verdict == "better"
    (one,) = compare({"a": {"small": first["small"]}, "b": second})
    assert one.blocks == ("small",)
    assert one.difference == pytest.approx(small.mean() - worse[0].mean())


def test_as_good_is_shown_not_assumed() -> None:
    rng = np.random.default_rng(5)
    few = _right(rng, 0.9, 3, 100)
    assert _pair(few, few[:, ::-1].copy()).verdict == "open"
    many = np.tile(few, (1, 40))
    (found,) = compare({"a": _scores(many), "b": _scores(many)}, margin=0.01)
    assert found.verdict == "as_good"
    assert found.not_worse
    (narrow,) = compare({"a": _scores(many), "b": _scores(many)}, margin=1e-5)
    assert narrow.verdict == "open"


def test_a_loss_is_better_the_lower_it_is() -> None:
    rng = np.random.default_rng(6)
    low, high = (rng.exponential(scale, size=(3, 300)) for scale in (0.2, 1.0))
    (found,) = compare({"a": _scores(low), "b": _scores(high)}, higher_is_better=False)
    assert found.difference < 0 < found.lead
    assert found.verdict == "better"
    assert found.improvement == 1.0
    assert found.turned().verdict == "worse"


def test_looks_spend_no_more_than_there_is() -> None:
    levels = [look_level(look) for look in range(1, 100_000)]
    assert sum(levels) < ALPHA
    assert sum(levels) == pytest.approx(ALPHA, rel=1e-4)
    rng = np.random.default_rng(7)
    one, other = (_scores(_right(rng, p, 3, 200)) for p in (0.9, 0.8))
    pairs = [("a", "b", one, other), ("a", "c", one, one)]
    first = compare_pairs(pairs)
    third = compare_pairs(pairs, looks={frozenset("ab"): 3})
    assert third[0].level == pytest.approx(first[0].level / 9)
    assert third[0].corrected == pytest.approx(min(1, 9 * first[0].corrected))
    assert third[0].interval[0] < first[0].interval[0]
    assert third[1] == first[1]


def test_without_predictions_nothing_is_claimed() -> None:
    one, other = ({"": Scores(seeds=(0, 1, 2), samples=("all",), values=np.full((3, 1), v))}
                  for v in (0.9, 0.5))  # fmt: skip
    (found,) = compare({"a": one, "b": other})
    assert found.difference == pytest.approx(0.4)
    assert found.verdict == "open"
    assert found.corrected == 1.0
    assert math.isnan(found.interval[0])
