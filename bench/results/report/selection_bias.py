"""The report's section "What choosing otherwise would have claimed"."""

from __future__ import annotations

from collections.abc import Iterator

from bench.errors import counted
from bench.results.analysis.selection_bias import (
    Flattered,
    OneSeed,
    SelectionBias,
    Untuned,
    selection_bias,
)
from bench.results.analysis.verdict import Verdict
from bench.results.folder import Run
from bench.results.grid import Grid
from bench.results.metric import Metric
from bench.results.report.blocks import Block, Heading, Table, paragraph
from bench.results.report.wording import difference, number, verdict_word

MAX_ROWS = 100


def selection_bias_section(run: Run, grid: Grid, verdict: Verdict) -> Iterator[Block]:
    """The blocks of a run with `diagnose: test_curve`; of others nothing."""
    found = selection_bias(run, grid, verdict)
    if found is None:
        return
    metric = run.metric
    points = ", differences in points" if metric.percent else ""
    yield Heading("What choosing otherwise would have claimed", 3)
    yield paragraph(
        "The suite asked for the test split's figures of every epoch (diagnose: test_curve). They "
        "show what usual shortcuts would have made of the same trainings, and nothing above was "
        f"chosen or judged by them. Test {metric.label}, means over seeds{points}."
    )
    yield from _by_the_test_split(found, verdict.axis, metric)
    if found.one_seed:
        yield from _by_one_seed(found, metric)
    if found.untuned:
        yield from _against_untuned(found, verdict, metric)


def _by_the_test_split(found: SelectionBias, axis: str, metric: Metric) -> Iterator[Block]:
    shown = found.flattered
    by_test = max(shown, key=lambda each: metric.sign * each.best)
    added = metric.points(difference(by_test.best - by_test.figure, metric))
    most = counted(by_test.epochs, "epoch")
    configs = "" if by_test.configs == 1 else f" and {counted(by_test.configs, 'config')}"
    yield paragraph(
        f"By the test split itself, {by_test.name} would have been reported as the best, with "
        f"{metric.text(by_test.best)}: {added} by choosing among {most}{configs} on the images "
        "that are then reported."
    )
    yield Table(
        "selection_by_test",
        (axis, "as chosen", "best epoch", "adds", "best of all", "adds in all", "configs"),
        tuple(_flattered(each, metric) for each in shown[:MAX_ROWS]),
        tuple(range(1, 7)),
        terms=(
            ("as chosen", "config and epoch chosen by validation"),
            ("best epoch", "the same trainings at their best epoch on the test split"),
            ("best of all", "in each seed the best config and epoch on the test split"),
        ),
    )


def _flattered(each: Flattered, metric: Metric) -> tuple[str, ...]:
    return (
        each.name,
        number(each.figure, metric),
        number(each.best_epoch, metric),
        difference(each.best_epoch - each.figure, metric),
        number(each.best, metric),
        difference(each.best - each.figure, metric),
        str(each.configs),
    )


def _by_one_seed(found: SelectionBias, metric: Metric) -> Iterator[Block]:
    leaders = {each.first for each in found.one_seed if each.lead}
    yield paragraph(
        "By one seed, whoever is ahead in it would have been reported as the best: in "
        f"{counted(len(found.one_seed), 'seed')} {counted(len(leaders), 'different one')}."
    )
    yield Table(
        "selection_by_one_seed",
        ("seed", "ahead", "of", "by", "all seeds and images say"),
        tuple(_one_seed(each, metric) for each in found.one_seed[:MAX_ROWS]),
        (0, 3),
    )


def _one_seed(each: OneSeed, metric: Metric) -> tuple[str, ...]:
    return (
        str(each.seed),
        each.first if each.lead else "equal",
        each.second if each.lead else f"{each.first}, {each.second}",
        difference(each.lead, metric),
        verdict_word(each.comparison),
    )


def _against_untuned(found: SelectionBias, verdict: Verdict, metric: Metric) -> Iterator[Block]:
    yield paragraph(
        f"Against rivals whose settings nobody chose, {verdict.recommended} would be ahead by up "
        "to:"
    )
    yield Table(
        "selection_by_untuned_rival",
        ("rival", "ahead of it as chosen", "of its worst config", "worst config", "configs"),
        tuple(_untuned(each, metric) for each in found.untuned[:MAX_ROWS]),
        (1, 2, 4),
    )


def _untuned(each: Untuned, metric: Metric) -> tuple[str, ...]:
    return (
        each.name,
        difference(each.lead, metric),
        difference(each.worst_lead, metric),
        each.worst,
        str(each.configs),
    )
