"""What earlier runs found for the backbone and the strategy of a cell, to be tried first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.errors import BenchError, counted
from bench.results.folder import read_run
from bench.results.grid import complete_trials, value_text
from bench.runs.catalogue import catalogue
from bench.suite import Method, Range, Trial, expand, load_suite
from bench.tuning.cells import Cell, has_entry, own_params
from bench.tuning.studies import First, Ranges, contains


@dataclass(frozen=True, kw_only=True)
class EarlierRun:
    """A run folder: its configs, each with a mean validation figure of which more is better."""

    place: str
    configs: Sequence[tuple[Trial, float]]

    def best_for(self, cell: Cell) -> tuple[Trial, int] | None:
        """The best config of the cell's backbone and strategy, and of how many it is the best.

        Of those with as many training images as the cell has, if there are any.
        """
        own = cell.own[0]
        fitting = [
            (trial, figure)
            for trial, figure in self.configs
            if trial.backbone.identity() == own.backbone.identity()
            and trial.strategy.name == own.strategy.name
        ]
        alike = [each for each in fitting if each[0].settings.shots == own.settings.shots]
        if not fitting:
            return None
        best, _ = max(alike or fitting, key=lambda each: each[1])
        return best, len(alike or fitting)


def read_earlier(place: str) -> EarlierRun:
    """The configs of the run in a folder or at a URL.

    Raises `BenchError`, which says how to mend it, if it is none or its suite cannot be read.
    """
    names = catalogue()
    try:
        run = read_run(place)
        suite = load_suite(run.folder / "suite.yaml", names)
    except BenchError as error:
        raise BenchError(
            f"tune.from must name folders of finished runs: {error}. Relative paths start at the "
            "suite's folder; without tune.from the search starts from nothing"
        ) from None
    trials = {trial.config: trial for trial in expand(suite, names)}
    rows = complete_trials(run.trials).dropna(subset=[run.metric.val])
    figures = rows.groupby("config", sort=False)[run.metric.val].mean()
    return EarlierRun(
        place=place,
        configs=[
            (trials[str(config)], run.metric.sign * float(figure))
            for config, figure in figures.items()
            if str(config) in trials
        ],
    )


def first_values(
    run: EarlierRun, cell: Cell, ranges: Ranges, method: Method
) -> tuple[First | None, str]:
    """The values of the best config there, as far as the cell searches them, and that in words.

    A number beyond a range widens it, if ranges may be widened; other values that the search could
    not come upon are left out. A grid has whole points only.
    """
    found = run.best_for(cell)
    if found is None:
        which = f"{cell.own[0].strategy.name} on {cell.own[0].backbone.label}"
        return None, f"{run.place} has no finished trial of {which}: no effect on {cell.label}"
    trial, configs = found
    known = {name: item for name, item in cell.space.items() if has_entry(trial, item)}
    params = own_params(trial, known)
    fits = {name: _fits(ranges[name], value, method) for name, value in params.items()}
    kept = {name: value for name, value in params.items() if fits[name]}
    lost = _listed({name: value for name, value in params.items() if not fits[name]})
    if not kept or (method.sampler == "grid" and len(kept) < len(cell.space)):
        why = f"{lost or 'what is searched'} cannot be tried in this search"
        return None, f"the best of {run.place} has no effect on {cell.label}: {why}"
    said = (
        f"{cell.label} starts with {_listed(kept)}: best of {counted(configs, 'config')} in "
        f"{run.place}"
    )
    more = f"; left out, as the search has no such value: {lost}" if lost else ""
    return First(params=kept, run=run.place), said + more


def _fits(values: Any, value: Any, method: Method) -> bool:
    if contains(values, value):
        return True
    beyond = isinstance(values, Range) and isinstance(value, int | float)
    return beyond and values.step is None and (value > 0 or not values.log) and method.widen > 0


def _listed(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value_text(value)}" for name, value in params.items())
