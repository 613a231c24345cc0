"""The report's section "What was advised, and whether it held"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from bench.errors import BenchError, counted
from bench.results.analysis.advice import ALIKE, Followed, HeldAdvice, Told, held_advice
from bench.results.analysis.verdict import Verdict
from bench.results.folder import Run, Tuning, read_advice
from bench.results.grid import UNKNOWN, Grid
from bench.results.metric import ACCURACY, Metric
from bench.results.report.blocks import Block, Bullets, Heading, Table, paragraph
from bench.results.report.wording import as_json, difference, difference_interval, ends, number

MAX_ROWS = 100
SOURCES = {
    "nearest_neighbour": "nearest neighbour",
    "ridge_probe": "ridge probe",
}
"""What tells what to expect of frozen features, as it is shown."""


def read_held_advice(
    run: Run, grid: Grid, verdict: Verdict, tuning: Tuning | None
) -> HeldAdvice | str | None:
    """What became of a run's advice, or why it is left out; None without any."""
    try:
        advice = read_advice(run.folder)
    except BenchError as error:
        return str(error)
    if advice is None:
        return None
    own = run.data.get("dataset_fingerprint")
    if own is not None and own != advice.origin.data:
        return f"{advice.path} is of other data than the run"
    return held_advice(run, advice, grid, verdict, tuning)


def advice_section(found: HeldAdvice | str | None, run: Run) -> Iterator[Block]:
    """The blocks of a run with advice; of others nothing."""
    if found is None:
        return
    yield Heading("What was advised, and whether it held", 3)
    if isinstance(found, str):
        yield paragraph(f"It is left out: {found}.")
        return
    yield paragraph(" ".join(_about(found)))
    yield from _rules(found, run.metric)
    yield from _expected(found)
    yield from _told(
        "advised_rates",
        found.rates,
        ("learning rate advised", "found"),
        f"Learning rates of the suite beside those that the search found; within {ALIKE:g} times "
        "of each other they agree:",
        agree=True,
    )
    yield from _told(
        "advised_costs",
        found.costs,
        ("seconds advised", "used"),
        "What the trials of each config cost, about, and what they took. Epochs that trials share "
        "count for each of them:",
        agree=False,
    )


def advice_json(found: HeldAdvice | str) -> dict[str, Any]:
    """What `verdict.json` says of it."""
    if isinstance(found, str):
        return {"left_out": found}
    return {
        "rule": found.advice.rule,
        "complete_before": found.advice.origin.complete,
        "suite_changed": found.changed,
        "best": found.best,
        "best_figure": as_json(found.figure),
        "rules": [_rule_json(each) for each in found.rules],
        "expected": [
            {
                "backbone": each.backbone,
                "source": each.source,
                **asdict(each.expected),
                "reached": as_json(each.reached),
                "held": each.held,
            }
            for each in found.expectations
        ],
        "lr": [asdict(each) for each in found.rates],
        "seconds": [asdict(each) for each in found.costs],
    }


def _rule_json(each: Followed) -> dict[str, Any]:
    compared = each.comparison
    interval = (None, None) if compared is None else tuple(map(as_json, compared.interval))
    return {
        "rule": each.rule,
        "said": list(each.said),
        "not_in_suite": list(each.lacking),
        "config": each.label,
        "figure": as_json(each.figure),
        "difference": None if compared is None else as_json(compared.difference),
        "low": interval[0],
        "high": interval[1],
        "held": each.held,
    }


def _about(found: HeldAdvice) -> Iterator[str]:
    origin, facts = found.advice.origin, found.advice.facts
    when = "before any trial was trained"
    if origin.complete:
        when = f"when {counted(origin.complete, 'trial')} were complete"
    yield (
        f"Written {when} ({origin.written}, bench {origin.bench}), from "
        f"{counted(facts.samples, 'training image')} and nothing else."
    )
    if found.changed:
        yield "The suite had other settings, strategies or seeds then."
    if found.advice.rule is None:
        yield "No rule was recommended over the others: each is shown as if it had been followed."
    else:
        yield f"The rule to follow was {found.advice.rule}."


def _rules(found: HeldAdvice, metric: Metric) -> Iterator[Block]:
    if found.best is None:
        yield paragraph("No trial is complete yet to hold it against.")
        return
    yield paragraph(
        f"The best config on validation is {found.best}, with a test {metric.label} of "
        f"{metric.text(found.figure)}. Following a rule means its first strategy and its first "
        "backbone that the suite has, and there the best config on validation. Differences are to "
        "the best config, by the test of all claims here, with the rules as a family of their own."
    )
    header = ("rule", "said", "in this suite", f"test {metric.axis_label}", "minus the best",
              "interval", "held")  # fmt: skip
    rows = tuple(_rule(each, metric) for each in found.rules)
    terms = (
        (
            "held",
            "yes: the best, or shown to be no more than the margin behind it; no: shown to be "
            "worse; open: neither; not tried: the suite lacks what the rule puts first, and the "
            "figures are of what it puts next",
        ),
    )
    yield Table("advised_rules", header, rows[:MAX_ROWS], (3, 4, 5), terms)
    yield Bullets(tuple((f"{each.rule}: {each.reason}",) for each in found.rules[:MAX_ROWS]))


def _rule(each: Followed, metric: Metric) -> tuple[str, ...]:
    said = ", ".join(each.said) or "nothing"
    lacking = f"not in this suite: {', '.join(each.lacking)}" if each.lacking else ""
    where = "; ".join(part for part in (each.label, lacking) if part)
    if each.label is None:
        return (each.rule, said, where or UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)
    compared = ("the best", UNKNOWN)
    if each.comparison is not None:
        compared = (
            difference(each.comparison.difference, metric),
            difference_interval(each.comparison.interval, metric),
        )
    held = {True: "yes", False: "no", None: "not tried" if each.lacking else "open"}[each.held]
    return (each.rule, said, where, number(each.figure, metric), *compared, held)


def _expected(found: HeldAdvice) -> Iterator[Block]:
    if not found.expectations:
        return
    yield paragraph(
        "What frozen features made expect of a linear probe: the accuracy on training images, one "
        "left out at a time, with its 95 % interval (Wilson), and the test accuracy of the best "
        "linear probe on validation. The interval knows the luck of the training images only:"
    )
    rows = tuple(
        (
            each.backbone,
            SOURCES.get(each.source, each.source),
            ends((each.expected.low, each.expected.high), ACCURACY),
            number(each.reached, ACCURACY),
            "yes" if each.held else ("above" if each.reached > each.expected.high else "below"),
        )
        for each in found.expectations
    )
    header = ("backbone", "told by", "expected (%)", "reached (%)", "held")
    yield Table("advised_accuracies", header, rows[:MAX_ROWS], (2, 3))


def _told(
    name: str, told: Sequence[Told], columns: tuple[str, str], text: str, *, agree: bool
) -> Iterator[Block]:
    if not told:
        return
    rows = tuple(
        (
            each.label,
            f"{each.advised:.3g}",
            f"{each.used:.3g}",
            f"{each.ratio:.2g}",
            *(("yes" if 1 / ALIKE <= each.ratio <= ALIKE else "no",) if agree else ()),
        )
        for each in told
    )
    header = ("config", *columns, "ratio", *(("agree",) if agree else ()))
    yield paragraph(text)
    yield Table(name, header, rows[:MAX_ROWS], (1, 2, 3))
