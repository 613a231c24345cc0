"""The report in the terminal: rich tables and sparklines. What comes from files is escaped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from bench.errors import counted
from bench.results.analysis import Audited, LrCell, RunComparison, sample_of
from bench.results.analysis.intervals import UNKNOWN as UNKNOWN_INTERVAL
from bench.results.folder import Run
from bench.results.grid import UNKNOWN, complete_trials, is_missing, read_grid, value_text
from bench.results.metric import Metric
from bench.results.report.audit import SHOWN, sentences
from bench.results.report.audit import table as suspect_table
from bench.results.report.changes import about, config_text, left_out, verdict_text
from bench.results.report.evidence import Findings
from bench.results.report.markup import code_lines
from bench.results.report.reasons import why

BARS = "▁▂▃▄▅▆▇█"
MAX_EPOCHS = 60
COLOURS = {"better": "green", "worse": "red"}


def sparkline(values: Sequence[float], *, low: float, high: float) -> str:
    """The values as bars between `low` and `high`; of more than `MAX_EPOCHS`, every n-th."""
    every = -(-len(values) // MAX_EPOCHS)
    shown = list(values)[:: max(1, every)]
    width = (high - low) or 1.0
    return "".join(
        " " if not math.isfinite(v) else BARS[min(7, max(0, int(8 * (v - low) / width)))]
        for v in shown
    )


def show_verdict(run: Run) -> Iterator[RenderableType]:
    """The verdict, a line each."""
    for line in Findings(run=run).lines:
        yield f"[bold]{_plain(line.about)}:[/] {_plain(line.text)}"


def show_run(run: Run) -> Iterator[RenderableType]:
    """The answer and the ranking, with the mean validation accuracy of each config by epoch."""
    found = Findings(run=run)
    if run.going is None:
        yield from show_verdict(run)
    else:
        # A verdict on the way would be one more look at the results, which the last one pays for.
        ended = f"{len(run.trials)} of {counted(run.num_trials, 'trial')} have ended"
        text = f"still going ({run.going}): {ended}; the verdict comes when it is done"
        yield f"[yellow]{_plain(text)}[/]"
    results = found.results
    complete = complete_trials(run.trials)
    val = run.curves[run.curves["split"] == "val"].merge(complete[["trial", "config"]], on="trial")
    metric = run.metric
    means = val.groupby(["config", "epoch"])[metric.name].mean()
    known = means[means.notna()]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    test = "test %" if metric.is_accuracy else _plain(f"test {metric.axis_label}")
    table = Table("", "config", test, "95 %", "seeds", "s", "val by epoch", box=None)
    for column in (0, 2, 3, 4, 5):
        table.columns[column].justify = "right"
    for result in results:
        own = complete.loc[complete["config"] == result.config, metric.test]
        sample = sample_of(own)
        curve = means[result.config].tolist() if result.config in means.index else []
        interval = sample.interval
        table.add_row(
            UNKNOWN if result.rank is None else str(result.rank),
            _plain(result.label),
            UNKNOWN if not sample.n else metric.number(sample.mean),
            UNKNOWN if is_missing(interval[0]) else "–".join(map(metric.number, interval)),
            str(sample.n),
            f"{result.train_seconds.mean:.1f}" if result.train_seconds.n else UNKNOWN,
            sparkline(curve, low=low, high=high),
        )
    if results:
        yield table
        ends = (
            f"{100 * low:.0f} to {100 * high:.0f} %"
            if metric.percent
            else (f"{metric.number(low)} to {metric.number(high)}")
        )
        yield f"[dim]bars: {ends} validation {_plain(metric.label)}[/]"
    rest_of = run.trials[run.trials["status"] != "complete"]["status"].value_counts()
    for status, count in rest_of.items():
        yield f"[yellow]{count} {_plain(status)}[/]"


def show_trial(run: Run, trial: Mapping[str, Any]) -> Iterator[RenderableType]:
    """One trial: what it is, what it reached, its curves, and why."""
    label = read_grid(run.trials).trial_label(trial)
    yield f"[bold]{_plain(label)}[/]  {_plain(trial['status'])}"
    yield from (_plain(sentence) for sentence in why(run, trial))
    facts = Table(box=None, show_header=False)
    for name, value in trial.items():
        if not is_missing(value) and name not in ("error", "status"):
            facts.add_row(_plain(name), _plain(value_text(value)))
    yield facts
    own = run.curves[run.curves["trial"] == trial["trial"]].sort_values("epoch")
    curves = Table("curve", "first", "last", "", box=None)
    followed = ("accuracy", "loss") if run.metric.of_classes else ("loss",)
    for (split, metric), values in (
        ((split, metric), rows[metric].tolist())
        for split, rows in own.groupby("split")
        for metric in dict.fromkeys((run.metric.name, *followed))
        if metric in followed or rows[metric].notna().any()
    ):
        finite = [value for value in values if math.isfinite(value)] or [0.0]
        line = sparkline(values, low=min(finite), high=max(finite))
        curves.add_row(f"{_plain(split)} {metric}", f"{values[0]:.4g}", f"{values[-1]:.4g}", line)
    if curves.row_count:
        yield curves


def show_comparison(comparison: RunComparison) -> Iterator[RenderableType]:
    """What changed between two runs, and what differs around them."""
    metric = comparison.metric
    unit = " %" if metric.percent else ""
    header = ("config", "seeds", f"before{unit}", f"after{unit}", "change", "interval", "p")
    table = Table(*header, "verdict", box=None)
    table.columns[0].overflow = "fold"
    for column in range(1, 7):
        table.columns[column].justify = "right"
    for change in comparison.changes:
        own = change.comparison
        low, high = UNKNOWN_INTERVAL if own is None else own.interval
        colour = COLOURS.get(change.judgement, "dim")
        table.add_row(
            _plain(config_text(change)),
            str(len(change.seeds)),
            _figure(change.before, metric),
            _figure(change.after, metric),
            _figure(change.after - change.before, metric, "+"),
            UNKNOWN
            if is_missing(low)
            else f"{_figure(low, metric, '+')} to {_figure(high, metric, '+')}",
            UNKNOWN if own is None else f"{own.corrected:.2g}",
            f"[{colour}]{_plain(verdict_text(change))}[/]",
        )
    if comparison.changes:
        yield table
    yield f"[dim]{_plain(' '.join(about(comparison)))}[/]"
    yield from map(_plain, left_out(comparison))
    for name, differences in (
        ("environment", comparison.environment),
        ("suite", comparison.suite),
    ):
        if differences:
            around = Table(f"{name} differs in", "before", "after", box=None)
            for difference in differences:
                around.add_row(*map(_plain, (difference.name, difference.before, difference.after)))
            yield around


def show_lr_ranges(cells: Sequence[LrCell]) -> Table:
    """What the LR range test of each cell suggests, beside the learning rates of the suite."""
    table = Table("cell", "steepest", "valley", "suite", "", box=None, pad_edge=False)
    for column in (1, 2, 3):
        table.columns[column].justify = "right"
    for cell in cells:
        note = ""
        if cell.valley is None:
            note = "[yellow]no fall above the scatter of the loss: try more --steps[/]"
        elif cell.is_far:
            note = f"[yellow]{cell.distance_text} the valley[/]"
        table.add_row(
            _plain(cell.label),
            *(UNKNOWN if lr is None else f"{lr:.2g}" for lr in (cell.steepest, cell.valley)),
            " to ".join(f"{lr:g}" for lr in sorted(set(cell.suite_lrs))),
            note,
        )
    return table


def show_audit(found: Audited) -> Iterator[RenderableType]:
    """What is likely wrong with the data: the worst suspects, and what was found in words."""
    shown = suspect_table(found.suspects[:SHOWN], found.words)
    table = Table(*shown.header, box=None, pad_edge=False)
    table.columns[0].overflow = "fold"
    for column in shown.numbers:
        table.columns[column].justify = "right"
    for row in shown.rows:
        table.add_row(*map(_plain, row))
    if shown.rows:
        yield table
    if len(found.suspects) > SHOWN:
        yield f"[dim]and {len(found.suspects) - SHOWN:,} more in the table[/]"
    yield from map(_plain, sentences(found))


def _figure(value: float, metric: Metric, sign: str = "") -> str:
    """With a digit more than elsewhere: two runs of the same configs differ by little."""
    return UNKNOWN if is_missing(value) else metric.number(value, sign=sign, more=1)


def _plain(value: Any) -> str:
    """Text of one line without terminal codes or markup."""
    return escape(" ".join(code_lines(str(value))))
