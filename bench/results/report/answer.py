"""The verdict of a run in at most five short lines, for every form of report, and as JSON.

Nothing here is escaped. A line claims only what the analysis supports, in words for readers who
know what accuracy is and no statistics.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.errors import counted
from bench.results.analysis import COSTS, Comparison, Contender, Needs, Verdict
from bench.results.analysis.choice import chosen_config
from bench.results.analysis.crossed import LEAST_GROUPS, LEAST_SEEDS
from bench.results.grid import SHOTS, Grid, is_missing
from bench.results.metric import Metric
from bench.results.report.wording import as_json, at_size_text, rounded_up, seeds_text

MAX_NAMES = 4
MAX_LINES = 5
WORTH_TELLING = 1.1
"""Costs that differ by a smaller factor differ by chance: times are measured."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of the verdict: what it is about, and what it says."""

    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.about}: {self.text}"


def answer(found: Verdict, grid: Grid, *, doubts: Sequence[str] = ()) -> list[Line]:
    """At most five lines: what to use, what is worse, what is open, what would settle it, doubts.

    `doubts` are what else there is to distrust.
    """
    if not found.contenders:
        reason = f"No complete trial has a test {found.metric.label}, so nothing can be compared."
        return [Line(about="Nothing", text=reason)]
    use, told, trust = _use(found, grid), list(_told_apart(found)), _trust(found, doubts)
    use = replace(use, text=f"{_at_size(found)}{use.text}")
    rest = [*_left_open(found), *_settle(found)]
    if len(told) + len(rest) + 2 > MAX_LINES:
        first, *others = told
        told = [Line(about=first.about, text=" ".join([first.text, *map(str, others)]))]
    return [use, *told, *rest, trust]


def _at_size(found: Verdict) -> str:
    """At which number of training images all of it stands, where that varies."""
    return "" if found.size is None else f"{at_size_text(found.size)}: "


def _use(found: Verdict, grid: Grid) -> Line:
    best = found.contender(found.recommended or found.contenders[0].name)
    reached = _figure(best, found)
    if len(found.contenders) == 1:
        text = f"{best.name} is the only {found.axis} with a complete trial. It reaches {reached}."
        return Line(about="Result", text=text)
    if found.recommended is None:
        text = f"every {found.axis} is shown to be worse than another one: none can be recommended."
        return Line(about="Use", text=text)
    return Line(
        about="Use",
        text=f"{_with_config(best, grid)}. {_why(found, best)} It reaches {reached}.",
    )


def _why(found: Verdict, best: Contender) -> str:
    leader = found.leader
    metric = found.metric
    if math.isnan(best.val):
        return "It is the best on the test split; there is no validation split to choose by."
    if leader is None or leader == best.name:
        return f"It is the best on validation ({metric.text(best.val)})."
    if found.against(best.name)[leader].verdict == "better":
        return f"{leader} is the best on validation, but is shown to be worse on the test split."
    if found.in_place_of is not None:
        dear = found.contender(found.in_place_of)
        of = "" if dear.name == leader else " of those that nothing beats"
        return (
            f"It is shown to be at most {amount(found.margin, metric)} behind every other one, "
            f"and takes {_times_less(best, dear, found)} than {dear.name}, the best on "
            f"validation{of}."
        )
    return f"It is the best on validation of those that nothing beats ({metric.text(best.val)})."


def _told_apart(found: Verdict) -> Iterator[Line]:
    worse = [c for c in found.rivals.values() if c.verdict == "better"]
    alike = [c for c in found.rivals.values() if c.verdict == "as_good"]
    of_models = [c for c in found.rivals.values() if c.models_verdict in ("better", "worse")]
    if worse:
        names = [f"{c.second} (by {lead_text(c, found.metric)})" for c in worse]
        text = f"{named(names)}."
        if len(worse) == len(found.rivals) > 1:
            text = f"all others: {text}"
        yield Line(about="Worse", text=text)
    if alike:
        names = [c.second for c in alike]
        within = amount(found.margin, found.metric)
        yield Line(about="As good", text=f"{named(names)}: shown to be within {within}.")
    if of_models:
        names = [
            f"{c.second} ({'behind' if c.lead > 0 else 'ahead'} by "
            f"{lead_text(c if c.lead > 0 else c.turned(), found.metric)})"
            for c in of_models
        ]
        text = (
            f"differences are shown between the trained models only: {named(names)}. They hold "
            f"for these models on other test images, and say nothing yet about the {found.axis} "
            "values."
        )
        yield Line(about="Of these models", text=text)


def _left_open(found: Verdict) -> Iterator[Line]:
    rivals = [c for c in found.rivals.values() if c.verdict == "open"]
    if not rivals:
        return
    few = [c for c in rivals if c.of_models]
    if all(c.few_groups for c in rivals):
        yield Line(about="Open", text=f"nothing can be said about other groups: {_few(rivals[0])}.")
        return
    if few and len(few) == len(rivals):
        seeds = max(len(c.seeds) for c in few)
        if not seeds:
            text = f"nothing can be compared: {_why_not(few[0], found)}."
        else:
            text = (
                f"with {seeds_text(seeds)} nothing can be said about the {found.axis} values: the "
                f"luck of training can be measured from {LEAST_SEEDS} seeds on."
            )
        yield Line(about="Open", text=text)
        return
    names = [
        f"{c.second} ({lead_text(c.turned(), found.metric, signed=True)})"
        if c.seeds
        else f"{c.second} ({_why_not(c, found)})"
        for c in rivals
    ]
    best = found.contender(found.recommended or "")
    cheaper = [
        c
        for c in rivals
        if WORTH_TELLING * found.contender(c.second).costs.get(found.cost, math.nan)
        <= best.costs.get(found.cost, math.nan)
        and not is_missing(c.lead_interval[1])
    ]
    text = f"{named(names)}, compared with {best.name}."
    if cheaper:
        first = min(cheaper, key=lambda c: c.lead_interval[1])
        other = found.contender(first.second)
        most = amount(max(0.0, first.lead_interval[1]), found.metric)
        text += (
            f" {first.second} takes {_times_less(other, best, found)} and is at most {most} behind."
        )
    yield Line(about="Open", text=text)


def _few(comparison: Comparison) -> str:
    """Why its groups are too few."""
    if comparison.samples < LEAST_GROUPS:
        return f"there are {comparison.samples} to test on, and it takes {LEAST_GROUPS}"
    return "one of them has more than half of all test images"


def _why_not(comparison: Comparison, found: Verdict) -> str:
    if not comparison.blocks:
        return "never trained on the same backbone"
    if not comparison.samples:
        return "no common test image"
    return "no common seed"


def _settle(found: Verdict) -> Iterator[Line]:
    rivals = [c for c in found.rivals.values() if c.verdict == "open"]
    if not rivals:
        return
    if all(c.few_groups for c in rivals):
        further = max(1, LEAST_GROUPS - max(c.samples for c in rivals))
        text = f"test images of at least {counted(further, 'more group')}."
        yield Line(about="To settle it", text=text)
        return
    if all(c.of_models for c in rivals):
        most = max(len(c.seeds) for c in rivals)
        if most:
            further = LEAST_SEEDS - most
            text = f"at least {counted(further, 'more seed')}."
            yield Line(about="To settle it", text=text)
        return
    known = [(c, needs) for c in rivals if (needs := found.needs(c)) is not None]
    if not known:
        if found.folds:
            text = "more images: further seeds test the same ones again."
            yield Line(about="To settle it", text=text)
        elif any(c.seeds and c.samples < 2 for c in rivals):
            text = "the predictions of the trials: without them nothing can be claimed."
            yield Line(about="To settle it", text=text)
        return
    first, needs = min(known, key=lambda pair: _effort(pair[1]))
    half = (first.interval[1] - first.interval[0]) / 2
    text = (
        f"{_needs_text(needs, found)}, for {first.second}. These seeds and test images show "
        f"differences of about {amount(half, found.metric)} or more."
    )
    yield Line(about="To settle it", text=text)


def _effort(needs: Needs) -> tuple[float, float]:
    return (needs.seeds[0] or math.inf, needs.samples[0] or math.inf)


def _needs_text(needs: Needs, found: Verdict) -> str:
    seeds, samples = _range(needs.seeds), _range(needs.samples)
    images = "groups" if found.groups else "images"
    more = "further seed" if seeds == "about 1" else "further seeds"
    if seeds and samples:
        return f"{seeds} {more}, or a test split of {samples} {images}"
    if samples:
        return f"a test split of {samples} {images}, as no number of seeds is enough"
    if seeds:
        return f"{seeds} {more}"
    return f"many more seeds together with many more test {images}"


def _range(ends: tuple[int | None, int | None]) -> str:
    least, most = ends
    if least is None:
        return ""
    low = rounded_up(least)
    if most is None:
        return f"{low:,} or more"
    high = rounded_up(most)
    return f"about {low:,}" if low == high else f"{low:,} to {high:,}"


def _trust(found: Verdict, doubts: Sequence[str]) -> Line:
    images = found.train_samples
    candidates = (c.candidates for each in found.contenders for c in each.choices.values())
    training = "the configs chosen here, trained" if max(candidates, default=1) > 1 else "training"
    few = [each.name for each in found.contenders if len(each.seeds) < LEAST_SEEDS]
    pool = counted(images, "training image") if images else "training images"
    of_pool = (
        f"it holds for {training} on this pool of {pool}, on any seeds and on "
        f"{'groups of ' if found.groups else ''}test images like these"
    )
    if found.folds:
        about = f"about {counted(images, 'image')}" if images else "images"
        text = (
            f"it holds for {training} on {about} like these, and on images like these "
            f"({found.folds} folds)."
        )
    elif any(c.few_groups for c in found.comparisons):
        text = f"it holds for these {counted(found.groups, 'group')} of test images only."
    elif not few:
        text = f"{of_pool}."
    elif len(few) == len(found.contenders):
        tested = "groups of test images" if found.groups else "test images"
        text = f"it holds for these trained models, on {tested} like these."
    else:
        text = f"{of_pool}; of {named(few)}, with too few seeds, for the trained models only."
    more = "; ".join(doubts)
    return Line(about="Trust", text=f"{text} Note: {more}." if more else text)


def _figure(best: Contender, found: Verdict) -> str:
    metric = found.metric
    low, high = best.interval
    seeds = seeds_text(len(best.seeds))
    if is_missing(low):
        return f"{metric.text(best.figure)} on the test split ({seeds})"
    several = found.folds or len(best.seeds) >= LEAST_SEEDS
    images = "groups" if found.groups else "images"
    other = f"other seeds and {images}" if several else f"other {images}"
    blocks = f", mean over {len(best.blocks)} backbones" if len(best.blocks) > 1 else ""
    tested = (
        f"{counted(found.samples, 'image')}, each tested once a seed"
        if found.folds
        else counted(found.samples, "test image")
    )
    if found.groups:
        tested += f" in {counted(found.groups, 'group')}"
    return (
        f"{metric.text(best.figure)} on {tested} ({seeds}{blocks}; for {other} "
        f"{metric.number(low)} to {metric.number(high)})"
    )


def _with_config(best: Contender, grid: Grid) -> str:
    """Its name and what else to choose."""
    config = chosen_config(best.choices, grid)
    others = [key for key in grid.keys if key not in (grid.lead, SHOTS)]
    rest = " · ".join(grid.cells[config][key] for key in others)
    return f"{best.name} ({rest})" if rest else best.name


def _times_less(cheap: Contender, dear: Contender, found: Verdict) -> str:
    ratio = dear.costs[found.cost] / cheap.costs[found.cost] if cheap.costs[found.cost] else 0.0
    what = COSTS[found.cost]
    return f"{ratio:.1f} times less {what}" if ratio else f"no {what}"


def lead_text(comparison: Comparison, metric: Metric, *, signed: bool = False) -> str:
    """By how much the first is ahead, with its interval: `1.2 points, 0.3 to 2.1`."""
    low, high = comparison.lead_interval
    sign = "+" if signed else ""
    effect = metric.points(metric.number(comparison.lead, sign=sign))
    if is_missing(low):
        return effect
    low_end, high_end = metric.ends(low, high, sign=sign)
    return f"{effect}, {low_end} to {high_end}"


def amount(value: float, metric: Metric) -> str:
    """`1.0 points`, `0.012`."""
    return metric.points(metric.number(value))


def named(names: Sequence[str]) -> str:
    """The first few of many names."""
    more = len(names) - MAX_NAMES
    return "; ".join(names[:MAX_NAMES]) + (f"; and {more} more" if more > 0 else "")


def verdict_json(found: Verdict, lines: Sequence[Line]) -> dict[str, Any]:
    """The content of `verdict.json`; differences are first − second, of the metric."""
    best = None if found.recommended is None else found.contender(found.recommended)
    return {
        "recommended": found.recommended,
        "metric": found.metric.name,
        "seeds": 0 if best is None else len(best.seeds),
        "test_samples": found.samples,
        **({"test_groups": found.groups} if found.groups else {}),
        "margin": found.margin,
        "look": found.look,
        "comparisons": [
            {
                "first": c.first,
                "second": c.second,
                "difference": as_json(c.difference),
                "low": as_json(c.interval[0]),
                "high": as_json(c.interval[1]),
                "p": c.p,
                "corrected": c.corrected,
                "seeds": len(c.seeds),
                "verdict": c.verdict,
            }
            for c in found.comparisons
        ],
        "sentences": [str(line) for line in lines],
    }
