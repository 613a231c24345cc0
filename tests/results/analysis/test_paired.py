"""Paired comparisons against enumeration, closed forms and simulation."""

from __future__ import annotations

import math
from itertools import chain, combinations, product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.results.analysis import (
    compare,
    holm,
    mcnemar_p,
    more_seeds,
    outlook,
    probability_of_improvement,
    seeds_to_decide,
    sign_flip_p,
    smallest_p,
)

# Test accuracies differ by whole images.
DIFFERENCES = st.lists(st.integers(-9, 9), min_size=1, max_size=8)


@given(DIFFERENCES)
def test_sign_flips_counted_one_by_one(images: list[int]) -> None:
    flipped = [
        abs(sum(s * d for s, d in zip(signs, images, strict=True)))
        for signs in product((1, -1), repeat=len(images))
    ]
    expected = sum(value >= abs(sum(images)) for value in flipped) / len(flipped)
    assert sign_flip_p([d / 153 for d in images]) == pytest.approx(expected)


def test_many_pairs_are_drawn() -> None:
    rng = np.random.default_rng(1)
    differences = rng.normal(0.4, 1, size=24)
    z = differences.sum() / math.sqrt((differences**2).sum())
    normal = math.erfc(abs(z) / math.sqrt(2))
    assert sign_flip_p(differences) == pytest.approx(normal, abs=0.01)


@pytest.mark.parametrize("pairs", [1, 2, 5, 6, 10])
def test_the_smallest_p_is_reached_and_is_two_sided(pairs: int) -> None:
    assert sign_flip_p([0.1] * pairs) == smallest_p(pairs)
    assert sign_flip_p([-0.1] * pairs) == smallest_p(pairs)


def test_five_pairs_cannot_be_significant() -> None:
    assert smallest_p(5) == 0.0625
    assert seeds_to_decide(1) == 6
    for comparisons in (1, 2, 3, 6, 10, 45, 400):
        seeds = seeds_to_decide(comparisons)
        assert comparisons * smallest_p(seeds) < 0.05 <= comparisons * smallest_p(seeds - 1)


def test_the_outlook_before_training() -> None:
    assert outlook(2, 6) == "2 strategies, 1 pair, 6 seeds: the smallest attainable p is 0.031"
    assert outlook(4, 3) == (
        "4 strategies, 6 pairs, 3 seeds: the smallest attainable p is 1, so no difference can be "
        "significant; it takes 8 seeds"
    )


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closed_test_of_bonferroni(ps: list[float]) -> None:
    every = range(len(ps))
    subsets = list(chain.from_iterable(combinations(every, n + 1) for n in every))
    for index, corrected in enumerate(holm(ps)):
        over = [len(s) * min(ps[i] for i in s) for s in subsets if index in s]
        assert corrected == pytest.approx(min(1.0, max(over)))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_mcnemar_in_closed_form(right: list[tuple[bool, bool]]) -> None:
    first, second = np.array(right).T
    b, c = sum(a and not z for a, z in right), sum(z and not a for a, z in right)
    tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
    assert mcnemar_p(first, second) == pytest.approx(min(1.0, 2 * tail))


def test_probability_of_improvement_counts_ties_half() -> None:
    assert probability_of_improvement([1, 1, 0, -1]) == 0.625
    assert math.isnan(probability_of_improvement([]))


@pytest.mark.parametrize("comparisons", [1, 6])
@pytest.mark.parametrize("ratio", [0.5, 0.8, 1.5])
def test_seeds_needed_give_the_promised_power(ratio: float, comparisons: int) -> None:
    from scipy.stats import nct, t

    sample = np.array([-1.0, 1.0] * 2)
    sample = ratio + sample / sample.std(ddof=1)
    more = more_seeds(sample, comparisons=comparisons)
    assert more is not None
    n = 4 + more
    if n == seeds_to_decide(comparisons):
        return  # fewer could not be significant at all
    threshold = t.ppf(1 - 0.05 / comparisons / 2, n - 1)
    power = nct.sf(threshold, n - 1, ratio * math.sqrt(n))
    assert 0.77 < power < 0.86


def test_what_no_number_of_seeds_will_tell_apart() -> None:
    assert more_seeds([0.0, 0.0, 0.0], comparisons=1) is None
    assert more_seeds([0.01], comparisons=1) is None
    assert more_seeds([0.01, -0.0101, 0.01, -0.01], comparisons=1) is None


def _figures(**columns: list[float]) -> pd.DataFrame:
    frame = pd.DataFrame(columns)
    frame.index.name = "seed"
    return frame


def test_claims_need_enough_seeds_a_small_p_and_an_interval_without_zero() -> None:
    noise = [0.01, -0.01, 0.005, -0.004, 0.0, 0.008, -0.007, 0.002]
    base = [0.9 + x for x in noise]
    ahead = [0.95 + x for x in noise[::-1]]
    (found,) = compare(_figures(a=ahead, b=base))
    assert found.verdict == "better"
    assert found.effect == pytest.approx(0.05)
    assert found.interval[0] > 0
    assert found.p == found.corrected == found.attainable == smallest_p(8)
    (found,) = compare(_figures(a=base, b=ahead))
    assert found.verdict == "worse"
    (found,) = compare(_figures(a=base[:5], b=ahead[:5]))
    assert found.verdict == "too few seeds"
    assert found.more_seeds == 1
    (found,) = compare(_figures(a=base, b=base[::-1]))
    assert found.verdict == "undecided"


def test_all_pairs_share_one_correction() -> None:
    rng = np.random.default_rng(0)
    figures = _figures(**{name: list(rng.normal(size=9)) for name in "abcd"})
    found = compare(figures)
    assert [(c.first, c.second) for c in found] == list(combinations("abcd", 2))
    assert [c.corrected for c in found] == holm([c.p for c in found])
    assert {c.attainable for c in found} == {6 * smallest_p(9)}


def test_only_seeds_of_both_count() -> None:
    (found,) = compare(_figures(a=[0.9, math.nan, 0.8, 0.7], b=[0.8, 0.9, math.nan, 0.5]))
    assert found.seeds == (0, 3)
    assert found.effect == pytest.approx(0.15)
    (found,) = compare(_figures(a=[0.9, math.nan], b=[math.nan, 0.8]))
    assert (found.seeds, found.p, found.verdict) == ((), 1.0, "too few seeds")
