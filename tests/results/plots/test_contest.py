"""The figure of ranks says no more than the ranks do."""

from __future__ import annotations

import re

import pytest

from bench.results.analysis import Ranking
from bench.results.plots.contest import critical_differences

RANKS = {"a": 1.25, "b": 1.75, "c": 3.0}
EIGHT = tuple("12345678")


def _said(ranking: Ranking) -> tuple[str, str]:
    """The title and the note of the figure."""
    figure = critical_differences(ranking)
    assert figure is not None
    note = " ".join(text.get_text() for text in figure.texts)
    return (re.sub(r"\s+", " ", figure.get_suptitle()), re.sub(r"\s+", " ", note))


@pytest.mark.parametrize(
    ("p", "cliques", "title"),
    [
        (0.2, (("a", "b", "c"),), "It is open whether the ranks differ on other blocks"),
        (0.01, (("a", "b", "c"),), "The ranks differ (Iman–Davenport, p = 0.01), but a is not"),
        (
            0.01,
            (("a", "b"), ("b", "c")),
            "a ranks first, but is not shown to differ from 1 other (Iman–Dav",
        ),
        (0.01, (("b", "c"),), "a ranks best over all blocks (Iman–Davenport, p = 0.01)"),
        (0.01, (), "a ranks best over all blocks"),
    ],
)
def test_a_best_is_named_only_where_no_bar_joins_it(
    p: float, cliques: tuple[tuple[str, ...], ...], title: str
) -> None:
    found, note = _said(Ranking(blocks=EIGHT, ranks=RANKS, p=p, cliques=cliques))
    assert found.startswith(title)
    assert ("best" in found) == (p < 0.05 and not any("a" in clique for clique in cliques))
    assert "8 blocks. Bars join what Wilcoxon's" in note


def test_ranks_that_are_not_tested_describe_these_blocks() -> None:
    title, note = _said(Ranking(blocks=EIGHT[:3], ranks=RANKS))
    assert title == "a ranks first on these 3 blocks"
    assert (
        "3 blocks: the ranks describe these and claim nothing about others, which takes 6" in note
    )
    _, note = _said(Ranking(blocks=EIGHT, ranks=RANKS, shares_images=True))
    assert "claim nothing about others, as blocks of one data set share their images" in note
    assert "Bars" not in note
    title, _ = _said(Ranking(blocks=EIGHT, ranks={"a": 1.5, "b": 1.5, "c": 3.0}))
    assert title == "2 of 3 share the first rank on these blocks"
