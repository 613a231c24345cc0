"""Test images that trials are wrong about, and sure of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A test image that `wrong` of the `trials` that were tested on it take for `predicted`.

    `confidence` is the mean probability that these give that class.
    """

    sample: str
    label: str
    predicted: str
    confidence: float
    wrong: int
    trials: int


def confident_mistakes(
    predictions: pd.DataFrame, trials: Sequence[str], *, count: int
) -> list[Mistake]:
    """The `count` mistakes of `trials` with the most probability behind them.

    An image's rank is the sum of the wrong class's probabilities over the trials that chose it:
    what several seeds are sure of comes before what one is.
    """
    from bench.results.folder import PROBABILITY_PREFIX

    own = predictions[predictions["trial"].isin(trials)]
    wrong = own[own["label"] != own["predicted"]]
    if wrong.empty:
        return []
    columns = [name for name in own.columns if name.startswith(PROBABILITY_PREFIX)]
    wrong = wrong.assign(confidence=wrong[columns].max(axis=1))
    groups = wrong.groupby(["sample", "label", "predicted"])["confidence"].agg(["sum", "count"])
    tested = own.groupby("sample")["trial"].nunique()
    ranked = groups.reset_index().sort_values(["sum", "sample"], ascending=[False, True])
    return [
        Mistake(
            sample=str(row["sample"]),
            label=str(row["label"]),
            predicted=str(row["predicted"]),
            confidence=float(row["sum"] / row["count"]),
            wrong=int(row["count"]),
            trials=int(tested[row["sample"]]),
        )
        for row in ranked.head(count).to_dict("records")
    ]
