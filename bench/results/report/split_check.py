"""The report's section "What a random split would have said"."""

from __future__ import annotations

from collections.abc import Iterator

from bench.results.analysis.intervals import Estimate
from bench.results.analysis.split_check import penalties
from bench.results.folder import Run
from bench.results.folder.split_check import FOLDER, read_split_check
from bench.results.metric import Metric
from bench.results.report.blocks import Block, Heading, Table, paragraph
from bench.results.report.wording import difference, difference_interval, ends, number


def split_check_section(run: Run) -> Iterator[Block]:
    """The blocks of a run with `split_check`; of others nothing."""
    check = read_split_check(run)
    if check is None:
        return
    found = penalties(run, check)
    if not found:
        return
    metric = run.metric
    yield Heading("What a random split would have said", 3)
    yield paragraph(
        "The same configs, seeds and fractions, trained once more under a random split that puts "
        f"images of a group on both sides (split_check; the run folder {FOLDER} has all of it). "
        f"Flattered: by how much {metric.label} looks better so than on new groups. Nothing above "
        "was chosen or claimed by it."
    )
    yield Table(
        "split_check",
        ("config", "seeds", "new groups", "95 %", "random split", "95 %", "flattered", "95 %"),
        tuple(
            (
                each.label,
                str(len(each.seeds)),
                *_figure(each.whole, metric),
                *_figure(each.random, metric),
                difference(each.flattered.value, metric),
                difference_interval(each.flattered.interval, metric),
            )
            for each in found
        ),
        tuple(range(1, 8)),
        terms=(
            ("new groups", "the test split of this run: no group of it trains"),
            (
                "flattered",
                "its interval joins those of both figures, which have test images and trainings "
                "of their own",
            ),
        ),
    )


def _figure(figure: Estimate, metric: Metric) -> tuple[str, str]:
    return number(figure.value, metric), ends(figure.interval, metric)
