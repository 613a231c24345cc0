"""By how much a random split flatters what is tested on new groups: the group penalty.

The same configs with the same seeds were trained twice: on splits that keep groups whole, and on
random ones, where images of a group both train and test. The test images of the two are not the
same ones, so the difference is that of two figures: its interval joins theirs (MOVER: Zou and
Donner, Construction of confidence limits about effect measures, 2008). Both count groups as
samples. Nothing is claimed by it, and nothing else reads it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.results.analysis.across import trials_by_config
from bench.results.analysis.intervals import UNKNOWN, Estimate, Interval
from bench.results.analysis.matching import match_configs, read_cells
from bench.results.analysis.scores import (
    TrialScores,
    folds_of,
    scores_of_folds,
    trial_scores,
)
from bench.results.analysis.verdict import figure_interval
from bench.results.grid import read_grid

if TYPE_CHECKING:
    from bench.results.folder import Run
    from bench.results.metric import Metric


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """A config under both splits, on the seeds that both have.

    `flattered` is the random split's figure minus the group split's, turned where less is better,
    so that it is above 0 where the random split looks better.
    """

    label: str
    seeds: tuple[int, ...]
    whole: Estimate
    random: Estimate
    flattered: Estimate


def penalties(run: Run, check: Run) -> list[Penalty]:
    """What of `run` was trained again in `check`, in the order of the run's configs."""
    metric = run.metric
    labels = read_grid(run.trials, metric).labels
    joined = match_configs(read_cells(run.trials), read_cells(check.trials)).joined
    sides = [(each, trials_by_config(each, metric), _scored(each, metric)) for each in (run, check)]
    found = []
    for names in joined:
        own = [
            by_config.get(name, {}) for name, (_, by_config, _) in zip(names, sides, strict=True)
        ]
        seeds = tuple(sorted(own[0].keys() & own[1].keys()))
        estimates = [
            _estimate(side, {seed: trials[seed] for seed in seeds}, scored, metric)
            for trials, (side, _, scored) in zip(own, sides, strict=True)
        ]
        whole, random = estimates
        if whole is not None and random is not None:
            found.append(
                Penalty(
                    label=labels[names[0]],
                    seeds=seeds,
                    whole=whole,
                    random=random,
                    flattered=flattered(whole, random, metric),
                )
            )
    return found


def flattered(whole: Estimate, random: Estimate, metric: Metric) -> Estimate:
    """The difference of the two with its interval (95 %)."""
    value = random.value - whole.value
    interval: Interval = UNKNOWN
    if all(math.isfinite(end) for each in (whole, random) for end in each.interval):
        (low, high), (low_random, high_random) = whole.interval, random.interval
        interval = (
            value - math.hypot(random.value - low_random, high - whole.value),
            value + math.hypot(high_random - random.value, whole.value - low),
        )
    if metric.higher_is_better:
        return Estimate(value=value, interval=interval)
    return Estimate(value=0.0 - value, interval=(0.0 - interval[1], 0.0 - interval[0]))


def _scored(run: Run, metric: Metric) -> TrialScores | None:
    return trial_scores(run.judged, metric) if folds_of(run) is None else None


def _estimate(
    run: Run,
    trials: Mapping[int, Sequence[str]],
    scored: TrialScores | None,
    metric: Metric,
) -> Estimate | None:
    """The figure of a config on these seeds; None without any, or without predictions."""
    if not trials:
        return None
    by_seed = {seed: tuple(own) for seed, own in trials.items()}
    scores = scores_of_folds(run, by_seed, metric)
    if scores is None and scored is not None:
        scores = scored.of(by_seed)
    if scores is None:
        return None
    return Estimate(value=float(scores.values.mean()), interval=figure_interval(scores, metric))
