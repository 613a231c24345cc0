"""Strategies against each other: who wins how often, and how they rank over blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench.errors import counted
from bench.results.analysis import ALPHA, Comparison, Ranking
from bench.results.analysis.ranks import LEAST_BLOCKS
from bench.results.metric import ACCURACY, Metric
from bench.results.plots.style import (
    GREY,
    key_below,
    new_figure,
    percent_axis,
    shortened,
    styled,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_NAMES = 14
"""Names in a matrix or on a rank axis; of more, none is drawn."""


@styled
def win_matrix(comparisons: Sequence[Comparison], metric: Metric = ACCURACY) -> Figure | None:
    """In how many of the common seeds each is ahead of each; claims are framed.

    `comparisons` are those of all pairs, as `compare` gives them. `None` without a pair that has a
    common seed, or of more than `MAX_NAMES` names.
    """
    names = list(dict.fromkeys(name for c in comparisons for name in (c.first, c.second)))
    if not any(c.seeds for c in comparisons) or len(names) > MAX_NAMES:
        return None
    wins = np.full((len(names), len(names)), np.nan)
    for c in comparisons:
        row, column = names.index(c.first), names.index(c.second)
        wins[row, column], wins[column, row] = c.improvement, 1 - c.improvement
    # Those that win most stand on top; what has no rival has a mean of nothing.
    known = np.isfinite(wins).sum(axis=1)
    order = np.argsort(-np.nansum(wins, axis=1) / np.maximum(known, 1), kind="stable")
    names, wins = [names[i] for i in order], wins[np.ix_(order, order)]
    figure = new_figure(2.4 + 0.45 * len(names), title=_wins_message(comparisons))
    ax = figure.subplots()
    image = ax.imshow(np.ma.masked_invalid(wins), cmap="PuOr_r", vmin=0, vmax=1, aspect="auto")
    ax.grid(visible=False)
    ax.set_facecolor("#eeeeee")
    labels = [wrapped(shortened(name, 48), 26) for name in names]
    ax.set_yticks(range(len(names)), labels)
    ax.set_xticks(
        range(len(names)), [shortened(name, 24) for name in names], rotation=35, ha="right"
    )
    ax.tick_params(length=0)
    for (row, column), share in np.ndenumerate(wins):
        if np.isfinite(share):
            strong = abs(share - 0.5) > 0.35
            text = f"{100 * share:.0f}"
            colour = "white" if strong else "black"
            ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=10)
    for c in comparisons:
        if c.verdict in ("better", "worse"):
            winner, loser = (c.first, c.second) if c.verdict == "better" else (c.second, c.first)
            _frame(ax, names.index(winner), names.index(loser))
    bar = figure.colorbar(image, ax=ax, aspect=14, pad=0.02)
    percent_axis(bar.ax.yaxis, "seeds ahead")
    key_below(
        figure,
        note=f"Percent of the common seeds in which the row has the {metric.ahead} test "
        f"{metric.label} than the column, ties counted half. Framed: claimed, corrected p < "
        f"{ALPHA:g}.",
    )
    return figure


def _frame(ax: Axes, row: int, column: int) -> None:
    from matplotlib.patches import Rectangle

    corner = (column - 0.46, row - 0.46)
    ax.add_patch(Rectangle(corner, 0.92, 0.92, fill=False, edgecolor="black", linewidth=2))


def _wins_message(comparisons: Sequence[Comparison]) -> str:
    claimed = sum(c.verdict in ("better", "worse") for c in comparisons)
    pairs = counted(len(comparisons), "pair")
    if all(c.of_models for c in comparisons):
        return f"Too few seeds to show a difference in any of {pairs}"
    if not claimed:
        return f"None of {pairs} is shown to differ"
    return f"{claimed} of {pairs} shown to differ"


@styled
def critical_differences(ranking: Ranking) -> Figure | None:
    """Average ranks over blocks on a line; where they are tested, bars join what is not told apart.

    Demšar, Statistical Comparisons of Classifiers over Multiple Data Sets, 2006. `None` of more
    than `MAX_NAMES` names.
    """
    names = list(ranking.ranks)
    if len(names) > MAX_NAMES:
        return None
    half = -(-len(names) // 2)
    figure = new_figure(
        1.7 + 0.3 * half + 0.12 * len(ranking.cliques), title=_rank_message(ranking)
    )
    ax = figure.subplots()
    for side in ("left", "right", "bottom"):
        ax.spines[side].set_visible(False)
    ax.spines["top"].set_visible(True)
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    ax.set_xlabel("average rank, best on the left")
    ax.set_yticks([])
    ax.grid(visible=False)
    ax.set_xlim(1, len(names))
    ax.set_xticks(range(1, len(names) + 1))
    below = 0.5 + 0.4 * len(ranking.cliques)
    ax.set_ylim(below + half, 0)
    for index, name in enumerate(names):
        left = index < half
        level = below + (index if left else len(names) - 1 - index)
        edge = 1.0 if left else float(len(names))
        rank = ranking.ranks[name]
        ax.plot([rank, rank, edge], [0, level, level], color=GREY, linewidth=1, clip_on=False)
        label = f"{shortened(name, 40)}  {rank:.2f}"
        ax.annotate(
            label,
            (edge, level),
            xytext=(-4 if left else 4, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontsize=10,
            annotation_clip=False,
        )
    for index, clique in enumerate(ranking.cliques):
        ends = [ranking.ranks[clique[0]] - 0.03, ranking.ranks[clique[-1]] + 0.03]
        ax.plot(ends, [0.3 + 0.4 * index] * 2, color="black", linewidth=4, solid_capstyle="butt")
    key_below(figure, note=_rank_note(ranking))
    return figure


def _rank_note(ranking: Ranking) -> str:
    """What the ranks speak of, and what bars mean."""
    blocks = f"{len(ranking.blocks)} blocks"
    if ranking.tested:
        return (
            f"{blocks}. Bars join what Wilcoxon's signed-rank test with Holm's correction does "
            "not show to differ."
        )
    describes = f"{blocks}: the ranks describe these and claim nothing about others"
    if ranking.shares_images:
        return f"{describes}, as blocks of one data set share their images."
    return f"{describes}, which takes {LEAST_BLOCKS} blocks or more."


def _rank_message(ranking: Ranking) -> str:
    best = next(iter(ranking.ranks))
    if not ranking.tested:
        equal = [name for name, rank in ranking.ranks.items() if rank == ranking.ranks[best]]
        if len(equal) > 1:
            return f"{len(equal)} of {len(ranking.ranks)} share the first rank on these blocks"
        return f"{shortened(best, 40)} ranks first on these {counted(len(ranking.blocks), 'block')}"
    test = f"Iman–Davenport, p = {ranking.p:.2g}"
    if ranking.p >= ALPHA:
        return f"It is open whether the ranks differ on other blocks ({test})"
    joined = {name for clique in ranking.cliques if best in clique for name in clique} - {best}
    if len(joined) == len(ranking.ranks) - 1:
        name = shortened(best, 40)
        return f"The ranks differ ({test}), but {name} is not shown to differ from any other"
    if joined:
        others = counted(len(joined), "other")
        name = shortened(best, 40)
        return f"{name} ranks first, but is not shown to differ from {others} ({test})"
    return f"{shortened(best, 40)} ranks best over all blocks ({test})"
