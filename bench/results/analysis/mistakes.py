"""Test images that trials are wrong about, and sure of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.results.folder.columns import LABEL_PREFIX, PROBABILITY_PREFIX, class_names
from bench.results.folder.decisions import DECIDED_PREFIX

if TYPE_CHECKING:
    import pandas as pd


NOT = "no "
"""What stands in front of a label that a sample lacks, or is not given."""


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
    own = predictions[predictions["trial"].isin(trials)]
    wrong = own[own["label"] != own["predicted"]]
    if wrong.empty:
        return []
    columns = [name for name in own.columns if name.startswith(PROBABILITY_PREFIX)]
    return _ranked(wrong.assign(confidence=wrong[columns].max(axis=1)), own)[:count]


def confident_label_mistakes(
    predictions: pd.DataFrame, trials: Sequence[str], *, count: int
) -> list[Mistake]:
    """The same where samples have several labels, of each the label that is most wrong of it.

    `label` and `predicted` are the label's name, or that name with `NOT` in front where a sample
    lacks it, or is not given it; `confidence` is the probability of what was decided.
    """
    import pandas as pd

    own = predictions[predictions["trial"].isin(trials)]
    parts = []
    for name in class_names(own):
        has, given = own[LABEL_PREFIX + name] > 0, own[DECIDED_PREFIX + name]
        probability = own[PROBABILITY_PREFIX + name]
        part = own[["sample", "trial"]].assign(
            label=has.map({True: name, False: f"{NOT}{name}"}),
            predicted=given.map({True: name, False: f"{NOT}{name}"}),
            confidence=probability.where(given, 1 - probability),
        )
        parts.append(part[has != given])
    wrong = pd.concat(parts, ignore_index=True) if parts else own.iloc[:0]
    if wrong.empty:
        return []
    worst: dict[str, Mistake] = {}
    for each in _ranked(wrong, own):
        worst.setdefault(each.sample, each)
    return list(worst.values())[:count]


def _ranked(wrong: pd.DataFrame, own: pd.DataFrame) -> list[Mistake]:
    """The mistakes in the rows `wrong` of all rows `own`, the worst first."""
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
        for row in ranked.to_dict("records")
    ]
