"""Named test sets: what holds on each of them, and whether the order of strategies is the same.

All figures come from the predictions of the same trials, each at the epoch that validation chose:
no test set has a part in choosing. Half of the error is that of the verdict, on all test samples
together, and half that of all pairs on all sets: one family.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from bench.errors import BenchError
from bench.results.analysis.comparison import BlockScores, common
from bench.results.analysis.intervals import UNKNOWN, Estimate
from bench.results.analysis.scores import (
    Grouping,
    Numbers,
    Scores,
    metric_of_rows,
    set_names,
    trial_scores,
)
from bench.results.analysis.verdict import Verdict, figure_interval, reach_verdict
from bench.results.folder.looks import look_at
from bench.results.grid import complete_trials, read_grid
from bench.suite.claims import read_claims

if TYPE_CHECKING:
    import pandas as pd

    from bench.results.folder import Run
    from bench.results.metric import Metric


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Two whose order is not the same on all test sets: the sets on which each is ahead.

    With `shown` these are the sets for which it is claimed.
    """

    first: str
    second: str
    first_ahead: tuple[str, ...]
    second_ahead: tuple[str, ...]
    shown: bool


@dataclass(frozen=True, kw_only=True)
class TestSets:
    """`verdicts` by test set. `means` are over the sets, each counting the same.

    `worst` names the set with the worst figure of each, `turns` are the pairs whose order differs,
    those that are shown first.
    """

    verdicts: Mapping[str, Verdict]
    means: Mapping[str, Estimate]
    worst: Mapping[str, str]
    turns: tuple[Turn, ...]

    __test__ = False


@lru_cache(maxsize=2)
def read_test_sets(run: Run) -> TestSets | None:
    """Those of a run folder; None where there are no several. It is the look of the verdict."""
    names = set_names(run.judged)
    if len(names) < 2:
        return None
    grid, claims = read_grid(run.trials, run.metric), read_claims(run.suite)
    looks = look_at(run.folder, list(complete_trials(run.trials)["trial"]))
    verdicts: dict[str, Verdict] = {}
    scores: dict[str, dict[str, Scores]] = {}
    for name in names:
        own = run.judged[run.judged["test_set"] == name].drop(columns="test_set")
        found = reach_verdict(
            _with_figures(run.trials, own, run.metric),
            grid,
            own,
            looks=looks,
            margin=claims.margin,
            cost=claims.cost,
            train_samples=run.images("train") or None,
            among=2 * len(names),
        )
        verdicts[name] = found
        scored = trial_scores(own, run.metric)
        for each in found.contenders:
            blocks = {
                block: side
                for block, choice in each.choices.items()
                if scored is not None and (side := scored.of(choice.trials)) is not None
            }
            if blocks:
                scores.setdefault(each.name, {})[name] = over_blocks(blocks)
    return TestSets(
        verdicts=verdicts,
        means={
            name: _mean_estimate(list(sides.values()), run.metric)
            for name, sides in scores.items()
            if len(sides) == len(names)
        },
        worst=_worst(verdicts, run.metric),
        turns=tuple(sorted(_turns(verdicts), key=lambda turn: not turn.shown)),
    )


def _with_figures(trials: pd.DataFrame, own: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """The trials with the metric on these predictions for the test figure."""
    try:
        figures = {
            str(trial): metric_of_rows(metric.name, rows)
            for trial, rows in own.groupby("trial", sort=False)
        }
    except BenchError:  # of a plugin that is not here
        return trials.assign(**{metric.test: math.nan})
    return trials.assign(**{metric.test: trials["trial"].map(figures).astype(float)})


def over_blocks(blocks: BlockScores) -> Scores:
    """The mean over backbones, on the seeds and samples that all have."""
    sides = list(blocks.values())
    seeds, samples = (common([getattr(s, of) for s in sides]) for of in ("seeds", "samples"))
    if len(sides) == 1 or not seeds or not samples:
        return sides[0]
    values = np.mean([side.at(seeds, samples) for side in sides], axis=0)
    return replace(sides[0], seeds=seeds, samples=samples, values=values)


def mean_over(sides: Sequence[Scores]) -> Scores | None:
    """The scores whose mean is that over test sets, on the seeds that all have; None without any.

    Every sample counts by the size of its set, and varies about the mean of its set alone: which
    sets there are is no luck.
    """
    seeds = common([side.seeds for side in sides])
    if not seeds:
        return None
    tables = [side.at(seeds, side.samples) for side in sides]
    means = [table.mean(axis=1, keepdims=True) for table in tables]
    whole: Numbers = np.mean(means, axis=0)
    columns = sum(table.shape[1] for table in tables)
    values = [
        whole + columns / (len(tables) * table.shape[1]) * (table - mean)
        for table, mean in zip(tables, means, strict=True)
    ]
    groupings = [side.grouping for side in sides if side.grouping is not None]
    grouping = None
    if groupings:
        images, largest = sum(side.images for side in sides), max(g.largest for g in groupings)
        grouping = Grouping(groups=columns, images=images, largest=largest, counts=False)
    return replace(
        sides[0],
        seeds=seeds,
        samples=tuple(f"{k} {each}" for k, side in enumerate(sides) for each in side.samples),
        values=np.concatenate(values, axis=1),
        grouping=grouping,
    )


def _mean_estimate(sides: Sequence[Scores], metric: Metric) -> Estimate:
    found = mean_over(sides)
    if found is None:
        return Estimate(value=math.nan, interval=UNKNOWN)
    return Estimate(value=float(found.values.mean()), interval=figure_interval(found, metric))


def _worst(verdicts: Mapping[str, Verdict], metric: Metric) -> dict[str, str]:
    figures: dict[str, dict[str, float]] = {}
    for name, verdict in verdicts.items():
        for each in verdict.contenders:
            figures.setdefault(each.name, {})[name] = metric.sign * each.figure
    return {name: min(own, key=own.__getitem__) for name, own in figures.items()}


def _turns(verdicts: Mapping[str, Verdict]) -> Iterator[Turn]:
    names = dict.fromkeys(each.name for own in verdicts.values() for each in own.contenders)
    for first, second in combinations(names, 2):
        pairs = {
            name: pair
            for name, verdict in verdicts.items()
            if (pair := verdict.against(first).get(second)) is not None
        }
        sides = [
            tuple(name for name, pair in pairs.items() if sign * pair.lead > 0) for sign in (1, -1)
        ]
        claimed = [
            tuple(name for name, pair in pairs.items() if pair.verdict == verdict)
            for verdict in ("better", "worse")
        ]
        if all(sides):
            ahead = claimed if all(claimed) else sides
            yield Turn(
                first=first,
                second=second,
                first_ahead=ahead[0],
                second_ahead=ahead[1],
                shown=all(claimed),
            )
