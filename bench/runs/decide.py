"""Stop when decided: after each look at the verdict, who gets further seeds, and who stops.

In the contest are the recommended strategy (or whatever else the leading axis of the grid is) and
those that are open against it, as long as seeds can settle that. All others stop: those shown to
be worse or as good, and those that only more test images could tell apart.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Literal

from bench.results.analysis import Comparison, Verdict

MAX_SEEDS = 20
"""Seeds of a strategy at most, by default."""

PATIENCE = 6
"""With fewer seeds nothing is taken for hopeless: where the test cannot tell two apart, validation
chooses, and it takes a few seeds to choose well."""

Why = Literal["worse", "as good", "left out", "images", "seeds"]
"""Why one is not trained further: shown to be worse or as good, not selected by `--only`, or open
though seeds will not settle it within the limit, or have not."""

Ended = Literal["decided", "none", "left out", "images", "seeds", "minutes", "failed"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """What follows from a look.

    `racing` get seeds until each has `seeds` of them; the recommended one comes first. `stopped`
    says of the others why not. Without any racing it has `ended`.
    """

    racing: tuple[str, ...] = ()
    seeds: int = 0
    stopped: Mapping[str, Why] = field(default_factory=dict)
    ended: Ended | None = None


def doubled(seeds: int) -> int:
    """Twice as many seeds: looks are few, as each is paid for by all later ones."""
    return 2 * seeds


def next_step(
    verdict: Verdict,
    seeds: Mapping[str, int],
    *,
    max_seeds: int = MAX_SEEDS,
    selected: Collection[str] | None = None,
    grown: Callable[[int], int] = doubled,
    patience: int = PATIENCE,
) -> Step:
    """Who goes on after this verdict. `seeds` counts those that each has been trained with.

    `selected` are those that may be trained, by default all. `grown` says up to how many seeds the
    next round leads, `patience` with how many seeds a pair may first be taken for hopeless.
    """
    best = verdict.recommended
    if best is None:
        return Step(ended="none")
    stopped: dict[str, Why] = {}
    racing = []
    for name, comparison in verdict.rivals.items():
        why = _why_stopped(verdict, comparison, seeds, max_seeds, patience)
        if why is None and selected is not None and not {best, name} <= set(selected):
            why = "left out"
        if why is None:
            racing.append(name)
        else:
            stopped[name] = why
    if racing:
        most = max(seeds[name] for name in (best, *racing))
        behind = any(seeds[name] < most for name in (best, *racing))
        return Step(
            racing=(best, *racing),
            seeds=most if behind else min(grown(most), max_seeds),
            stopped=stopped,
        )
    whys = stopped.values()
    if "seeds" in whys:
        return Step(stopped=stopped, ended="seeds")
    if "images" in whys:
        return Step(stopped=stopped, ended="images")
    return Step(stopped=stopped, ended="left out" if "left out" in whys else "decided")


def _why_stopped(
    verdict: Verdict,
    comparison: Comparison,
    seeds: Mapping[str, int],
    max_seeds: int,
    patience: int,
) -> Why | None:
    if comparison.verdict != "open":
        return "as good" if comparison.verdict == "as_good" else "worse"
    if comparison.samples < 2 or comparison.few_groups:
        return "images"
    # Trainings that failed are no seeds of the comparison, and are not tried for ever.
    if min(seeds[comparison.first], seeds[comparison.second]) >= max_seeds:
        return "seeds"
    if len(comparison.seeds) < patience or seeds_may_do(verdict, comparison, max_seeds):
        return None
    return "images"


def seeds_may_do(verdict: Verdict, comparison: Comparison, max_seeds: int) -> bool:
    """Whether up to so many seeds would tell the two apart, or show them as good, at best.

    At best: if they differ by the most, or the least, of the middle 80 % of what they may.
    """
    needs = verdict.needs(comparison)
    if needs is None:
        return True
    more = needs.seeds[0]
    if more is not None and len(comparison.seeds) + more <= max_seeds:
        return True
    least, _ = comparison.likely_size
    quantile = NormalDist().inv_cdf(1 - verdict.next_level(comparison) / 2)
    return least + quantile * float(comparison.error(max_seeds)) < comparison.margin
