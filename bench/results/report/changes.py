"""`bench compare`: later runs against a first one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.results.analysis import Change, RunComparison, compare_runs
from bench.results.folder import read_run
from bench.results.metric import Metric
from bench.results.report.blocks import Block, Heading, Table, paragraph
from bench.results.report.notebook import html
from bench.results.report.wording import difference, difference_interval, number


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Each of the runs `after` against the run `before`; a notebook shows them."""

    before: str
    after: tuple[str, ...]
    comparisons: tuple[RunComparison, ...]

    @property
    def regressions(self) -> tuple[Change, ...]:
        """The configs that got worse by more than chance, of all comparisons."""
        return tuple(change for each in self.comparisons for change in each.regressions)

    def _repr_html_(self) -> str:
        return html(self._blocks())

    def _blocks(self) -> Iterator[Block]:
        for after, comparison in zip(self.after, self.comparisons, strict=True):
            yield Heading(f"{self.before} → {after}", 3)
            if comparison.changes:
                metric = comparison.metric
                rows = tuple(_row(change, metric) for change in comparison.changes)
                unit = " %" if metric.percent else ""
                header = ("config", "seeds", f"before{unit}", f"after{unit}", "change", "95 %")
                yield paragraph(f"Test {metric.label}, paired by seed.")
                yield Table("changes", (*header, "p", ""), rows, tuple(range(1, 7)))
            else:
                yield paragraph("The runs have no config with a common seed.")
            for what in ("environment", "suite"):
                differences = getattr(comparison, what)
                if differences:
                    cells = tuple((d.name, d.before, d.after) for d in differences)
                    yield Table(what, (f"{what} differs in", "before", "after"), cells)


def compare(before: str | Path, others: Sequence[str | Path]) -> Changes:
    """Compare the run folders; raises `BenchError` if one of them is no run or damaged."""
    first = read_run(before)
    return Changes(
        before=str(before),
        after=tuple(map(str, others)),
        comparisons=tuple(compare_runs(first, read_run(other)) for other in others),
    )


def _row(change: Change, metric: Metric) -> tuple[str, ...]:
    return (
        change.label,
        str(len(change.seeds)),
        number(change.before, metric),
        number(change.after, metric),
        difference(change.after - change.before, metric),
        difference_interval(change.interval, metric),
        f"{change.corrected:.2g}",
        change.judgement,
    )
