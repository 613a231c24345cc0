"""What was made of finished trials without training, against what it was made of."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.results.analysis.choice import Choice, preferred
from bench.results.analysis.comparison import ALPHA, Comparison, Pair, compare_pairs
from bench.results.analysis.crossed import LEAST_SEEDS, half_widths, joined
from bench.results.analysis.intervals import UNKNOWN, Interval
from bench.results.analysis.scores import Scores, TrialScores, trial_scores
from bench.results.analysis.verdict import Verdict, around, figure_table, of_samples
from bench.results.grid import Grid

if TYPE_CHECKING:
    import pandas as pd

    from bench.results.folder import Run

NO_SEED = 0
"""Stands where members of several seeds were joined."""

BEST_MEMBER = "its best member"
"""Of a soup or a vote: on validation."""

ANY_MEMBER = "one of its members"
"""Where no validation says which is best: of a vote the middle rate, of a soup the first trial."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Children of one kind and one origin, one for each of `seeds`; without any they join seeds.

    `figure` is their mean test figure with its `interval`, `passes` the mean number of passes
    through a network that predict a sample, `chosen` what validation chose, by seed. `comparison`
    is with `base`; None where there is nothing to compare with, or nothing that could differ.
    `reason` says why some could not be made.
    """

    name: str
    of: str
    seeds: tuple[int, ...]
    figure: float = math.nan
    interval: Interval = UNKNOWN
    passes: float = math.nan
    members: tuple[int, ...] = ()
    chosen: Mapping[str, tuple[float, ...]]
    base: str = ""
    comparison: Comparison | None = None
    reason: str | None = None

    @property
    def label(self) -> str:
        """The kind with its origin."""
        return f"{self.name} · {self.of}"


def families(run: Run, grid: Grid, verdict: Verdict) -> list[Family]:
    """The children of a run; all that is compared of them is one family of tests."""
    children = run.children
    complete = children[children["status"] == "complete"]
    recommended = _recommended(verdict, grid)
    used = {str(trial) for trial in complete["base"].dropna()}
    used |= set(() if recommended is None else recommended.all_trials)
    scored = _scored(run, used)
    found: list[Family] = []
    pairs: dict[int, Pair] = {}
    sides: dict[str, Scores] = {}
    for (name, of), own in children.groupby(["name", "of"], sort=False):
        family, done = _described(str(name), str(of), own)
        scores = None if scored is None else scored.of(_by_seed(done, "child"))
        if scored is not None and scores is not None:
            sides[family.label] = scores
            base = _base(done, recommended, scored)
            changes = "temperature" not in family.chosen or grid.metric.name not in _OF_LABELS
            if base is not None and changes:
                label = _base_label(done, family, run, verdict)
                family = replace(family, base=label)
                pairs[len(found)] = (family.label, label, {"": scores}, {"": base})
        found.append(family)
    compared = _compared(pairs, verdict)
    intervals = _intervals(sides, grid)
    return [
        replace(
            family,
            comparison=compared.get(index),
            figure=intervals.get(family.label, (math.nan, UNKNOWN))[0],
            interval=intervals.get(family.label, (math.nan, UNKNOWN))[1],
        )
        for index, family in enumerate(found)
    ]


_OF_LABELS = ("accuracy", "balanced_accuracy", "macro_f1")
"""Metrics of the most probable class alone, which a temperature does not change."""


def _scored(run: Run, used: set[str]) -> TrialScores | None:
    import pandas as pd

    if run.child_predictions.empty:
        return None
    trials = run.judged[run.judged["trial"].isin(used)]
    return trial_scores(pd.concat([trials, run.child_predictions], ignore_index=True), run.metric)


def _described(name: str, of: str, own: pd.DataFrame) -> tuple[Family, pd.DataFrame]:
    done = own[own["status"] == "complete"]
    chosen: dict[str, tuple[float, ...]] = {}
    for text in done["chosen"]:
        for key, value in json.loads(text).items():
            chosen[key] = (*chosen.get(key, ()), float(value))
    reasons = own.loc[own["status"] != "complete", "error"].dropna()
    return Family(
        name=name,
        of=of,
        seeds=tuple(int(seed) for seed in done["seed"].dropna()),
        passes=float(done["passes"].astype(float).mean()) if len(done) else math.nan,
        members=tuple(len(json.loads(text)) for text in done["members"]),
        chosen=chosen,
        reason=None if reasons.empty else str(reasons.iloc[0]),
    ), done


def _by_seed(done: pd.DataFrame, column: str) -> dict[int, tuple[str, ...]]:
    seeds = done["seed"].fillna(NO_SEED)
    ids = done[column]
    return {int(seed): (str(id),) for seed, id in zip(seeds, ids, strict=True)}


def _recommended(verdict: Verdict, grid: Grid) -> Choice | None:
    if verdict.recommended is None:
        return None
    return preferred(verdict.contender(verdict.recommended).choices, grid)


def _base(done: pd.DataFrame, recommended: Choice | None, scored: TrialScores) -> Scores | None:
    """What the children of a family are compared with, on the same seeds or as its mean."""
    if done["base"].notna().all():
        return scored.of(_by_seed(done, "base"))
    whole = None if recommended is None else scored.of(recommended.trials)
    if whole is None or done["seed"].notna().all():
        return whole
    mean = whole.values.mean(axis=0, keepdims=True)
    return replace(whole, seeds=(NO_SEED,), values=mean)


def _base_label(done: pd.DataFrame, family: Family, run: Run, verdict: Verdict) -> str:
    if done["base"].isna().any():
        return str(verdict.recommended)
    if done["config"].notna().all():
        return family.of
    bases = run.trials["trial"].isin(done["base"])
    return BEST_MEMBER if run.trials.loc[bases, run.metric.val].notna().any() else ANY_MEMBER


def _compared(pairs: Mapping[int, Pair], verdict: Verdict) -> dict[int, Comparison]:
    if not pairs:
        return {}
    looks = {frozenset(pair[:2]): verdict.look for pair in pairs.values()}
    found = compare_pairs(
        list(pairs.values()),
        looks=looks,
        margin=verdict.margin,
        higher_is_better=verdict.metric.higher_is_better,
    )
    return dict(zip(pairs, found, strict=True))


def _intervals(sides: Mapping[str, Scores], grid: Grid) -> dict[str, tuple[float, Interval]]:
    """Mean figures with where they lie for other images, from three seeds on for others of both."""
    crossed = {
        label: figure_table(own.values, own.grouping, grid.metric)
        for label, own in sides.items()
        if len(own.seeds) >= LEAST_SEEDS and len(own.samples) > 1
    }
    halves: Iterator[float] = iter(())
    if crossed:
        tables = joined(list(crossed.values()))
        halves = map(float, half_widths(tables, independent=len(crossed), alpha=ALPHA))
    wide = dict(zip(crossed, halves, strict=True))
    return {
        label: (
            float(own.values.mean()),
            around(float(own.values.mean()), wide[label], len(own.samples), grid.metric)
            if label in wide
            else of_samples(own.values, grid.metric, grouped=own.grouping is not None),
        )
        for label, own in sides.items()
    }
