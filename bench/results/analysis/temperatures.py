"""What the probabilities of a run are worth on the test split, before and after a temperature.

The temperature of each training is fitted on its own validation predictions; the test split only
tells what it did.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bench.methods.metrics import METRICS, ece
from bench.methods.temperature import fit_temperature, tempered
from bench.results.analysis.comparison import Comparison, Pair, common, compare_pairs
from bench.results.analysis.intervals import Estimate
from bench.results.analysis.predicted import Predicted, predicted_by_trial
from bench.results.analysis.scores import (
    Folds,
    Grouping,
    Scores,
    blocks_of,
    blocks_of_groups,
    in_groups,
    pseudo_values,
    sample_scores,
)
from bench.results.analysis.verdict import figure_interval
from bench.results.metric import Metric, metric_called

if TYPE_CHECKING:
    import pandas as pd

Numbers = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

JUDGED = ("log_loss", "brier", "ece")
"""Metrics that a temperature can change, and of which less is better."""

DRAWS = 100


@dataclass(frozen=True, kw_only=True)
class After:
    """A figure after a temperature; `change` is after − before, one family with other metrics."""

    figure: Estimate
    change: Comparison


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A metric before a temperature, and after one where there is one."""

    metric: Metric
    before: Estimate
    after: After | None


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Of some trainings. `temperatures` are theirs; none where not all have what it takes.

    `exact` is the calibration error that so many images show on average if the probabilities are
    exact: no smaller one can be expected.
    """

    judged: tuple[Judged, ...]
    temperatures: tuple[float, ...]
    exact: float


_Trained = Mapping[int, tuple[Predicted, ...]]
"""By seed, one or one a fold."""


def calibration(
    predictions: pd.DataFrame,
    val_predictions: pd.DataFrame,
    trials: Mapping[int, Sequence[str]],
    *,
    folds: Folds | None = None,
    look: int = 1,
) -> Calibration | None:
    """That of some trials a seed; None without finite test predictions of all of them.

    `look` is the how-manyeth at these results.
    """
    before = _trained(_predicted(predictions, trials), trials)
    if before is None:
        return None
    if folds is None:
        samples = common([each.samples for own in before.values() for each in own])
        if not samples:
            return None
        before = {seed: tuple(each.at(samples) for each in own) for seed, own in before.items()}
    vals = _predicted(val_predictions, trials)
    known = all(name in vals for own in trials.values() for name in own)
    found = {
        name: fit_temperature(own.probabilities, own.labels)
        for name, own in (vals if known else {}).items()
    }
    after = {
        seed: tuple(
            each.having(tempered(each.probabilities, found[name]))
            for name, each in zip(trials[seed], own, strict=True)
        )
        for seed, own in (before if known else {}).items()
    }
    return Calibration(
        judged=tuple(_judged(before, after, folds, look)),
        temperatures=tuple(found.values()),
        exact=_exact_error(after or before),
    )


def _predicted(
    predictions: pd.DataFrame, trials: Mapping[int, Sequence[str]]
) -> dict[str, Predicted]:
    """By trial; of those that have finite probabilities."""
    wanted = [name for own in trials.values() for name in own]
    found = predicted_by_trial(predictions[predictions["trial"].isin(wanted)])
    return {trial: own for trial, own in found.items() if np.isfinite(own.probabilities).all()}


def _trained(
    predicted: Mapping[str, Predicted], trials: Mapping[int, Sequence[str]]
) -> _Trained | None:
    if not all(name in predicted for own in trials.values() for name in own):
        return None
    return {seed: tuple(predicted[name] for name in own) for seed, own in trials.items()} or None


def _judged(before: _Trained, after: _Trained, folds: Folds | None, look: int) -> Iterator[Judged]:
    metrics = [metric_called(name) for name in JUDGED]
    scored = [_scores(name, before, folds) for name in JUDGED]
    figures = [_figure(each, metric) for each, metric in zip(scored, metrics, strict=True)]
    if not after:
        for metric, figure in zip(metrics, figures, strict=True):
            yield Judged(metric=metric, before=figure, after=None)
        return
    changed = [_scores(name, after, folds) for name in JUDGED]
    changes = _changes(scored, changed, look)
    for metric, figure, scores, change in zip(metrics, figures, changed, changes, strict=True):
        then = After(figure=_figure(scores, metric), change=change)
        yield Judged(metric=metric, before=figure, after=then)


def _figure(scores: Scores, metric: Metric) -> Estimate:
    return Estimate(value=float(scores.values.mean()), interval=figure_interval(scores, metric))


def _changes(before: Sequence[Scores], after: Sequence[Scores], look: int) -> list[Comparison]:
    pairs: list[Pair] = [
        (f"{name} after", f"{name} before", {"": second}, {"": first})
        for name, first, second in zip(JUDGED, before, after, strict=True)
    ]
    looks = {frozenset(pair[:2]): look for pair in pairs}
    return compare_pairs(pairs, independent=1, looks=looks, margin=0.0, higher_is_better=False)


def _scores(name: str, trained: _Trained, folds: Folds | None) -> Scores:
    """By seed and image, or of folds their figures."""
    if folds is not None:
        function = METRICS.get(name).function
        figures = [
            [function(each.labels, each.probabilities) for each in own] for own in trained.values()
        ]
        names = tuple(f"fold {1 + index}" for index in range(len(figures[0])))
        return Scores(seeds=tuple(trained), samples=names, values=np.array(figures), folds=folds)
    (first,), *_ = trained.values()
    seeds = [own[0] for own in trained.values()]
    if name != "ece":
        values = np.stack([sample_scores(name, each.labels, each.probabilities) for each in seeds])
        found = Scores(seeds=tuple(trained), samples=first.samples, values=values)
        return found if first.groups is None else in_groups(found, first.groups)
    grouping = None
    if first.groups is None:
        block = blocks_of(first.labels)
    else:
        block = blocks_of_groups(first.groups)
        grouping = Grouping.of(first.groups, counts=False)
    count = int(block.max()) + 1
    values = np.stack([pseudo_values(ece, *_of_top(each), block, count) for each in seeds])
    names = tuple(f"block {number}" for number in range(count))
    return Scores(seeds=tuple(trained), samples=names, values=values, grouping=grouping)


def _of_top(predicted: Predicted) -> tuple[Labels, Numbers]:
    """All that a calibration error reads: whether the top class is right, and its probability."""
    right = predicted.probabilities.argmax(axis=1) == predicted.labels
    confidence = predicted.probabilities.max(axis=1)
    return np.where(right, 0, 1), np.stack([confidence, np.zeros_like(confidence)], axis=1)


def _exact_error(trained: _Trained) -> float:
    """The mean over draws of labels from the probabilities (Bröcker and Smith, 2007)."""
    rng = np.random.default_rng(0)
    errors = []
    for own in trained.values():
        for each in own:
            _, top = _of_top(each)
            for _ in range(DRAWS):
                wrong = (rng.random(len(top)) >= top[:, 0]).astype(np.int64)
                errors.append(ece(wrong, top))
    return float(np.mean(errors))
