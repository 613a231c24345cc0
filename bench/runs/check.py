"""A suite read, checked and expanded, before anything heavy is imported: mistakes are told soon."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from bench.errors import BenchError
from bench.execution import PRELOADED
from bench.runs.catalogue import catalogue
from bench.runs.options import RunOptions
from bench.suite import (
    BUDGETS,
    GridRule,
    LoadedSuite,
    Suite,
    SuiteSource,
    Trial,
    Tune,
    WrittenTrial,
    distinct,
    is_selected,
    load_suite,
    selection,
    written_trials,
)
from bench.system.processes import import_early


@dataclass(frozen=True, kw_only=True)
class CheckedSuite:
    """A suite without mistakes, all its trials, and the rules that select among them."""

    loaded: LoadedSuite
    written: tuple[WrittenTrial, ...]
    trials: tuple[Trial, ...]
    selected: tuple[GridRule, ...]


EXAMPLE = "tune: {space: {lr: {low: 1e-4, high: 1e-1, log: true}}, trials: 20}"


def tune_section(suite: Suite, trials: int | None) -> Tune:
    """What the suite's search is, with a budget of `trials` where that is given."""
    if suite.tune is None:
        raise BenchError(f"suite {suite.name!r} has no section 'tune'; give it one like {EXAMPLE}")
    if trials is None:
        return suite.tune
    if trials < 1:
        raise BenchError(f"--trials must be at least 1, got {trials}")
    budget = {**dict.fromkeys(BUDGETS), "trials": trials}
    method = suite.tune.method.model_copy(update=budget)
    return suite.tune.model_copy(update={"method": method})


def check_suite(suite: SuiteSource | CheckedSuite, options: RunOptions) -> CheckedSuite:
    """The suite with the overrides and selection of `options`; what is checked stays as it is.

    Raises `SuiteError` with every mistake. Imports no torch.
    """
    if isinstance(suite, CheckedSuite):
        return suite
    names = catalogue()
    selected = selection(options.only, names)
    loaded = load_suite(suite, names, options.suite_overrides)
    written = written_trials(loaded, names)
    return CheckedSuite(
        loaded=loaded,
        written=tuple(written),
        trials=tuple(distinct(written)),
        selected=selected,
    )


def import_for(checked: CheckedSuite, options: RunOptions) -> None:
    """Where processes of this machine will train, let them begin to import what they need.

    That helps while this process imports the same, which it does once. Of a single trial, which
    this process trains itself, it would take a core and memory for nothing.
    """
    several = options.workers != 1 and not _trains_alone(checked)
    by_processes = options.executor == "processes" or (options.executor == "auto" and several)
    if by_processes and options.device in ("auto", "cpu") and "torch" not in sys.modules:
        import_early(*PRELOADED)


def _trains_alone(checked: CheckedSuite) -> bool:
    """Whether there is one trial, and neither a limit nor a search nor a device asks for more."""
    suite, rules = checked.loaded.suite, checked.selected
    trials = [trial for trial in checked.trials if is_selected(trial, rules)]
    more = suite.resources.limited or suite.tune is not None
    return not more and len(trials) == 1 and trials[0].settings.devices == 1
