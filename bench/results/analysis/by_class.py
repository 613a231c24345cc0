"""How often each class is found, and how often it is right where it is named.

A class has few test images, and all seeds share them. So an interval never counts an image once for
each seed: it is that of the crossed table of seeds × images, of a share that is a ratio of two sums
(linearised: Cochran, Sampling Techniques, 1977), put around the share as Wilson's is (Korn and
Graubard, 1998). Of a single seed it is Wilson's (1927).
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
from bench.results.analysis.intervals import UNKNOWN, Estimate, Z, wilson_of_share
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
    labels, predicted = _by_seed(predictions, trials, classes)
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
                recall=share_of(named & of_class, of_class, crossed=crossed),
                precision=share_of(named & of_class, named, crossed=crossed),
                mistaken_for=classes[most] if taken[most] else None,
                mistaken=float(taken[most] / max(1, own.sum() * len(named))),
            )
        )
    return found


def share_of(hits: Flags, counted: Flags, *, crossed: bool) -> Estimate:
    """The share of what is `counted` that are `hits`, both `[seeds, images]`.

    No variance is taken for less than that of so many independent draws.
    """
    used = counted.any(axis=0)
    hits, counted = hits[:, used], counted[:, used]
    draws = int(counted.sum())
    if not draws:
        return Estimate(value=math.nan, interval=UNKNOWN)
    value = float(hits.sum() / draws)
    images = draws / len(counted)
    linear = (hits - value * counted) / counted.mean()
    half = max(
        _crossed_half(linear, images) if crossed and linear.shape[1] > 1 else _models_half(linear),
        Z * math.sqrt(value * (1 - value) / draws),
    )
    return Estimate(value=value, interval=wilson_of_share(value, half, max(1, round(images))))


def _crossed_half(linear: Numbers, images: float) -> float:
    table = crossed_table(linear, grain=1 / (images + 2))
    return float(half_widths(joined([table]), independent=1, alpha=ALPHA)[0])


def _models_half(linear: Numbers) -> float:
    """Images are drawn anew, each with what all seeds make of it."""
    return float(Z * np.sqrt(np.square(linear.mean(axis=0)).sum()) / linear.shape[1])


def _by_seed(
    predictions: pd.DataFrame, trials: Mapping[int, Sequence[str]], classes: Sequence[str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Labels `[images]` and predictions `[seeds, images]` of the images that all seeds have."""
    import pandas as pd

    place = {name: index for index, name in enumerate(classes)}
    columns = predictions[["sample", "label", "predicted"]]
    sides = [
        columns[predictions["trial"].isin(list(own))].set_index("sample") for own in trials.values()
    ]
    sides = [side for side in sides if len(side)]
    if not sides:
        return np.zeros(0, np.int64), np.zeros((0, 0), np.int64)
    whole = pd.concat([side["predicted"].map(place) for side in sides], axis=1, join="inner")
    labels = sides[0]["label"].map(place).reindex(whole.index)
    return np.asarray(labels, dtype=np.int64), np.asarray(whole, dtype=np.int64).T
