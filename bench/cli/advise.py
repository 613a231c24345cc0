"""`bench advise`: what is known before training, and what each rule makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Unpack

import typer
from rich.markup import escape
from rich.table import Table

import bench
from bench.cli.console import out_console
from bench.cli.options import takes_options
from bench.runs.options import SelectionKeywords
from bench.runs.progress import ConsoleReporter

if TYPE_CHECKING:
    from bench.results.folder import Advice, Range


@takes_options(SelectionKeywords)
def advise(
    what: Annotated[
        str,
        typer.Argument(
            metavar="SUITE|FOLDER", help="A suite file, or a folder as bench init takes it."
        ),
    ],
    **options: Unpack[SelectionKeywords],
) -> None:
    """Tell from the training split what may be worth training, what to expect and what it costs."""
    with ConsoleReporter(out_console) as reporter:
        advice = bench.advise(what, reporter=reporter, **options)
    out_console.print(_expected(advice), highlight=False)
    for shown in (*_texts(advice), *_rules(advice)):
        out_console.print(shown, highlight=False)
    out_console.print(_cells(advice), highlight=False)
    if advice.rule is None:
        out_console.print(
            "No rule is recommended: none is shown to beat simpler advice (always one strategy, "
            "the largest backbone); docs/advice.md has the figures."
        )
    out_console.print(escape(str(advice.path)), highlight=False)


def _expected(advice: Advice) -> Table:
    facts = advice.facts
    title = (
        f"{facts.samples:,} training samples, {facts.classes} classes, "
        f"{facts.majority:.0%} of the largest"
    )
    table = _table(title, "backbone", "nearest neighbour", "a linear probe: expect", "gain")
    for each in facts.backbones:
        ranges, gain = advice.expected.get(each.backbone, {}), facts.gain(each)
        table.add_row(
            escape(each.backbone),
            _range(ranges.get("nearest_neighbour")),
            _range(ranges.get("ridge_probe")),
            "" if gain is None else f"{gain:.2f}",
        )
    return table


def _range(expected: Range | None) -> str:
    return "" if expected is None else f"{expected.low:.1%} to {expected.high:.1%}"


def _texts(advice: Advice) -> Iterator[str]:
    """How long texts are for each backbone that takes some."""
    for start in advice.starts:
        if (own := start.texts) is not None:
            yield (
                f"{escape(start.name)}: {own.median:g} tokens a text (median), {own.longest} at "
                f"most; {own.full:.1%} fill max_length ({own.max_length}), and what is behind it "
                "is not seen"
            )


def _rules(advice: Advice) -> Iterator[str]:
    """What each rule says, best first: its reason stands below it."""
    yield "[italic]What each rule says, best first[/italic]"
    for name, said in advice.rules.items():
        ranked = "; ".join(", ".join(each) for each in (said.strategies, said.backbones) if each)
        yield f"{name}: {escape(ranked) or 'nothing'}"
        yield f"  {escape(said.reason)}"


def _cells(advice: Advice) -> Table:
    from bench.runs.time_estimate import duration

    table = _table("What the suite's cells cost", "backbone", "strategy", "lr", "about")
    for cell in advice.cells:
        cost = "unknown" if cell.seconds is None else duration(cell.seconds)
        table.add_row(escape(cell.backbone), escape(cell.strategy), f"{cell.lr:g}", cost)
    return table


def _table(title: str, *columns: str) -> Table:
    return Table(*columns, title=title, title_justify="left", box=None, pad_edge=False)
