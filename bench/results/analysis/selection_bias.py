"""What would have been claimed by those who choose by the test split, one seed or an untuned rival.

Only for a run with `diagnose: test_curve`, and only to be told: choosing, tuning and claims never
read it. Choosing on what is then reported flatters (Cawley and Talbot, On over-fitting in model
selection and subsequent selection bias in performance evaluation, 2010).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.results.analysis.comparison import Comparison
from bench.results.analysis.label_sizes import at_size
from bench.results.analysis.verdict import Contender, Verdict
from bench.results.folder import Run
from bench.results.grid import Grid, complete_trials

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Flattered:
    """The test figure of a value of the leading axis, as mean over seeds, and what it could be.

    `figure` is of the config and the epoch that validation chooses, `best_epoch` of the same
    trainings at the best epoch on the test split, `best` of the best config and epoch of each seed
    on the test split. `epochs` and `configs` are from how many the last one is the best.
    """

    name: str
    figure: float
    best_epoch: float
    best: float
    epochs: int
    configs: int


@dataclass(frozen=True, kw_only=True)
class OneSeed:
    """Who is ahead on the test split in a single seed, and what all seeds say of the same pair.

    `lead` is that over the next, in the direction of the metric, 0 where both are equal;
    `comparison` is seen from the first of both.
    """

    seed: int
    first: str
    second: str
    lead: float
    comparison: Comparison


@dataclass(frozen=True, kw_only=True)
class Untuned:
    """How far the recommended one would be ahead of a rival with settings that nobody chose.

    `lead` is that over the config that validation chooses; `worst` is the rival's config with the
    worst test figure of its `configs`, `worst_lead` the lead over it.
    """

    name: str
    lead: float
    worst: str
    worst_lead: float
    configs: int


@dataclass(frozen=True, kw_only=True)
class SelectionBias:
    """What a run would have claimed by each of the three; empty where there is nothing to tell."""

    flattered: Sequence[Flattered]
    one_seed: Sequence[OneSeed]
    untuned: Sequence[Untuned]


def selection_bias(run: Run, grid: Grid, verdict: Verdict) -> SelectionBias | None:
    """What choosing otherwise would have claimed; None of a run without test curves."""
    if run.test_curves.empty or not verdict.contenders:
        return None
    trials = _with_best_epochs(run, grid, verdict)
    return SelectionBias(
        flattered=[_flattered(each, trials, grid) for each in verdict.contenders],
        one_seed=list(_one_seed(verdict, trials, grid)),
        untuned=list(_untuned(verdict, trials, grid)),
    )


_BEST = "best_test"
"""The column of the best figure of all epochs on the test split."""


def _with_best_epochs(run: Run, grid: Grid, verdict: Verdict) -> pd.DataFrame:
    """The complete trials of the verdict that have a test curve, by their ids."""
    metric = grid.metric
    by_trial = run.test_curves.groupby("trial")[metric.name]
    best = by_trial.max() if metric.higher_is_better else by_trial.min()
    trials = at_size(complete_trials(run.trials), grid, verdict.size).set_index("trial")
    trials = trials.assign(**{_BEST: best, "scored": run.test_curves.groupby("trial").size()})
    return trials[trials[_BEST].notna() & trials[metric.test].notna()]


def _flattered(contender: Contender, trials: pd.DataFrame, grid: Grid) -> Flattered:
    metric = grid.metric
    chosen = [trial for each in contender.choices.values() for trial in each.all_trials]
    known = trials.loc[[trial for trial in chosen if trial in trials.index]]
    own = _of(contender.name, trials, grid)
    figures = metric.sign * own[_BEST]
    best = metric.sign * figures.groupby(own["seed"]).max().mean()
    return Flattered(
        name=contender.name,
        figure=float(known[metric.test].mean()),
        best_epoch=float(known[_BEST].mean()),
        best=float(best) if len(own) else math.nan,
        epochs=int(own["scored"].max()) if len(own) else 0,
        configs=int(own["config"].nunique()),
    )


def _of(name: str, trials: pd.DataFrame, grid: Grid) -> pd.DataFrame:
    """The trials of a value of the leading axis, with all its configs."""
    lead = trials["config"].map(lambda config: grid.cells[str(config)][grid.lead])
    return trials[lead == name]


def _one_seed(verdict: Verdict, trials: pd.DataFrame, grid: Grid) -> list[OneSeed]:
    metric = grid.metric
    test = trials[metric.test]
    figures: dict[int, dict[str, list[float]]] = {}
    for contender in verdict.contenders:
        for choice in contender.choices.values():
            for seed, own in choice.trials.items():
                known = [float(test[trial]) for trial in own if trial in test.index]
                figures.setdefault(seed, {}).setdefault(contender.name, []).extend(known)
    found = []
    for seed, by_name in sorted(figures.items()):
        means = {name: sum(own) / len(own) for name, own in by_name.items() if own}
        ranked = sorted(means, key=lambda name: -metric.sign * means[name])
        if len(ranked) < 2:
            continue
        first, second = ranked[:2]
        comparison = verdict.against(first).get(second)
        if comparison is not None:
            lead = round(metric.sign * (means[first] - means[second]), 12)
            found.append(
                OneSeed(seed=seed, first=first, second=second, lead=lead, comparison=comparison)
            )
    return found


def _untuned(verdict: Verdict, trials: pd.DataFrame, grid: Grid) -> list[Untuned]:
    metric = grid.metric
    if verdict.recommended is None:
        return []
    ours = verdict.contender(verdict.recommended).figure
    found = []
    for contender in verdict.contenders:
        if contender.name == verdict.recommended:
            continue
        own = _of(contender.name, trials, grid)
        by_config = metric.sign * own.groupby("config")[metric.test].mean()
        if len(by_config) < 2:
            continue
        worst = str(by_config.idxmin())
        found.append(
            Untuned(
                name=contender.name,
                lead=metric.sign * (ours - contender.figure),
                worst=grid.labels[worst],
                worst_lead=metric.sign * ours - float(by_config[worst]),
                configs=len(by_config),
            )
        )
    return found
