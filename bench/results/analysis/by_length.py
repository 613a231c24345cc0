"""How often texts of each length are classified correctly."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.results.analysis.by_class import by_seed, share_of
from bench.results.analysis.crossed import LEAST_SEEDS
from bench.results.analysis.intervals import Estimate
from bench.results.analysis.predicted import groups_of
from bench.results.folder.columns import class_names

if TYPE_CHECKING:
    import pandas as pd

PARTS = 4
"""Texts are parted at the quartiles of their lengths."""


@dataclass(frozen=True, kw_only=True)
class LengthFigures:
    """The `texts` of `shortest` to `longest` tokens, or those whose end was `cut`."""

    shortest: int
    longest: int
    cut: bool
    texts: int
    accuracy: Estimate


def length_figures(
    predictions: pd.DataFrame,
    trials: Mapping[int, Sequence[str]],
    tokens: Mapping[str, int],
    cut: Collection[str],
    *,
    of_models: bool = False,
) -> list[LengthFigures]:
    """Accuracy by length, from the test predictions of some trials a seed as in `class_figures`.

    `tokens` are the lengths of samples; those that are `cut` are a part of their own.
    """
    samples, labels, predicted = by_seed(predictions, trials, class_names(predictions))
    if not samples:
        return []
    groups = groups_of(predictions, samples)
    crossed = not of_models and len(predicted) >= LEAST_SEEDS
    lengths = np.array([tokens.get(sample, -1) for sample in samples])
    is_cut = np.isin(samples, list(cut))
    whole = ~is_cut & (lengths >= 0)
    edges = (
        np.unique(np.quantile(lengths[whole], np.arange(1, PARTS) / PARTS)) if whole.any() else ()
    )
    part = np.searchsorted(np.asarray(edges), lengths, side="left")
    found = []
    for own in [*(whole & (part == at) for at in range(len(edges) + 1)), is_cut]:
        if not own.any():
            continue
        counted = np.broadcast_to(own, predicted.shape)
        hits = counted & (predicted == labels)
        found.append(
            LengthFigures(
                shortest=int(lengths[own].min()),
                longest=int(lengths[own].max()),
                cut=bool(is_cut[own].all()),
                texts=int(own.sum()),
                accuracy=share_of(hits, counted, crossed=crossed, groups=groups),
            )
        )
    return found
