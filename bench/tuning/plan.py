"""`bench plan`: what a run would do, and what a search for settings would."""

from __future__ import annotations

from dataclasses import replace
from typing import Unpack

from bench.execution.executors import Where
from bench.runs.check import CheckedSuite
from bench.runs.options import RunKeywords, RunOptions
from bench.runs.plan import RunPlan, plan_run, trials_of
from bench.runs.reporter import Reporter, SilentReporter
from bench.runs.resolve import resolve_run
from bench.suite.plugins import plugin_errors_told
from bench.tuning.cells import search_in_words


@plugin_errors_told()
def plan(
    checked: CheckedSuite, *, reporter: Reporter | None = None, **options: Unpack[RunKeywords]
) -> RunPlan:
    """What `run` with the same options would do; raises as it does."""
    reporter = reporter or SilentReporter()
    given = RunOptions(**options)
    where = Where(name=given.executor, workers=given.workers, address=given.address)
    resolved = resolve_run(checked, progress=reporter.progress, **options)
    planned = plan_run(resolved, given, where, reporter)
    tune = resolved.loaded.suite.tune
    if tune is None:
        return planned
    return replace(planned, search=search_in_words(trials_of(resolved), tune))
