"""The report's section "Test sets": what holds on each of several, and whether the order does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bench.errors import counted
from bench.results.analysis import Comparison, Verdict
from bench.results.analysis.test_sets import TestSets, Turn
from bench.results.grid import UNKNOWN
from bench.results.metric import Metric
from bench.results.report.answer import lead_text, named
from bench.results.report.blocks import Block, Bullets, Heading, Table, paragraph
from bench.results.report.wording import as_json, claim, ends, number

MAX_PAIRS = 45
MAX_TURNS = 20


def test_sets_section(found: TestSets, verdict: Verdict) -> Iterator[Block]:
    """The blocks below "Test sets"; `verdict` is that of all test samples together."""
    metric = verdict.metric
    yield Heading("Test sets", 3)
    yield paragraph(
        f"Test {metric.label} on each test set, of the same trainings at the epochs that "
        "validation chose: no test set chooses anything. The verdict above is of all test images "
        "together."
    )
    yield _figures(found, verdict)
    pairs = _pairs_shown(found, verdict)
    if pairs:
        yield paragraph(
            "Differences, first minus second, with intervals and claims for each test set: all "
            "pairs on all sets are one family, with half of the error; the verdict has the other "
            "half."
        )
        yield _pairs(found, pairs, metric)
    yield from _turns(found, verdict)


test_sets_section.__test__ = False  # type: ignore[attr-defined]


def _figures(found: TestSets, verdict: Verdict) -> Table:
    metric = verdict.metric
    by_set = [{each.name: each for each in own.contenders} for own in found.verdicts.values()]
    rows = []
    for each in verdict.contenders:
        cells = [
            _with_ends(own[each.name].figure, own[each.name].interval, metric)
            if each.name in own
            else UNKNOWN
            for own in by_set
        ]
        mean = found.means.get(each.name)
        of_mean = UNKNOWN if mean is None else _with_ends(mean.value, mean.interval, metric)
        rows.append((each.name, *cells, of_mean, found.worst.get(each.name, UNKNOWN)))
    heads = tuple(f"{name} ({_size(own)})" for name, own in found.verdicts.items())
    header = (verdict.axis, *heads, "mean over sets", "worst on")
    return Table(
        "test_sets",
        header,
        tuple(rows),
        tuple(range(1, len(header) - 1)),
        terms=(
            ("mean over sets", "each set counts the same, whatever its size"),
            ("worst on", f"the set with the worst {metric.label}"),
        ),
    )


def _size(verdict: Verdict) -> str:
    groups = f" in {counted(verdict.groups, 'group')}" if verdict.groups else ""
    return f"{counted(verdict.samples, 'image')}{groups}"


def _with_ends(figure: float, interval: tuple[float, float], metric: Metric) -> str:
    return f"{number(figure, metric)} ({ends(interval, metric)})"


def _pairs_shown(found: TestSets, verdict: Verdict) -> list[Comparison]:
    """All pairs, or those with what is recommended where there are many."""
    pairs = list(verdict.comparisons)
    if len(pairs) > MAX_PAIRS and verdict.recommended is not None:
        return list(verdict.rivals.values())
    return pairs


def _pairs(found: TestSets, pairs: Sequence[Comparison], metric: Metric) -> Table:
    rows = tuple(
        (
            pair.first,
            pair.second,
            *(
                f"{lead_text(own, metric, signed=True)}; {claim(own)}"
                if own is not None
                else UNKNOWN
                for verdict in found.verdicts.values()
                for own in (verdict.against(pair.first).get(pair.second),)
            ),
        )
        for pair in pairs
    )
    return Table("test_set_pairs", ("first", "second", *found.verdicts), rows)


def _turns(found: TestSets, verdict: Verdict) -> Iterator[Block]:
    if len(verdict.contenders) < 2:
        return
    if not found.turns:
        yield paragraph("The order of the figures is the same on all test sets.")
        return
    yield paragraph(
        "Where the order is not the same on all test sets. Shown: it is claimed that the one is "
        "better on a set, and that the other is on another one; else the figures differ by no more "
        "than chance may bring."
    )
    yield Bullets(tuple((_turn(each),) for each in found.turns[:MAX_TURNS]))
    if len(found.turns) > MAX_TURNS:
        yield paragraph(f"{counted(len(found.turns) - MAX_TURNS, 'more pair')}.")


def _turn(each: Turn) -> str:
    how = "shown" if each.shown else "not shown"
    return (
        f"{each.first} is ahead on {named(each.first_ahead)}, {each.second} on "
        f"{named(each.second_ahead)} ({how})"
    )


def test_sets_json(found: TestSets) -> dict[str, Any]:
    """What `verdict.json` says of each test set; differences are first − second."""
    return {
        name: {
            "test_samples": verdict.samples,
            **({"test_groups": verdict.groups} if verdict.groups else {}),
            "figures": {
                each.name: {
                    "value": as_json(each.figure),
                    "low": as_json(each.interval[0]),
                    "high": as_json(each.interval[1]),
                }
                for each in verdict.contenders
            },
            "comparisons": [
                {
                    "first": pair.first,
                    "second": pair.second,
                    "difference": as_json(pair.difference),
                    "low": as_json(pair.interval[0]),
                    "high": as_json(pair.interval[1]),
                    "verdict": pair.verdict,
                }
                for pair in verdict.comparisons
            ],
        }
        for name, verdict in found.verdicts.items()
    }


test_sets_json.__test__ = False  # type: ignore[attr-defined]
