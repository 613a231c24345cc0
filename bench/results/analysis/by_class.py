"""How often each class is found, and how often it is right where it is named.

A class has few test images, and all seeds share them. So an interval never counts an image once for
each seed: it is that of the crossed table of seeds × images, of a share that is a ratio of two sums
(linearised: Cochran, Sampling Techniques, 1977), put around the share as Wilson's is (Korn and
Graubard, 1998). Of a single seed it is Wilson's (1927). Where images come in groups that count, a
group is what an image is without them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bench.results.analysis.comparison import ALPHA
from bench.results.analysis.crossed import LEAST_SEEDS, crossed_table, half_widths, joined
from bench.results.analysis.distributions import student_quantile
from bench.results.analysis.intervals import (
    UNKNOWN,
    Estimate,
    Interval,
    Z,
    wilson_interval,
    wilson_of_share,
)
from bench.results.analysis.predicted import groups_of
from bench.results.analysis.scores import by_group
from bench.results.folder.columns import class_names

if TYPE_CHECKING:
    import pandas as pd

Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class ClassFigures:
    """A class on the test split: its `images`, and how many a seed takes for it on average.

    `mistaken_for` is the other class that its images are given most often, None if there is none,
    and `mistaken` the share of them.
    """

    name: str
    images: int
    predicted: float
    recall: Estimate
    precision: Estimate
    mistaken_for: str | None
    mistaken: float


def class_figures(
    predictions: pd.DataFrame, trials: Mapping[int, Sequence[str]], *, of_models: bool = False
) -> list[ClassFigures]:
    """The classes in their order, from the test predictions of some trials a seed.

    Those of one seed (its folds) test different images. From three seeds on intervals speak of
    other seeds and images, with fewer, or for `of_models`, of these models on other images.
    """
    classes = class_names(predictions)
    samples, labels, predicted = by_seed(predictions, trials, classes)
    groups = groups_of(predictions, samples)
    crossed = not of_models and len(predicted) >= LEAST_SEEDS
    found = []
    for index, name in enumerate(classes):
        named, own = predicted == index, labels == index
        of_class = np.broadcast_to(own, named.shape)
        taken = np.bincount(predicted[:, own].ravel(), minlength=len(classes))
        taken[index] = 0
        most = int(taken.argmax())
        found.append(
            ClassFigures(
                name=name,
                images=int(own.sum()),
                predicted=float(named.sum() / max(1, len(named))),
                recall=share_of(named & of_class, of_class, crossed=crossed, groups=groups),
                precision=share_of(named & of_class, named, crossed=crossed, groups=groups),
                mistaken_for=classes[most] if taken[most] else None,
                mistaken=float(taken[most] / max(1, own.sum() * len(named))),
            )
        )
    return found


def share_interval(rows: pd.DataFrame, hits: Flags, counted: Flags) -> Interval:
    """Where the share of a trial's `counted` test samples that are `hits` lies for others (95 %).

    Wilson's of so many samples, if none of the `rows` of predictions share a group that counts.
    """
    groups = groups_of(rows, rows["sample"])
    if groups is None:
        return wilson_interval(int((hits & counted).sum()), int(counted.sum()))
    return share_of((hits & counted)[None], counted[None], crossed=False, groups=groups).interval


def share_of(
    hits: Flags, counted: Flags, *, crossed: bool, groups: Sequence[str] | None = None
) -> Estimate:
    """The share of what is `counted` that are `hits`, both `[seeds, images]`.

    No variance is taken for less than that of so many independent draws. `groups` are those of the
    images; of a single one no interval is known.
    """
    used = counted.any(axis=0)
    hits, counted = hits[:, used], counted[:, used]
    draws = int(counted.sum())
    if not draws:
        return Estimate(value=math.nan, interval=UNKNOWN)
    value = float(hits.sum() / draws)
    images = draws / len(counted)
    linear = (hits - value * counted) / counted.mean()
    number = max(1, round(images))
    grouped = False
    if groups is not None:
        names, group = np.unique(np.array(groups, dtype=str)[used], return_inverse=True)
        grouped = len(names) < len(group)
        if grouped:
            linear, number = by_group(linear, group), len(names)
    if grouped and number < 2:
        return Estimate(value=value, interval=UNKNOWN)
    half = max(
        _crossed_half(linear, images, grouped=grouped)
        if crossed and linear.shape[1] > 1
        else _models_half(linear, grouped=grouped),
        Z * math.sqrt(value * (1 - value) / draws),
    )
    return Estimate(value=value, interval=wilson_of_share(value, half, number))


def _crossed_half(linear: Numbers, images: float, *, grouped: bool) -> float:
    table = crossed_table(linear, grain=1 / (images + 2), grouped=grouped)
    return float(half_widths(joined([table]), independent=1, alpha=ALPHA)[0])


def _models_half(linear: Numbers, *, grouped: bool) -> float:
    """Images, or groups of them, are drawn anew, each with what all seeds make of it."""
    number, reach = linear.shape[1], Z
    if grouped:
        reach = float(student_quantile(1 - ALPHA / 2, number - 1))
        reach *= math.sqrt(number / (number - 1))
    return float(reach * np.sqrt(np.square(linear.mean(axis=0)).sum()) / number)


def by_seed(
    predictions: pd.DataFrame, trials: Mapping[int, Sequence[str]], classes: Sequence[str]
) -> tuple[list[str], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The images that all seeds have, their labels `[images]`, predictions `[seeds, images]`."""
    import pandas as pd

    place = {name: index for index, name in enumerate(classes)}
    columns = predictions[["sample", "label", "predicted"]]
    sides = [
        columns[predictions["trial"].isin(list(own))].set_index("sample") for own in trials.values()
    ]
    sides = [side for side in sides if len(side)]
    if not sides:
        return [], np.zeros(0, np.int64), np.zeros((0, 0), np.int64)
    whole = pd.concat([side["predicted"].map(place) for side in sides], axis=1, join="inner")
    labels = sides[0]["label"].map(place).reindex(whole.index)
    return (
        list(map(str, whole.index)),
        np.asarray(labels, dtype=np.int64),
        np.asarray(whole, dtype=np.int64).T,
    )
