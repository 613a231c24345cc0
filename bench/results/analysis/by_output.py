"""How well each target, or each label, is predicted, where a sample is of no single class.

Intervals are those of the crossed table of seeds × samples, as of every figure of a report, and
each is judged alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bench.results.analysis.comparison import common
from bench.results.analysis.influence import SCORED, Answers, influence_scores
from bench.results.analysis.intervals import UNKNOWN, Estimate
from bench.results.analysis.predicted import answers_of
from bench.results.analysis.scores import Folds, Scores
from bench.results.analysis.verdict import figure_interval
from bench.results.folder.columns import THRESHOLDS, output_names
from bench.results.metric import Metric

if TYPE_CHECKING:
    import pandas as pd

Numbers = npt.NDArray[np.float64]


_OF_ONE: Mapping[str, Mapping[str, str]] = {
    "regression": {"r2": "R²", "mae": "MAE", "rmse": "RMSE", "spearman": "Spearman's ρ"},
    "multi_label": {"mean_average_precision": "AP", "multi_label_macro_f1": "F1"},
}


def shown_of(task: str) -> Mapping[str, str]:
    """The metrics that are shown of one target, or label, and what they are called of one."""
    return _OF_ONE[task]


@dataclass(frozen=True, kw_only=True)
class TargetFigures:
    """A target on the test split: the standard deviation of its values, and what was measured."""

    name: str
    sd: float
    figures: Mapping[Metric, Estimate]


@dataclass(frozen=True, kw_only=True)
class LabelFigures:
    """A label on the test split: how many `images` of `all_images` have it, and what was measured.

    `thresholds` are those of the trainings, from which on their probability counts as the label.
    `found`, `missed` and `wrong` are means over seeds of the images that have it and get it, that
    have it and do not, and that get it without having it.
    """

    name: str
    images: int
    all_images: int
    thresholds: tuple[float, ...]
    figures: Mapping[Metric, Estimate]
    found: float
    missed: float
    wrong: float


@dataclass(frozen=True, kw_only=True)
class Residual:
    """A test image and a target that it is far from.

    `predicted` is the mean over `trials`; `size` the mean distance, in standard deviations of the
    target.
    """

    sample: str
    target: str
    true: float
    predicted: float
    size: float
    trials: int


_Trained = Mapping[int, Sequence[tuple[tuple[str, ...], Answers]]]
"""By seed, of one trial or one a fold: its samples, and what it said of them."""


def target_figures(
    predictions: pd.DataFrame,
    trials: Mapping[int, Sequence[str]],
    metrics: Sequence[Metric],
    *,
    folds: Folds | None = None,
) -> list[TargetFigures]:
    """The targets in their order, from the test predictions of some trials a seed."""
    trained = _trained(predictions, trials)
    if not trained:
        return []
    first = np.concatenate([answers.truth for _, answers in next(iter(trained.values()))])
    return [
        TargetFigures(
            name=name,
            sd=float(first[:, index].std()),
            figures=_figures(trained, index, metrics, folds),
        )
        for index, name in enumerate(output_names(predictions))
    ]


def label_figures(
    predictions: pd.DataFrame,
    rows: pd.DataFrame,
    trials: Mapping[int, Sequence[str]],
    metrics: Sequence[Metric],
    *,
    folds: Folds | None = None,
) -> list[LabelFigures]:
    """The labels in their order; `rows` of the table of trials tell their thresholds.

    A metric that joins labels is, of one label, what it is of that label alone.
    """
    trained = _trained(predictions, trials)
    if not trained:
        return []
    used = [trial for own in trials.values() for trial in own]
    limits = _thresholds(rows, used)
    sides = [answers for own in trained.values() for _, answers in own]
    seeds = len(trained)
    truth, decided = (
        np.concatenate([getattr(side, part) for side in sides]) > 0 for part in ("truth", "decided")
    )
    return [
        LabelFigures(
            name=name,
            images=round(int(truth[:, index].sum()) / seeds),
            all_images=round(len(truth) / seeds),
            thresholds=tuple(own[index] for own in limits if index < len(own)),
            figures=_figures(trained, index, metrics, folds),
            found=float((truth & decided)[:, index].sum() / seeds),
            missed=float((truth & ~decided)[:, index].sum() / seeds),
            wrong=float((~truth & decided)[:, index].sum() / seeds),
        )
        for index, name in enumerate(output_names(predictions))
    ]


def largest_residuals(
    predictions: pd.DataFrame, trials: Sequence[str], *, count: int
) -> list[Residual]:
    """The `count` images that `trials` predict worst, each with the target that is furthest off."""
    import pandas as pd

    own = predictions[predictions["trial"].isin(trials)]
    names = output_names(predictions)
    if own.empty or not names:
        return []
    answers = answers_of(own)
    spread = answers.truth.std(axis=0)
    errors = np.abs(answers.outputs - answers.truth) / np.where(spread > 0, spread, 1.0)
    parts = [
        pd.DataFrame(
            {
                "sample": own["sample"].to_numpy(),
                "target": name,
                "true": answers.truth[:, index],
                "predicted": answers.outputs[:, index],
                "size": errors[:, index],
            }
        )
        for index, name in enumerate(names)
    ]
    means = (
        pd.concat(parts, ignore_index=True)
        .groupby(["sample", "target"], sort=False)
        .agg(
            true=("true", "first"),
            predicted=("predicted", "mean"),
            size=("size", "mean"),
            trials=("size", "size"),
        )
        .reset_index()
    )
    known = means[np.isfinite(means["size"])]
    ranked = known.sort_values(["size", "sample"], ascending=[False, True])
    return [
        Residual(
            sample=str(row["sample"]),
            target=str(row["target"]),
            true=float(row["true"]),
            predicted=float(row["predicted"]),
            size=float(row["size"]),
            trials=int(row["trials"]),
        )
        for row in ranked.drop_duplicates("sample").head(count).to_dict("records")
    ]


def _trained(predictions: pd.DataFrame, trials: Mapping[int, Sequence[str]]) -> _Trained:
    """Of the seeds whose trials all have predictions."""
    wanted = [name for own in trials.values() for name in own]
    known = {
        str(trial): (tuple(map(str, own["sample"])), answers_of(own))
        for trial, own in predictions[predictions["trial"].isin(wanted)].groupby(
            "trial", sort=False
        )
    }
    return {
        seed: [known[name] for name in own]
        for seed, own in trials.items()
        if all(name in known for name in own)
    }


def _figures(
    trained: _Trained, index: int, metrics: Sequence[Metric], folds: Folds | None
) -> dict[Metric, Estimate]:
    return {
        metric: _figure(_scores(trained, index, metric, folds), metric)
        for metric in metrics
        if metric.name in SCORED
    }


def _figure(scores: Scores | None, metric: Metric) -> Estimate:
    if scores is None or not np.isfinite(scores.values).all():
        return Estimate(value=float("nan"), interval=UNKNOWN)
    return Estimate(value=float(scores.values.mean()), interval=figure_interval(scores, metric))


def _scores(trained: _Trained, index: int, metric: Metric, folds: Folds | None) -> Scores | None:
    """Of one output, by seed and sample, or of folds their figures."""
    each = {
        seed: [(samples, influence_scores(metric.name, _of(answers, index)))
               for samples, answers in own]
        for seed, own in trained.items()
    }  # fmt: skip
    if folds is not None:
        values = np.array([[float(scores.mean()) for _, scores in own] for own in each.values()])
        names = tuple(f"fold {1 + place}" for place in range(values.shape[1]))
        return Scores(
            seeds=tuple(each),
            samples=names,
            values=values,
            folds=folds,
            in_units=metric.in_target_units,
        )
    samples = common([own[0][0] for own in each.values()])
    if not samples:
        return None
    rows = [dict(zip(*own[0], strict=True)) for own in each.values()]
    values = np.array([[row[sample] for sample in samples] for row in rows])
    return Scores(
        seeds=tuple(each), samples=samples, values=values, in_units=metric.in_target_units
    )


def _of(answers: Answers, index: int) -> Answers:
    """The same of one output."""
    column = slice(index, index + 1)
    return Answers(
        truth=answers.truth[:, column],
        outputs=answers.outputs[:, column],
        decided=answers.decided[:, column],
    )


def _thresholds(rows: pd.DataFrame, trials: Sequence[str]) -> list[list[float]]:
    if THRESHOLDS not in rows:
        return []
    texts = rows.loc[rows["trial"].isin(trials), THRESHOLDS].dropna()
    return [json.loads(text) for text in texts]
