"""Scores of single samples by metrics of numbers and of several labels, as claims need them.

A mean over samples scores each sample by what it adds. Any other metric is a smooth function of the
distribution of the samples, and a sample's score is the metric plus its influence value: by how
much the metric moves, per weight, when the sample gets a little more of it (Hampel, 1974). Their
mean is the metric, and the variance of their mean estimates that of the metric (the infinitesimal
jackknife: Jaeckel, 1972; Efron, 1982). Values that leave a sample out (Tukey's pseudo-values)
differ from these by terms that vanish with the number of samples, and would cost a metric for each
sample.

With weights wᵢ that add up to 1, and means over them:

- R² is 1 − E[e²]/V with V the variance of the targets, so the influence of a sample with the error
  e and the target y is ((1 − R²)(y − ȳ)² − e²) / V.
- The root of a mean square r moves by (e² − r²) / 2r.
- Spearman's ρ is the correlation of the two mid-ranks F(x) and G(y). Besides its own ranks a
  sample moves those of all that lie above it, which adds E[1(x < X) G(Y)] and its counterpart.
- Average precision is the mean, over samples with the label, of the share of those with the label
  among all that score as high. A sample moves the share of every sample that scores as low.
- F1 is the ratio of two sums, 2·E[l·d] / E[l + d] with labels l and decisions d.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What a trial said of some samples, all arrays `[samples, outputs]`.

    `truth` holds targets or labels (1 and 0), `outputs` predicted values or probabilities,
    `decided` which labels are given (of regression nothing is decided).
    """

    truth: Numbers
    outputs: Numbers
    decided: Flags


def influence_scores(metric: str, answers: Answers) -> Numbers:
    """The score of each sample `[samples]`; NaN where an output or the metric is not known.

    Raises `KeyError` for a metric that is not in `SCORED`.
    """
    score = SCORED[metric]
    if not len(answers.truth) or not np.isfinite(answers.outputs).all():
        return np.full(len(answers.truth), np.nan)
    return score(answers)


# Numbers --------------------------------------------------------------------------------------


def _mae(answers: Answers) -> Numbers:
    return np.asarray(np.abs(answers.outputs - answers.truth).mean(axis=1))


def _rmse(answers: Answers) -> Numbers:
    squares = np.square(answers.outputs - answers.truth)
    root = np.sqrt(squares.mean(axis=0))
    influence = (squares - np.square(root)) / (2 * np.where(root > 0, root, 1.0))
    return np.asarray((root + influence).mean(axis=1))


def _r2(answers: Answers) -> Numbers:
    """NaN where a target does not vary."""
    squares = np.square(answers.outputs - answers.truth)
    apart = np.square(answers.truth - answers.truth.mean(axis=0))
    variance = apart.mean(axis=0)
    if not variance.all():
        return np.full(len(apart), np.nan)
    value = 1 - squares.mean(axis=0) / variance
    return np.asarray((value + ((1 - value) * apart - squares) / variance).mean(axis=1))


def _spearman(answers: Answers) -> Numbers:
    each = [
        _rank_correlation(truth, predicted)
        for truth, predicted in zip(answers.truth.T, answers.outputs.T, strict=True)
    ]
    return np.asarray(np.mean(each, axis=0))


def _rank_correlation(truth: Numbers, predicted: Numbers) -> Numbers:
    """Of one target; NaN where one side does not vary."""
    first, second = _mid_ranks(truth), _mid_ranks(predicted)
    spread = [float(np.square(ranks).mean() - 0.25) for ranks in (first, second)]
    if min(spread) <= 0:
        return np.full(len(truth), np.nan)
    product = float((first * second).mean())
    scale = np.sqrt(spread[0] * spread[1])
    value = (product - 0.25) / scale
    # Each is of the third degree in the weights.
    of_product = first * second + _above(truth, second) + _above(predicted, first) - 3 * product
    of_first = np.square(first) + 2 * _above(truth, first) - 3 * (spread[0] + 0.25)
    of_second = np.square(second) + 2 * _above(predicted, second) - 3 * (spread[1] + 0.25)
    influence = of_product / scale - value / 2 * (of_first / spread[0] + of_second / spread[1])
    return np.asarray(value + influence)


def _mid_ranks(values: Numbers) -> Numbers:
    """The share of values below each, those that equal it counted half."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray(((np.cumsum(sizes) - sizes / 2) / len(values))[group])


def _above(values: Numbers, added: Numbers) -> Numbers:
    """For each value the mean over all samples of `added` where values are above it, or half."""
    _, group = np.unique(values, return_inverse=True)
    sums = np.bincount(group, weights=added)
    from_top = np.cumsum(sums[::-1])[::-1]
    return np.asarray((from_top - sums / 2)[group] / len(values))


# Several labels a sample ----------------------------------------------------------------------


def _log_loss(answers: Answers) -> Numbers:
    """The mean over labels; a probability of 0 counts as the smallest number (as of classes)."""
    of_truth = np.where(answers.truth > 0.5, answers.outputs, 1 - answers.outputs)
    return np.asarray(-np.log(np.maximum(of_truth, _TINY)).mean(axis=1))


def _mean_average_precision(answers: Answers) -> Numbers:
    """Of the labels that some sample has; NaN without any."""
    each = [
        _average_precision(labels, scores)
        for labels, scores in zip(answers.truth.T, answers.outputs.T, strict=True)
        if labels.any()
    ]
    return np.asarray(np.mean(each, axis=0)) if each else np.full(len(answers.truth), np.nan)


def _average_precision(labels: Numbers, scores: Numbers) -> Numbers:
    """Of one label that some sample has."""
    share = labels.mean()
    _, group = np.unique(scores, return_inverse=True)
    positive = np.bincount(group, weights=labels)
    of_all = np.bincount(group).astype(np.float64)
    # At least as high a score: from the top down, in shares of all samples.
    true, named = (np.cumsum(each[::-1])[::-1] / len(labels) for each in (positive, of_all))
    precision = true / named
    value = float((positive * precision).sum() / positive.sum())
    # What lies at the same score or below it has this sample among those named before it.
    gained = np.cumsum(positive / named) / len(labels)
    lost = np.cumsum(positive * true / np.square(named)) / len(labels)
    moved = labels * (precision + gained)[group] - lost[group]
    return np.asarray(value + (moved - value * labels) / share)


def _macro_f1(answers: Answers) -> Numbers:
    given = answers.decided.astype(np.float64)
    hits, sizes = answers.truth * given, answers.truth + given
    return np.asarray(_ratios(2 * hits, sizes).mean(axis=1))


def _micro_f1(answers: Answers) -> Numbers:
    given = answers.decided.astype(np.float64)
    hits = (answers.truth * given).sum(axis=1, keepdims=True)
    sizes = (answers.truth + given).sum(axis=1, keepdims=True)
    return np.asarray(_ratios(2 * hits, sizes)[:, 0])


def _ratios(over: Numbers, under: Numbers) -> Numbers:
    """Scores of the ratio of two means `[samples, …]`; 0 where there is nothing to divide by."""
    divisor = under.mean(axis=0)
    known = np.where(divisor > 0, divisor, 1.0)
    value = np.where(divisor > 0, over.mean(axis=0) / known, 0.0)
    return np.asarray(value + (over - value * under) / known)


SCORED: Mapping[str, Callable[[Answers], Numbers]] = {
    "mae": _mae,
    "rmse": _rmse,
    "r2": _r2,
    "spearman": _spearman,
    "mean_average_precision": _mean_average_precision,
    "multi_label_macro_f1": _macro_f1,
    "multi_label_micro_f1": _micro_f1,
    "multi_label_log_loss": _log_loss,
}
"""Metrics of which each sample has a score here."""
