"""The report's section "After training": what finished trials were made into."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.results.analysis.children import ANY_MEMBER, Family, families
from bench.results.analysis.verdict import Verdict
from bench.results.folder import Run
from bench.results.grid import UNKNOWN, Grid
from bench.results.metric import Metric
from bench.results.report.blocks import Block, Bullets, Heading, Table, paragraph
from bench.results.report.wording import (
    difference,
    difference_interval,
    ends,
    number,
    or_unknown,
    verdict_word,
)

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS = 100
JUDGED_BEFORE_AND_AFTER = ("log_loss", "ece")


def children_section(run: Run, grid: Grid, verdict: Verdict) -> Iterator[Block]:
    """The blocks below "After training"; nothing of a run without children."""
    if run.children.empty:
        return
    metric = run.metric
    found = families(run, grid, verdict)
    made = [family for family in found if family.members]
    yield Heading("After training", 3)
    yield paragraph(
        "Made from finished trials without further training; validation alone chose everything. "
        f"The table shows test {metric.label} and the difference to what each is made from (for "
        "ensembles: to what is recommended). The test is that of seeds × images, with all rows as "
        "one family. A row that joins seeds has no seeds of its own, so its claim holds for these "
        "trained models only."
    )
    if made:
        yield _table(made[:MAX_ROWS], metric)
    if any(family.base == ANY_MEMBER for family in made):
        yield paragraph(
            "No validation split says which member is best: a vote is compared with the middle one "
            "of its learning rates, a soup with its first trial."
        )
    if len(made) > MAX_ROWS:
        yield paragraph(f"children.parquet has {len(made) - MAX_ROWS} more.")
    yield from _calibration(run)
    reasons = [family for family in found if family.reason is not None]
    if reasons:
        yield paragraph("What could not be made:")
        yield Bullets(tuple((f"{each.label}: {each.reason}",) for each in reasons[:MAX_ROWS]))


def _table(made: Sequence[Family], metric: Metric) -> Table:
    header = ("made", "of", "seeds", metric.axis_label, "95 %", "minus", "difference", "interval",
              "verdict", "passes", "chosen")  # fmt: skip
    return Table(
        "children",
        header,
        tuple(_row(family, metric) for family in made),
        (2, 3, 4, 6, 7, 9),
        terms=(
            ("minus", "what it is compared with"),
            ("passes", "through a network, to predict one image: 1 for a single trial"),
            ("chosen", "by validation; for several seeds, the smallest to the largest"),
        ),
    )


def _row(family: Family, metric: Metric) -> tuple[str, ...]:
    compared: tuple[str, ...] = ("", UNKNOWN, UNKNOWN, "")
    if family.comparison is not None:
        compared = (
            family.base,
            difference(family.comparison.difference, metric),
            difference_interval(family.comparison.interval, metric),
            verdict_word(family.comparison),
        )
    return (
        family.name,
        family.of,
        str(len(family.seeds)) if family.seeds else "joined",
        number(family.figure, metric),
        ends(family.interval, metric),
        *compared,
        or_unknown(family.passes, "{:.3g}"),
        _chosen(family),
    )


_LETTERS = {"temperature": "T", "alpha": "α"}


def _chosen(family: Family) -> str:
    texts = [
        f"{_LETTERS.get(name, name)} = {_range(values, '{:.3g}')}"
        for name, values in family.chosen.items()
    ]
    if max(family.members) > 1:
        texts.append(f"{_range(family.members, '{:.0f}')} members")
    return ", ".join(texts)


def _range(values: Sequence[float], form: str) -> str:
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low}–{high}"


def _calibration(run: Run) -> Iterator[Block]:
    """Log loss and calibration error on the test split before and after a temperature."""
    children = run.children
    tempered = children[
        (children["status"] == "complete")
        & children["chosen"].fillna("").str.contains('"temperature"')
    ]
    if tempered.empty:
        return
    trials = run.trials.set_index("trial")
    by_name = {metric.name: metric for metric in run.metrics}
    shown = [by_name[name] for name in JUDGED_BEFORE_AND_AFTER if name in by_name]
    if not shown:
        return
    rows = [
        (str(of), *(cell for metric in shown for cell in _before_and_after(own, trials, metric)))
        for of, own in tempered.groupby("of", sort=False)
    ]
    names = [(f"{metric.axis_label} before", "after") for metric in shown]
    header = ("config", *(name for pair in names for name in pair))
    yield paragraph("Calibration on the test split, with a temperature (means of seeds):")
    yield Table("temperatures", header, tuple(rows[:MAX_ROWS]), tuple(range(1, len(header))))


def _before_and_after(own: pd.DataFrame, trials: pd.DataFrame, metric: Metric) -> Iterator[str]:
    known = own[own["base"].isin(trials.index)]
    yield number(float(trials.loc[list(known["base"]), metric.test].astype(float).mean()), metric)
    yield number(float(known[metric.test].astype(float).mean()), metric)
