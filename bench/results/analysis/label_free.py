"""What label-free validators would choose in a run with target data, beside what labels show.

It is told and nothing more. The best config on the target's test split is an oracle: only somebody
with labels could follow it, and no choice, claim or tuning does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.methods.label_free import VALIDATORS
from bench.results.analysis.choice import ONE_BLOCK, choice_among, compared_trials
from bench.results.analysis.comparison import Comparison, compare_pairs
from bench.results.analysis.scores import folds_of
from bench.results.analysis.verdict import scores_of
from bench.results.folder import Run
from bench.results.folder.columns import LABEL_FREE
from bench.results.grid import Grid

if TYPE_CHECKING:
    import pandas as pd

VALIDATION = "validation"
"""Stands among validators for the source's validation split, by the metric of the run."""

LEAST_CONFIGS = 3
"""A rank correlation of fewer says nothing."""

Values = Mapping[str, float]
"""Config → mean over seeds."""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A validator, or `VALIDATION`: its `merits`, more being better, and the config it chooses.

    `regret` is the oracle against that config, None where both are the same or there is no oracle;
    `correlation` is the weighted Kendall τ of the merits with what the configs reach on the target.
    """

    name: str
    merits: Values
    chosen: str
    regret: Comparison | None
    correlation: float | None


@dataclass(frozen=True, kw_only=True)
class LabelFreeChoices:
    """What all judges say of the configs that share `seeds`, from at most so many `samples`.

    `figures` are those of the target's test split and `oracle` the best config there; None where
    the target is not tested.
    """

    judges: tuple[Judge, ...]
    configs: tuple[str, ...]
    seeds: tuple[int, ...]
    samples: int
    figures: Values | None
    oracle: str | None


def label_free_choices(run: Run, grid: Grid) -> LabelFreeChoices | None:
    """What validators say of a run; None without target data, or of one that does not know it."""
    trials, seeds = _judged_trials(run, grid)
    if trials.empty:
        return None
    metric = grid.metric
    merits = _merits(trials, grid)
    figures = _means(trials, trials[metric.test], grid) if run.data.get("target_tested") else None
    tested = None if figures is None else {c: metric.sign * own for c, own in figures.items()}
    oracle = None if tested is None else _largest(tested)
    chosen = {name: _largest(own) for name, own in merits.items()}
    regrets = _regrets(run, grid, trials, oracle, list(chosen.values()))
    return LabelFreeChoices(
        judges=tuple(
            Judge(
                name=name,
                merits=own,
                chosen=chosen[name],
                regret=regrets.get(chosen[name]),
                correlation=None if tested is None else _correlation(own, tested),
            )
            for name, own in merits.items()
        ),
        configs=tuple(_means(trials, trials[metric.test], grid)),
        seeds=seeds,
        samples=max(json.loads(text)["samples"] for text in trials[LABEL_FREE]),
        figures=figures,
        oracle=oracle,
    )


def _judged_trials(run: Run, grid: Grid) -> tuple[pd.DataFrame, tuple[int, ...]]:
    """Those of a verdict that validators have looked at, of the seeds that all configs have."""
    complete = compared_trials(run.trials, grid)
    if LABEL_FREE not in complete:
        return complete.head(0), ()
    complete = complete[complete[LABEL_FREE].notna()]
    counts = complete.groupby("seed")["config"].nunique()
    seeds = counts.index[counts == complete["config"].nunique()]
    return complete[complete["seed"].isin(seeds)], tuple(sorted(map(int, seeds)))


def _merits(trials: pd.DataFrame, grid: Grid) -> dict[str, Values]:
    """What each judge says of the configs; of validation times the sign of its metric.

    A value that is not known, as predictions were no finite numbers, is lower than all others.
    """
    import pandas as pd

    metric = grid.metric
    found = [json.loads(text)["values"] for text in trials[LABEL_FREE]]
    columns = {VALIDATION: metric.sign * trials[metric.val]}
    for name in VALIDATORS:
        told = [each.get(name, -math.inf) for each in found]
        columns[name] = pd.Series(told, index=trials.index, dtype="float64")
    merits = {name: _means(trials, column, grid) for name, column in columns.items()}
    return {name: own for name, own in merits.items() if any(map(math.isfinite, own.values()))}


def _means(trials: pd.DataFrame, figures: pd.Series[Any], grid: Grid) -> dict[str, float]:
    """Of each config of the trials, in the order of the grid."""
    known = {str(c): own for c, own in figures.groupby(trials["config"]).mean().items()}
    return {config: float(known[config]) for config in grid.cells if config in known}


def _largest(values: Values) -> str:
    """The config with the largest value; of equal ones the first of the grid."""
    known = {config: round(own, 12) for config, own in values.items() if not math.isnan(own)}
    return max(known or values, key=lambda config: known.get(config, -math.inf))


def _correlation(merits: Values, tested: Values) -> float | None:
    from scipy.stats import weightedtau

    if len(tested) < LEAST_CONFIGS:
        return None
    tau = float(weightedtau(list(merits.values()), list(tested.values())).statistic)
    return None if math.isnan(tau) else tau  # where all of one side are the same


def _regrets(
    run: Run, grid: Grid, trials: pd.DataFrame, oracle: str | None, chosen: Sequence[str]
) -> dict[str, Comparison]:
    """The oracle against each other config that is chosen, as one family."""
    others = [config for config in dict.fromkeys(chosen) if config != oracle]
    if oracle is None or not others:
        return {}
    sides = {
        config: {ONE_BLOCK: choice_among(trials[trials["config"] == config], grid)}
        for config in (oracle, *others)
    }
    scores = scores_of(sides, trials, run.judged, grid.metric, folds_of(run))
    pairs = [(oracle, other, scores[oracle], scores[other]) for other in others]
    found = compare_pairs(pairs, higher_is_better=grid.metric.higher_is_better)
    return dict(zip(others, found, strict=True))
