"""`bench compare`: later runs against a first one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.results.analysis import Change, RunComparison, compare_runs
from bench.results.folder import Run, read_run
from bench.results.grid import complete_trials, has_folds, over_folds
from bench.results.report.blocks import Block, Heading, Table, paragraph
from bench.results.report.notebook import html
from bench.results.report.wording import point_interval, points

COLUMNS = ("config", "seeds", "before %", "after %", "change", "95 %", "p", "")


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
                rows = tuple(map(_row, comparison.changes))
                yield Table("changes", COLUMNS, rows, tuple(range(1, 7)))
            else:
                yield paragraph("The runs have no config with a common seed.")
            for what in ("environment", "suite"):
                differences = getattr(comparison, what)
                if differences:
                    cells = tuple((d.name, d.before, d.after) for d in differences)
                    yield Table(what, (f"{what} differs in", "before", "after"), cells)


def compare(before: str | Path, others: Sequence[str | Path]) -> Changes:
    """Compare the run folders; raises `BenchError` if one of them is no run or damaged."""
    first = _by_seed(read_run(before))
    return Changes(
        before=str(before),
        after=tuple(map(str, others)),
        comparisons=tuple(compare_runs(first, _by_seed(read_run(other))) for other in others),
    )


def _by_seed(run: Run) -> Run:
    """The run with a row for each seed of a config: runs are compared by seeds, not by folds."""
    if not has_folds(run.trials):
        return run
    return replace(run, trials=over_folds(complete_trials(run.trials)))


def _row(change: Change) -> tuple[str, ...]:
    return (
        change.label,
        str(len(change.seeds)),
        f"{100 * change.before:.2f}",
        f"{100 * change.after:.2f}",
        points(change.after - change.before),
        point_interval(change.interval),
        f"{change.corrected:.2g}",
        change.judgement,
    )
