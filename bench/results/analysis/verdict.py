"""The verdict of a run: what to use, what is worse, what is open, and what would settle it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from bench.results.analysis.choice import Choice, choices
from bench.results.analysis.comparison import (
    ALPHA,
    MARGIN,
    BlockScores,
    Comparison,
    common,
    compare,
    look_level,
)
from bench.results.analysis.crossed import (
    LEAST_SEEDS,
    MOST_PRIOR,
    CrossedTables,
    crossed_table,
    half_widths,
    joined,
)
from bench.results.analysis.distributions import normal_upper_quantile, student_upper_quantile
from bench.results.analysis.effects import COSTS
from bench.results.analysis.folds import folded_half_widths, folded_table
from bench.results.analysis.intervals import UNKNOWN, Interval, Z, wilson_of_share
from bench.results.analysis.label_sizes import at_size, families, size_compared
from bench.results.analysis.predicted import truth_columns
from bench.results.analysis.scores import (
    Folds,
    Grouping,
    Scores,
    TrialScores,
    figure_scores,
    folds_of,
    set_names,
    trial_scores,
)
from bench.results.folder.columns import FINITE, TASK_METRICS
from bench.results.folder.looks import look_at
from bench.results.grid import Grid, complete_trials, read_grid
from bench.suite.claims import Cost, read_claims

if TYPE_CHECKING:
    import pandas as pd

    from bench.results.folder import Run
    from bench.results.metric import Metric

MANY_SEEDS = 200
"""Where more would be needed, no run will tell the two apart by seeds."""

MANY_SAMPLES = 1_000_000
POWER = 0.8


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A value of the leading axis as it stands in the contest.

    `figure` is its mean test figure over seeds and blocks, `interval` where that of other seeds and
    other samples lies (95 %); with fewer than three seeds, that of other samples alone. `val` is
    its mean validation figure, each seed's by the config that the other seeds choose. `costs` are
    means over trials.
    """

    name: str
    choices: Mapping[str, Choice]
    seeds: tuple[int, ...]
    figure: float
    interval: Interval
    val: float
    costs: Mapping[str, float]

    @property
    def blocks(self) -> tuple[str, ...]:
        """The backbones that it was trained on, where they vary."""
        return tuple(self.choices)


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What would settle an open pair with power 0.8: tell it apart, or show it to be as good.

    Each is a range, as the difference is known to a range: (least, most), None where no number
    would do. `seeds` are further ones, `samples` a test split's whole size.
    """

    seeds: tuple[int | None, int | None]
    samples: tuple[int | None, int | None]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a run says. `contenders` stand best first, `comparisons` are of every two of them.

    `recommended` is the leader on validation of those that nothing is shown to beat, unless a
    cheaper one (by `cost`) is shown to be at most `margin` behind every other one: then it stands
    in place of that leader, `in_place_of`. `leader` is the leader on validation of all. Where the
    number of training images varies, all of it is at one `size`. `samples` are test images, and
    `groups` those that they come in, where these count as samples.
    """

    metric: Metric
    axis: str
    contenders: tuple[Contender, ...]
    comparisons: tuple[Comparison, ...]
    margin: float
    cost: Cost
    samples: int
    train_samples: int | None
    look: int
    size: str | None = None
    folds: int = 0
    groups: int = 0
    looks: Mapping[frozenset[str], int] = field(default_factory=dict)
    recommended: str | None = None
    leader: str | None = None
    in_place_of: str | None = None

    def contender(self, name: str) -> Contender:
        """The one called `name`."""
        return next(each for each in self.contenders if each.name == name)

    def against(self, name: str) -> dict[str, Comparison]:
        """`name` against every other one, seen from it, in the order of the contenders."""
        found = {}
        for each in self.comparisons:
            if name in (each.first, each.second):
                own = each if each.first == name else each.turned()
                found[own.second] = own
        return {each.name: found[each.name] for each in self.contenders if each.name in found}

    @property
    def rivals(self) -> dict[str, Comparison]:
        """The recommended one against every other one."""
        return {} if self.recommended is None else self.against(self.recommended)

    @property
    def open(self) -> tuple[str, ...]:
        """Those that are neither told apart from the recommended one nor shown to be as good."""
        return tuple(name for name, each in self.rivals.items() if each.verdict == "open")

    @property
    def is_decided(self) -> bool:
        """Whether more trainings would change nothing that the verdict leaves open."""
        return self.recommended is not None and not self.open

    def needs(self, comparison: Comparison) -> Needs | None:
        """What would settle it at its next look; None where its variances are not known."""
        return _needs(comparison, self.next_level(comparison), len(self.contenders))

    def next_level(self, comparison: Comparison) -> float:
        """The level of its next look."""
        pair = frozenset((comparison.first, comparison.second))
        return look_level(self.looks.get(pair, 1) + 1) / comparison.comparisons


def reach_verdict(
    trials: pd.DataFrame,
    grid: Grid,
    predictions: pd.DataFrame,
    *,
    looks: Sequence[Collection[str]] = (),
    margin: float = MARGIN,
    cost: Cost = "train_seconds",
    train_samples: int | None = None,
    folds: Folds | None = None,
    size: str | None = None,
    among: int | None = None,
) -> Verdict:
    """The verdict of the trials of a grid. `looks` are the trials that were new at each look.

    `folds` are the sizes of those of a run that has some. Where the number of training images
    varies, it is a verdict at one `size`, by default `size_compared`, and the comparisons of all
    sizes are corrected as one family. Where there are several test sets, half of the error is
    theirs. `among` says as one of how many families of equal shares these count, if not so.
    """
    compared = size_compared(trials, grid)
    size = size or compared
    trials = at_size(trials, grid, size)
    chosen = choices(trials, grid)
    scores = scores_of(chosen, trials, predictions, grid.metric, folds)
    shared = _shared_blocks(chosen)
    contenders = _contenders(chosen, scores, shared, trials, grid.metric)
    times = _times_seen(trials, grid, looks)
    several = len(set_names(predictions)) > 1
    comparisons = compare(
        {each.name: scores[each.name] for each in contenders},
        looks=times,
        margin=margin,
        higher_is_better=grid.metric.higher_is_better,
        families=among or families(size, compared, grid) * (2 if several else 1),
    )
    sides = [own for blocks in scores.values() for own in blocks.values()]
    found = Verdict(
        metric=grid.metric,
        axis=grid.lead,
        contenders=tuple(contenders),
        comparisons=tuple(comparisons),
        margin=margin,
        cost=cost,
        samples=max((own.images for own in sides), default=0),
        groups=max((own.grouping.groups for own in sides if own.grouping is not None), default=0),
        folds=max((len(own.samples) for own in sides if own.folds is not None), default=0),
        train_samples=train_samples,
        look=max(len(looks), 1),
        size=size,
        looks=times,
    )
    return with_recommended(found, shared)


def margin_of(run: Run, metric: Metric) -> float:
    """The difference that does not matter, as the suite of the run has it.

    Of figures in the units of the targets it is that share of their standard deviation over the
    test samples (a mean over the targets), or nothing that depends on units could be the default.
    """
    margin = read_claims(run.suite).margin
    if not metric.in_target_units or run.predictions.empty:
        return margin
    truth = run.predictions[["sample", *truth_columns(run.predictions)]].drop_duplicates("sample")
    return margin * float(truth.drop(columns="sample").std(ddof=0).mean())


@lru_cache(maxsize=2)
def read_verdict(run: Run) -> Verdict:
    """The verdict of a run folder. That counts as a look, which is written down in the folder."""
    complete = complete_trials(run.trials)
    claims = read_claims(run.suite)
    return reach_verdict(
        run.trials,
        read_grid(run.trials, run.metric),
        run.judged,
        looks=look_at(run.folder, list(complete["trial"])),
        margin=margin_of(run, run.metric),
        cost=claims.cost,
        train_samples=run.images("train") or None,
        folds=folds_of(run),
    )


def scores_of(
    chosen: Mapping[str, Mapping[str, Choice]],
    trials: pd.DataFrame,
    predictions: pd.DataFrame,
    metric: Metric,
    folds: Folds | None,
) -> dict[str, BlockScores]:
    """What the chosen trials scored, by name and block."""
    used = [trial for own in chosen.values() for each in own.values() for trial in each.all_trials]
    scored = None
    if folds is None:
        scored = trial_scores(predictions[predictions["trial"].isin(used)], metric)
    return {name: _scores(own, scored, trials, metric, folds) for name, own in chosen.items()}


def _scores(
    own: Mapping[str, Choice],
    scored: TrialScores | None,
    trials: pd.DataFrame,
    metric: Metric,
    folds: Folds | None,
) -> BlockScores:
    found = {}
    figures = dict(zip(trials["trial"], trials[metric.test], strict=True))
    for block, choice in own.items():
        scores = scored.of(choice.trials) if scored is not None else None
        found[block] = scores or figure_scores(
            figures, choice.trials, folds, in_units=metric.in_target_units
        )
    return found


def _shared_blocks(chosen: Mapping[str, Mapping[str, Choice]]) -> tuple[str, ...]:
    """The blocks that all have; where there are none, the block that most have."""
    every = dict.fromkeys(block for own in chosen.values() for block in own)
    shared = tuple(block for block in every if all(block in own for own in chosen.values()))
    if shared or not every:
        return shared
    return (max(every, key=lambda block: sum(block in own for own in chosen.values())),)


def _contenders(
    chosen: Mapping[str, Mapping[str, Choice]],
    scores: Mapping[str, BlockScores],
    shared: tuple[str, ...],
    trials: pd.DataFrame,
    metric: Metric,
) -> list[Contender]:
    by_trial = complete_trials(trials).set_index("trial")
    found, tables = [], {}
    for name, own in chosen.items():
        blocks = [block for block in shared if block in own] or list(own)
        sides = [scores[name][block] for block in blocks]
        seeds = common([side.seeds for side in sides])
        samples = sides[0].samples
        if not seeds or any(side.samples != samples for side in sides):
            seeds, sides = sides[0].seeds, sides[:1]
        values = np.mean([side.at(seeds, samples) for side in sides], axis=0)
        folds = sides[0].folds
        if folds is None and len(seeds) >= LEAST_SEEDS and len(samples) > 1:
            tables[name] = figure_table(values, sides[0].grouping, metric)
        used = [trial for block in blocks for trial in own[block].all_trials]
        vals = [value for block in blocks for value in own[block].val.values()]
        found.append(
            Contender(
                name=name,
                choices=own,
                seeds=seeds,
                figure=round(float(values.mean()), 12),
                interval=of_samples(values, metric, grouped=sides[0].grouping is not None)
                if folds is None
                else _of_folds(values, folds, metric),
                val=round(float(np.nanmean(vals)), 12) if np.isfinite(vals).any() else math.nan,
                costs={
                    cost: float(by_trial.loc[used, cost].mean())
                    for cost in COSTS
                    if cost in by_trial
                },
            )
        )
    if tables:
        halves = half_widths(joined(list(tables.values())), independent=len(tables), alpha=ALPHA)
        wider = dict(zip(tables, halves, strict=True))
        found = [
            replace(
                each,
                interval=around(
                    each.figure, float(wider[each.name]), int(tables[each.name].samples), metric
                ),
            )
            if each.name in wider
            else each
            for each in found
        ]
    return sorted(found, key=lambda each: -metric.sign * each.figure)


def figure_interval(scores: Scores, metric: Metric) -> Interval:
    """Where the mean of the scores lies (95 %): as of a contender, but judged alone."""
    values = scores.values
    if scores.folds is not None:
        return _of_folds(values, scores.folds, metric)
    grouped = scores.grouping is not None
    if values.shape[0] < LEAST_SEEDS or values.shape[1] < 2:
        return of_samples(values, metric, grouped=grouped)
    table = crossed_table(values, grain=scores.grain, grouped=grouped)
    half = float(half_widths(joined([table]), independent=1, alpha=ALPHA)[0])
    if not math.isfinite(half):
        return UNKNOWN
    return around(float(values.mean()), half, values.shape[1], metric)


def figure_table(values: np.ndarray, grouping: Grouping | None, metric: Metric) -> CrossedTables:
    """The table of a figure itself, of at least three seeds: no figure is taken for certain."""
    grain = grain_of(metric)
    if grouping is None:
        return crossed_table(values, grain=grain)
    own = 1 / (grouping.images + 2) if grain is None else grain
    return crossed_table(values, grain=own, grouped=True)


def of_samples(values: np.ndarray, metric: Metric, *, grouped: bool = False) -> Interval:
    """Where the figure of these very models lies for other samples; of groups, Student's."""
    means = values.mean(axis=0)
    if len(means) < 2:
        return UNKNOWN
    reach = float(student_upper_quantile(ALPHA / 2, len(means) - 1)) if grouped else Z
    half = reach * float(means.std(ddof=1)) / math.sqrt(len(means))
    return around(float(means.mean()), half, len(means), metric)


def _of_folds(values: np.ndarray, folds: Folds, metric: Metric) -> Interval:
    if values.shape[1] < 2:
        return UNKNOWN
    table = folded_table(values, test=folds.test, train=folds.train, grain=grain_of(metric))
    half = float(folded_half_widths(table, alpha=ALPHA))
    return around(float(values.mean()), half, folds.test * values.shape[1], metric)


_DISTANCES = ("ece",)
"""Fractions that are no share of samples: Wilson's interval is not theirs."""


def grain_of(metric: Metric) -> float | None:
    """What no mean figure is known better than: of fractions about one sample, the default."""
    return 0.0 if metric.in_target_units else None


def around(figure: float, half: float, samples: int, metric: Metric) -> Interval:
    """The interval of a figure that is known to ± `half`, within what the metric can be."""
    if metric.percent and 0 <= figure <= 1:
        if metric.name in _DISTANCES:
            return max(0.0, figure - half), min(1.0, figure + half)
        return wilson_of_share(figure, half, samples)
    kind = TASK_METRICS.get(metric.name, FINITE)
    return max(kind.low, figure - half), min(kind.high, figure + half)


def _level(contenders: Sequence[Contender]) -> dict[str, float]:
    """Validation figures of those that have one, as if all had the same seeds.

    Every seed draws a validation split of its own, easy or hard for everyone: the mean over few
    seeds must not lead because those were easy ones. Least squares of contender + seed; where all
    have the same seeds that gives the order of the plain means.
    """
    cells = {
        each.name: {
            (block, seed): value
            for block, choice in each.choices.items()
            for seed, value in choice.val.items()
            if math.isfinite(value)
        }
        for each in contenders
    }
    cells = {name: own for name, own in cells.items() if own}
    if len({frozenset(own) for own in cells.values()}) < 2:
        return {each.name: each.val for each in contenders if not math.isnan(each.val)}
    columns = {
        cell: index
        for index, cell in enumerate(dict.fromkeys(c for o in cells.values() for c in o))
    }
    rows, values = [], []
    for place, own in enumerate(cells.values()):
        for cell, value in own.items():
            row = np.zeros(len(cells) + len(columns))
            row[place] = row[len(cells) + columns[cell]] = 1
            rows.append(row)
            values.append(value)
    fitted = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
    return dict(zip(cells, fitted[: len(cells)].round(9).tolist(), strict=True))


def with_recommended(found: Verdict, shared: tuple[str, ...]) -> Verdict:
    """The verdict with its leader and what it recommends, of those trained on all `shared` blocks.

    The leader is the best on validation, of equals the better on test; on test where nothing is
    validated.
    """
    able = [each for each in found.contenders if all(block in each.choices for block in shared)]
    if not able:
        return found
    vals = _level(able)

    def leader(of: Sequence[Contender]) -> Contender:
        known = [each for each in of if each.name in vals]
        return max(known, key=lambda each: found.metric.sign * vals[each.name]) if known else of[0]

    found = replace(found, leader=leader(able).name)
    unbeaten = [
        each
        for each in able
        if not any(c.verdict == "worse" for c in found.against(each.name).values())
    ]
    if not unbeaten:
        return found
    first = leader(unbeaten)
    cheaper = [
        each
        for each in unbeaten
        if each.costs.get(found.cost, math.nan) < first.costs.get(found.cost, math.nan)
        and all(c.not_worse for c in found.against(each.name).values())
    ]
    if cheaper:
        best = min(cheaper, key=lambda each: each.costs[found.cost])
        return replace(found, recommended=best.name, in_place_of=first.name)
    return replace(found, recommended=first.name)


def _times_seen(
    trials: pd.DataFrame, grid: Grid, looks: Sequence[Collection[str]]
) -> dict[frozenset[str], int]:
    """The how-manyeth look at each pair this is: looks that brought it nothing are none.

    What a pair is judged by are the seeds that both have. Nothing is spent on what stays as it was
    while others, or one of the two alone, get more seeds, and what was claimed stays claimed.
    """
    of_trial = {
        str(trial): (grid.cells[str(config)][grid.lead], int(seed))
        for trial, config, seed in zip(
            trials["trial"], trials["config"], trials["seed"], strict=True
        )
    }
    names = list(grid.axes.get(grid.lead, ()))
    pairs = [(one, other) for place, one in enumerate(names) for other in names[place + 1 :]]
    times = dict.fromkeys(map(frozenset, pairs), 0)
    seen: dict[str, set[int]] = {name: set() for name in names}
    for look in looks:
        new: dict[str, set[int]] = {name: set() for name in names}
        for name, seed in (of_trial[trial] for trial in look if trial in of_trial):
            new[name].add(seed)
            seen[name].add(seed)
        for one, other in pairs:
            if new[one] & seen[other] or new[other] & seen[one]:
                times[frozenset((one, other))] += 1
    return {pair: max(1, count) for pair, count in times.items()}


def _needs(comparison: Comparison, level: float, contenders: int) -> Needs | None:
    seeds, samples = len(comparison.seeds), comparison.samples
    parts = (comparison.seed_variance, comparison.sample_variance, comparison.rest_variance)
    if comparison.of_models or any(math.isnan(part) for part in parts):
        return None
    of_seeds, of_samples, rest = parts
    least, most = _to_resolve(comparison.likely_size, comparison.margin)

    share = rest / (rest + samples * of_seeds) if rest else 0.0

    def freedom(number: np.ndarray | int) -> np.ndarray | int:
        own = number - 1
        return own + share * np.minimum(MOST_PRIOR, max(0, contenders - 2) * own)

    def quantiles(number: np.ndarray | int) -> np.ndarray:
        student = student_upper_quantile(level / 2, freedom(number))
        return student + normal_upper_quantile(1 - POWER)

    def further_seeds(resolved: float) -> int | None:
        numbers = np.arange(seeds + 1, MANY_SEEDS + 1)
        wanted = quantiles(numbers) * comparison.error(numbers)
        enough = np.flatnonzero(resolved >= wanted)
        return int(numbers[enough[0]]) - seeds if len(enough) else None

    def whole_samples(resolved: float) -> int | None:
        wanted = float(quantiles(seeds))
        left = (resolved / wanted) ** 2 - of_seeds / seeds
        if left <= 0:
            return None
        number = math.ceil((of_samples + rest / seeds) / left)
        return max(samples + 1, number) if number <= MANY_SAMPLES else None

    return Needs(
        seeds=(further_seeds(most), further_seeds(least)),
        samples=(whole_samples(most), whole_samples(least)),
    )


def _to_resolve(size: Interval, margin: float) -> tuple[float, float]:
    """The least and the largest difference that has to be resolved to settle a pair.

    A pair that differs by d is settled when d is resolved, or when what is left to the margin is:
    the larger of the two. `size` is where d may lie.
    """
    low, high = size
    at_ends = [max(end, margin - end) for end in (low, high)]
    least = margin / 2 if low <= margin / 2 <= high else min(at_ends)
    return least, max(at_ends)
