"""Ranks over blocks: a published table, scipy, and what is claimed of how many blocks."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import friedmanchisquare, wilcoxon

from bench.results.analysis import rank_over_blocks
from bench.results.analysis.ranks import (
    LEAST_BLOCKS,
    block_ranks,
    friedman,
    holm,
    iman_davenport,
    signed_rank_p,
)
from bench.results.grid import Grid

DEMSAR = np.array(
    [
        (0.763, 0.768, 0.771, 0.798),
        (0.599, 0.591, 0.590, 0.569),
        (0.954, 0.971, 0.968, 0.967),
        (0.628, 0.661, 0.654, 0.657),
        (0.882, 0.888, 0.886, 0.898),
        (0.936, 0.931, 0.916, 0.931),
        (0.661, 0.668, 0.609, 0.685),
        (0.583, 0.583, 0.563, 0.625),
        (0.775, 0.838, 0.866, 0.875),
        (1.000, 1.000, 1.000, 1.000),
        (0.940, 0.962, 0.965, 0.962),
        (0.619, 0.666, 0.614, 0.669),
        (0.972, 0.981, 0.9751, 0.975),  # printed alike, but ranked 2 and 3
        (0.957, 0.978, 0.946, 0.970),
    ]
)
"""Areas under the ROC curve of four variants of C4.5 on 14 data sets (Demšar, 2006, table 6)."""


def _blocks(table: np.ndarray[Any, Any], *, axis: str = "dataset") -> tuple[pd.DataFrame, Grid]:
    """Accuracies `[blocks, strategies]` as trials."""
    names = [chr(ord("a") + column) for column in range(table.shape[1])]
    plain = {"dataset": "d", "backbone": "r18", "seed": 0, "status": "complete"}
    rows = [
        {**plain, axis: f"{block:02}", "config": f"{name}{block}", "test_accuracy": value}
        for block, values in enumerate(table)
        for name, value in zip(names, values, strict=True)
    ]
    cells = {str(row["config"]): {"strategy": str(row["config"])[0]} for row in rows}
    grid = Grid(axes={"strategy": tuple(names)}, keys=("strategy",), cells=cells, labels={})
    return pd.DataFrame(rows), grid


def test_the_published_table() -> None:
    ranks = block_ranks(-DEMSAR)
    assert ranks.mean(axis=0).round(3).tolist() == [3.143, 2.000, 2.893, 1.964]
    plain, corrected = friedman(ranks, ties=False), friedman(ranks)
    assert (round(plain[0], 2), round(plain[1], 3)) == (9.28, 0.026)
    assert round(corrected[1], 3) == 0.017
    value, p = iman_davenport(ranks)
    assert round(value, 2) == 3.69
    assert 0.019 < p < 0.021
    ranking = rank_over_blocks(*_blocks(DEMSAR))
    assert ranking is not None
    assert ranking.ranks == pytest.approx({"d": 27.5 / 14, "b": 2, "c": 40.5 / 14, "a": 44 / 14})
    assert list(ranking.ranks) == ["d", "b", "c", "a"]
    assert ranking.p == pytest.approx(p)


def test_friedman_is_that_of_scipy() -> None:
    expected = friedmanchisquare(*DEMSAR.T)
    found = friedman(block_ranks(-DEMSAR))
    assert found == pytest.approx((expected.statistic, expected.pvalue))
    assert friedman(np.full((4, 3), 2.0))[0] == 0.0


def test_where_all_blocks_agree_p_is_that_of_chance() -> None:
    ranks = np.tile([1.0, 2.0, 3.0], (3, 1))
    agree = [len(set(rows)) == 1 for rows in product(permutations(range(3)), repeat=3)]
    assert iman_davenport(ranks)[1] == pytest.approx(np.mean(agree))
    assert iman_davenport(np.tile(np.arange(1.0, 301), (9, 1)))[1] >= 0


@pytest.mark.parametrize("blocks", [6, 7, 10, 13, 30, 50])
def test_signed_ranks_are_those_of_scipy(blocks: int) -> None:
    differences = np.random.default_rng(blocks).normal(0.5, 1, size=(20, blocks))
    expected = [wilcoxon(row, method="exact").pvalue for row in differences]
    assert signed_rank_p(differences) == pytest.approx(expected)


def test_signed_ranks_with_ties_and_zeros_are_counted_one_by_one() -> None:
    differences = np.random.default_rng(0).integers(-2, 3, size=(30, 7)).astype(float)
    differences[0] = 0
    expected = []
    for row in differences:
        known = row[row != 0]
        ranks = block_ranks(np.abs(known)[None, :])[0]
        sums = [np.dot(signs, ranks) for signs in product((0, 1), repeat=len(known))]
        smaller = min(ranks[known > 0].sum(), ranks[known < 0].sum())
        expected.append(min(1.0, 2 * np.mean(np.array(sums) <= smaller + 1e-9)))
    assert signed_rank_p(differences) == pytest.approx(expected)


def test_of_many_blocks_the_distribution_is_normal() -> None:
    differences = np.random.default_rng(0).normal(0.2, 1, size=(5, 80))
    differences[1] = 0.0
    found = signed_rank_p(differences)
    assert found[1] == 1.0
    for index in (0, 2, 3, 4):
        assert found[index] == pytest.approx(wilcoxon(differences[index], method="approx").pvalue)


def test_cliques_join_what_is_not_told_apart() -> None:
    noise = np.linspace(-0.02, 0.02, 10)
    table = np.column_stack(
        [0.7 + noise, 0.9 + noise + 0.001 * (-1.0) ** np.arange(10), 0.9 + noise]
    )
    ranking = rank_over_blocks(*_blocks(table))
    assert ranking is not None
    assert ranking.ranks == {"b": 1.5, "c": 1.5, "a": 3.0}
    assert ranking.tested
    assert ranking.cliques == (("b", "c"),)


def test_few_blocks_and_blocks_that_share_images_describe_themselves() -> None:
    table = DEMSAR[:, ::-1]
    few = rank_over_blocks(*_blocks(table[: LEAST_BLOCKS - 1]))
    assert few is not None
    assert (few.tested, few.cliques, few.shares_images) == (False, (), False)
    shared = rank_over_blocks(*_blocks(table, axis="backbone"))
    assert shared is not None
    assert (shared.tested, shared.cliques, shared.shares_images) == (False, (), True)
    whole = rank_over_blocks(*_blocks(table))
    assert whole is not None
    assert shared.ranks == whole.ranks


def test_no_ranks_of_one_block_or_two_strategies() -> None:
    assert rank_over_blocks(*_blocks(DEMSAR[:1])) is None
    assert rank_over_blocks(*_blocks(DEMSAR[:, :2])) is None


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
