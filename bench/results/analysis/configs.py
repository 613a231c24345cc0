"""What single configs reached: centres and intervals over seeds, and how training went."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.results.analysis.intervals import Interval, interquartile_mean, mean_interval
from bench.results.analysis.label_sizes import trained_images
from bench.results.grid import complete_trials
from bench.results.metric import ACCURACY, LOSS, Metric

if TYPE_CHECKING:
    import pandas as pd

    from bench.results.folder import Run

TARGET_STEP = 0.05
"""Targets are multiples of this, such as 0.90 and 0.95, for fractions of which more is better."""

SMALLEST = 1e-100
"""Nearer to 0 a target is 0."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A figure over the seeds of a config: centres, sample standard deviation, 95 % interval."""

    n: int
    mean: float
    median: float
    sd: float
    interquartile_mean: float
    interval: Interval


def sample_of(values: pd.Series[Any]) -> Sample:
    """The sample of a column; missing values are left out, NaN stands for what is not known."""
    known = values.dropna().to_numpy(float)
    some = len(known) > 0
    return Sample(
        n=len(known),
        mean=float(known.mean()) if some else math.nan,
        median=float(np.median(known)) if some else math.nan,
        sd=float(known.std(ddof=1)) if len(known) > 1 else math.nan,
        interquartile_mean=interquartile_mean(known),
        interval=mean_interval(known),
    )


def natural_target(trials: pd.DataFrame, metric: Metric = ACCURACY) -> float:
    """The highest multiple of 5 % that some config's mean on the validation split reaches.

    Of a metric that is no fraction, or of which less is better, the best mean with two digits that
    it reaches. NaN without a known mean.
    """
    means = complete_trials(trials).groupby("config")[metric.val].mean().dropna()
    if means.empty:
        return math.nan
    best = float((metric.sign * means).max())
    if metric.percent and metric.higher_is_better:
        return float(round(math.floor(best / TARGET_STEP + 1e-9) * TARGET_STEP, 2))
    if abs(best) < SMALLEST:
        return 0.0
    digits = 1 - math.floor(math.log10(abs(best)))
    return float(metric.sign * round(math.floor(best * 10.0**digits + 1e-9) / 10.0**digits, digits))


def trial_measures(run: Run, *, target: float) -> pd.DataFrame:
    """How each complete trial trained: a row a trial, indexed by it.

    Columns: `config`, `seed`; `epochs_to_target`, `images_to_target` and `seconds_to_target` of
    training and validation until the run's metric first reached `target` in validation (NaN if it
    never did, or where the number of training images is not known); `area`, its mean over epochs
    (the area under its curve, per epoch); `overfitting`, training minus validation accuracy after
    the last epoch, of other tasks than classification validation minus training loss; `late_loss`,
    the metric's test figure at the chosen minus after the last epoch.
    """
    import pandas as pd

    complete = complete_trials(run.trials).set_index("trial")
    curves = run.curves[run.curves["trial"].isin(complete.index)]
    by_split = dict(list(curves.groupby("split", sort=False)))
    val = by_split.get("val", curves.iloc[:0]).sort_values(["trial", "epoch"])
    metric = run.metric
    followed = ACCURACY if metric.of_classes else LOSS
    last = (
        followed.sign
        * curves.sort_values("epoch").groupby(["split", "trial"])[followed.name].last()
    )
    reached = (
        val[metric.sign * val[metric.name] >= metric.sign * target]
        .groupby("trial")["epoch"]
        .first()
    )
    until = curves[curves["epoch"] <= curves["trial"].map(dict(reached)).astype(float)]
    seconds = until.groupby("trial")["seconds"].sum()
    images = complete["settings"].map(lambda text: trained_images(run, text) or math.nan)
    return pd.DataFrame(
        {
            "config": complete["config"],
            "seed": complete["seed"],
            "epochs_to_target": reached.reindex(complete.index),
            "images_to_target": reached.reindex(complete.index) * images,
            "seconds_to_target": seconds.reindex(complete.index),
            "area": val.groupby("trial")[metric.name].mean().reindex(complete.index),
            "overfitting": _of(last, "train", complete.index) - _of(last, "val", complete.index),
            "late_loss": complete[metric.test] - complete[metric.last_test],
        }
    )


def reached_target(measures: pd.DataFrame) -> pd.DataFrame:
    """What it took to reach the target: a row a config, from `trial_measures`.

    Columns: `reached` of `trials`, those whose validation is known; `epochs`, `images` and
    `seconds`, medians over these trials. A trial that never got there counts as one that took
    longer than any other, so a median is infinite where half of them or more did not: a mean over
    those that did would flatter what seldom gets there. NaN where nothing is known.
    """
    import pandas as pd

    known = measures[measures["area"].notna()]
    there = known["epochs_to_target"].notna()
    taken = {
        name: known[f"{name}_to_target"].astype(float).where(there, math.inf)
        for name in ("epochs", "images", "seconds")
    }
    medians = pd.DataFrame(taken).groupby(known["config"]).agg(_whole_median)
    counts = there.groupby(known["config"]).agg(["sum", "size"]).astype("int64")
    counts.columns = ["reached", "trials"]
    every = list(dict.fromkeys(measures["config"]))
    found = counts.join(medians).reindex(every)
    return found.fillna({"reached": 0, "trials": 0}).astype({"reached": int, "trials": int})


def _whole_median(column: pd.Series[Any]) -> float:
    """NaN where some are not known: without them it would be the median of other trials."""
    return float(np.median(column.to_numpy(float)))


def _of(figures: pd.Series[Any], split: str, trials: pd.Index[Any]) -> pd.Series[Any]:
    """The figures of one split by trial; NaN where there is none."""
    own = figures[figures.index.get_level_values("split") == split]
    return own.droplevel("split").reindex(trials)
