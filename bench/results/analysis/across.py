"""Two runs of the same configs: what changed, and whether it is more than noise."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bench.results.analysis.intervals import UNKNOWN, Interval
from bench.results.analysis.paired import ALPHA, holm, sign_flip_p, smallest_p
from bench.results.grid import AXES, complete_trials, flat, is_missing, read_grid, value_text
from bench.results.metric import ACCURACY, Metric

if TYPE_CHECKING:
    from bench.results.folder import Run

IDENTITY = ("dataset", *(axis for axis in AXES if axis != "precision"), "settings")
"""What makes two configs the same. Precision follows from the machine: it is a difference between
runs, as versions are."""

VOLATILE = ("command", "started", "overrides")
"""Parts of the environment that differ between any two runs."""

Judgement = Literal["better", "worse", "within noise", "same"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """A config in both runs, over the seeds that both have; figures are of the test split.

    `corrected` is p after Holm's correction over all configs: of the exact sign-flip test where so
    many seeds can be significant after it, else of Student's t test, which takes the differences
    for normal. `interval` is Student's, 95 %.
    """

    label: str
    seeds: tuple[int, ...]
    before: float
    after: float
    interval: Interval
    corrected: float
    higher_is_better: bool = True

    @property
    def judgement(self) -> Judgement:
        if self.before == self.after and self.interval == (0.0, 0.0):
            return "same"
        if not self.corrected < ALPHA:
            return "within noise"
        return "better" if (self.after > self.before) == self.higher_is_better else "worse"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A part of the environment or of the suite that two runs do not share."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """A run against an earlier one by `metric`.

    Where the two chose their epochs by different metrics (`chosen_by`), that is accuracy.
    """

    metric: Metric
    chosen_by: tuple[Metric, Metric]
    changes: tuple[Change, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    environment: tuple[Difference, ...]
    suite: tuple[Difference, ...]

    @property
    def regressions(self) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.judgement == "worse")


def compare_runs(before: Run, after: Run) -> RunComparison:
    """What changed from `before` to `after`, config by config, paired by seed."""
    metric = before.metric if before.metric.name == after.metric.name else ACCURACY
    sides = [_figures(run, metric) for run in (before, after)]
    labels = {**_labels(after), **_labels(before)}
    both = [key for key in sides[0] if key in sides[1]]
    differences = {}
    for key in both:
        seeds = sorted(sides[0][key].keys() & sides[1][key].keys())
        if seeds:
            pairs = [(sides[0][key][seed], sides[1][key][seed]) for seed in seeds]
            differences[key] = (tuple(seeds), np.array(pairs))
    ps = [_p(pairs[:, 1] - pairs[:, 0], len(differences)) for _, pairs in differences.values()]
    changes = [
        Change(
            label=labels[key],
            seeds=seeds,
            before=float(pairs[:, 0].mean()),
            after=float(pairs[:, 1].mean()),
            interval=_interval(pairs[:, 1] - pairs[:, 0]),
            corrected=corrected,
            higher_is_better=metric.higher_is_better,
        )
        for (key, (seeds, pairs)), corrected in zip(differences.items(), holm(ps), strict=True)
    ]
    return RunComparison(
        metric=metric,
        chosen_by=(before.metric, after.metric),
        changes=tuple(changes),
        only_before=tuple(labels[key] for key in sides[0] if key not in differences),
        only_after=tuple(labels[key] for key in sides[1] if key not in differences),
        environment=tuple(_differences(before.environment, after.environment)),
        suite=tuple(_differences(before.suite, after.suite)),
    )


def _figures(run: Run, metric: Metric) -> dict[str, dict[int, float]]:
    """identity → seed → figure on the test split."""
    found: dict[str, dict[int, float]] = {}
    known = complete_trials(run.trials).dropna(subset=[metric.test, "seed"])
    for row in known.to_dict("records"):
        found.setdefault(_identity(row), {})[int(row["seed"])] = float(row[metric.test])
    return found


def _identity(row: Mapping[Any, Any]) -> str:
    own = {name: None if is_missing(row[name]) else str(row[name]) for name in IDENTITY}
    if own["settings"] is not None:
        settings = json.loads(own["settings"])
        # What chose the epochs is said once for all configs.
        own["settings"] = json.dumps({k: v for k, v in settings.items() if k != "metric"})
    return json.dumps(list(own.values()))


def _labels(run: Run) -> dict[str, str]:
    grid = read_grid(run.trials)
    return {
        _identity(row): grid.labels[str(row["config"])] for row in run.trials.to_dict("records")
    }


def _p(differences: np.ndarray, comparisons: int) -> float:
    from scipy.stats import ttest_1samp

    rounded = differences.round(12)
    if len(rounded) < 2 or not rounded.any():
        return 1.0
    if comparisons * smallest_p(len(rounded)) < ALPHA:
        return sign_flip_p(rounded)
    if np.ptp(rounded) == 0:
        return 0.0  # every seed moved by the same amount
    return float(ttest_1samp(rounded, 0.0).pvalue)


def _interval(differences: np.ndarray) -> Interval:
    from scipy.stats import ttest_1samp

    rounded = differences.round(12)
    if np.ptp(rounded) == 0:
        value = float(rounded[0])
        return (value, value) if len(rounded) > 1 or value == 0 else UNKNOWN
    found = ttest_1samp(rounded, 0.0).confidence_interval(0.95)
    return float(found.low), float(found.high)


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    one, other = (flat(side, separator=".") for side in (before, after))
    for name in dict.fromkeys([*one, *other]):
        if name not in VOLATILE and one.get(name) != other.get(name):
            texts = (value_text(side[name]) if name in side else "–" for side in (one, other))
            first, second = texts
            yield Difference(name=name, before=first, after=second)
