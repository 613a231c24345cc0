"""`bench lr-find`: the LR range test of every cell of a suite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from bench.data import open_data
from bench.errors import BenchError
from bench.execution.engine import make_training
from bench.execution.jobs import Job, trial_splits
from bench.results.analysis import LrCell, lr_cells
from bench.results.folder import read_lr_ranges, refuse_links, write_lr_ranges
from bench.results.folder.columns import CELL_COLUMNS
from bench.results.plots import why_undrawn, write_lr_range_panels
from bench.results.report.blocks import paragraph
from bench.results.report.notebook import html, lr_range_blocks
from bench.runs.check import CheckedSuite
from bench.runs.options import SelectionKeywords
from bench.runs.reporter import Reporter, SilentReporter
from bench.runs.resolve import ResolvedRun, ResolvedTrial, resolve_run
from bench.runs.run import trial_row
from bench.runs.tasks import ready_jobs
from bench.suite import Entry, cell_labels
from bench.suite.plugins import plugin_errors_told
from bench.system.cache import cache_root
from bench.system.machine import keep_large_buffers
from bench.training.frozen_features import FeatureStore
from bench.training.lr_range import LrRange, check_range, lr_range_test


@dataclass(frozen=True, kw_only=True)
class CellRange:
    """The test of one cell: a config with its learning rate left out.

    `resolved` is its first trial, with the seed that was tested; `suite_lrs` are the learning rates
    that the suite gives it. Where there is no `range`, `reason` says why; `failed` tells what went
    wrong from what cannot be tested.
    """

    resolved: ResolvedTrial
    suite_lrs: tuple[float, ...]
    range: LrRange | None = None
    reason: str | None = None
    failed: bool = False


@dataclass(frozen=True, kw_only=True)
class UntestedCell:
    """A cell without a test and the reason; `failed` tells errors from what cannot be tested."""

    label: str
    reason: str
    failed: bool


@dataclass(frozen=True, kw_only=True)
class LrFindings:
    """What the LR range test found; a notebook shows it. `plot` is its figure, if there is any."""

    folder: Path
    cells: tuple[LrCell, ...]
    untested: tuple[UntestedCell, ...]
    plot: Path | None

    @property
    def failed(self) -> bool:
        """Whether the test of a cell has ended with an error."""
        return any(cell.failed for cell in self.untested)

    def _repr_html_(self) -> str:
        untested = (
            paragraph(f"{'failed' if cell.failed else 'left out'}: {cell.label}: {cell.reason}")
            for cell in self.untested
        )
        return html([*lr_range_blocks(self.cells, self.plot), *untested], folder=self.folder)


@plugin_errors_told()
def lr_find(
    checked: CheckedSuite,
    *,
    low: float,
    high: float,
    steps: int,
    reporter: Reporter | None = None,
    **options: Unpack[SelectionKeywords],
) -> LrFindings:
    """Test every cell, and keep table and figure in the run folder.

    Raises `BenchError` as `resolve_run` and `find_lrs` do.
    """
    reporter = reporter or SilentReporter()
    resolved = resolve_run(checked, progress=reporter.progress, **options)
    refuse_links(resolved.folder)
    found = find_lrs(resolved, low=low, high=high, steps=steps, reporter=reporter)
    write_lr_ranges(resolved.folder, step_rows(resolved, found))
    tested = lr_cells(read_lr_ranges(resolved.folder))
    plot = None
    try:
        plot = write_lr_range_panels(tested, resolved.folder / "plots")
    except Exception as error:
        reporter.note(f"plots/lr_find.png could not be drawn ({why_undrawn(error)})")
    if resolved.remote is not None:
        resolved.remote.push()
    return LrFindings(
        folder=resolved.folder,
        cells=tuple(tested),
        untested=tuple(
            UntestedCell(label=label, reason=cell.reason, failed=cell.failed)
            for label, cell in zip(_labels(found), found, strict=True)
            if cell.reason is not None
        ),
        plot=plot,
    )


def find_lrs(
    resolved_run: ResolvedRun,
    *,
    low: float,
    high: float,
    steps: int,
    reporter: Reporter | None = None,
) -> list[CellRange]:
    """Test every cell that the plan does not skip, with the cell's first seed, in this process.

    Weights are fetched or made first. Cells that differ in their schedule or in later stages alone
    have the same test, which is run once. An error ends its cells only. Raises `BenchError` for an
    impossible range.
    """
    check_range(low=low, high=high, steps=steps)
    keep_large_buffers()
    reporter = reporter or SilentReporter()
    cells = _cells(resolved_run)
    tested = tuple(_tested(cell.resolved) for cell in cells if cell.resolved.plan.stages)
    jobs = iter(ready_jobs(replace(resolved_run, trials=tested), reporter))
    tests: dict[str, LrRange | BenchError] = {}
    found = []
    for done, cell in enumerate(cells):
        _tell(reporter, done, len(cells))
        if not cell.resolved.plan.stages:
            found.append(replace(cell, reason="it trains nothing"))
            continue
        result: Job | LrRange | BenchError = next(jobs)
        if isinstance(result, Job):
            (_, test) = result.keys
            if test not in tests:
                tests[test] = _range_or_error(result, low=low, high=high, steps=steps)
            result = tests[test]
        found.append(_with_result(cell, result))
    _tell(reporter, len(cells), len(cells))
    return found


def range_of(job: Job, *, low: float, high: float, steps: int) -> LrRange:
    """The LR range test of a job that has its keys, its data and its weights, in this process.

    What a frozen trunk makes of the samples is shared with trials, by the cache. Raises as
    `lr_range_test` does.
    """
    assert job.trunk_key, "the job needs its keys"
    data = open_data(job.data)
    splits = trial_splits(job.trial, data)
    training = make_training(job, data, splits, features=FeatureStore(cache_root()))
    return lr_range_test(training, low=low, high=high, steps=steps)


def step_rows(resolved_run: ResolvedRun, cells: Sequence[CellRange]) -> Iterator[dict[str, Any]]:
    """The rows of `lr_find.parquet`: one for every step of every cell that was tested."""
    for label, cell in zip(_labels(cells), cells, strict=True):
        if cell.range is None:
            continue
        row = trial_row(resolved_run, cell.resolved)
        fixed = {
            **{name: row[name] for name in CELL_COLUMNS},
            "cell": label,
            "suite_lr_low": min(cell.suite_lrs),
            "suite_lr_high": max(cell.suite_lrs),
            "steepest": cell.range.steepest,
            "valley": cell.range.valley,
        }
        for step, (lr, loss, mean) in enumerate(
            zip(cell.range.lrs, cell.range.losses, cell.range.smoothed, strict=True), start=1
        ):
            yield {**fixed, "step": step, "lr": lr, "loss": loss, "smoothed": mean}


def _cells(resolved_run: ResolvedRun) -> list[CellRange]:
    """The cells of the plan without results, in the order of the grid."""
    cells: dict[str, list[ResolvedTrial]] = {}
    for resolved in resolved_run.trials:
        if resolved.skip_reason is None:
            key = resolved.trial.with_settings(lr=1.0).config
            cells.setdefault(key, []).append(resolved)
    return [
        CellRange(
            resolved=trials[0],
            suite_lrs=tuple(sorted({resolved.trial.settings.lr for resolved in trials})),
        )
        for trials in cells.values()
    ]


def _labels(cells: Sequence[CellRange]) -> list[str]:
    """What each cell is called; its learning rates are no part of it."""
    trials = [cell.resolved.trial.with_settings(lr=1.0) for cell in cells]
    labels = cell_labels(trials)
    return [labels[trial.config] for trial in trials]


def _tested(resolved: ResolvedTrial) -> ResolvedTrial:
    """The trial with nothing that its test does not look at, so that equal tests have equal keys.

    Of its two epoch keys, the second then names the test.
    """
    (first, *_) = resolved.plan.stages
    trial = resolved.trial.with_settings(lr=1.0, epochs=1)
    return replace(
        resolved,
        trial=trial.model_copy(update={"schedule": Entry(name="constant")}),
        plan=replace(resolved.plan, stages=(replace(first, epochs=1),)),
        reuse=False,
    )


def _tell(reporter: Reporter, done: int, total: int) -> None:
    if reporter.progress is not None:
        reporter.progress("testing learning rates", done, total)


def _range_or_error(job: Job, *, low: float, high: float, steps: int) -> LrRange | BenchError:
    try:
        return range_of(job, low=low, high=high, steps=steps)
    except BenchError as error:
        return error
    except RuntimeError as error:  # torch's own, such as too little memory
        return BenchError(f"{type(error).__name__}: {error}")


def _with_result(cell: CellRange, result: LrRange | BenchError) -> CellRange:
    if isinstance(result, LrRange):
        return replace(cell, range=result)
    return replace(cell, reason=str(result), failed=True)
