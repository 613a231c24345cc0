"""What trials of two runs scored on the test samples that both runs have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.results.analysis.predicted import truth_columns
from bench.results.analysis.scores import Scores, TrialScores, trial_scores

if TYPE_CHECKING:
    import pandas as pd

    from bench.results.metric import Metric


@dataclass(frozen=True, kw_only=True, eq=False)
class JointScores:
    """Scores on `common` test samples: those of which both runs have the id with the same label
    (or targets).

    `before` and `after` count the test samples of each run, `relabelled` those that both have with
    different labels. `scored` is None without common samples, or where the metric is not known.
    """

    before: int
    after: int
    common: int
    relabelled: int
    scored: TrialScores | None

    def of(self, side: int, trials: Mapping[int, tuple[str, ...]]) -> Scores | None:
        """The scores of a trial a seed of the first (0) or the second (1) run; None without any."""
        if self.scored is None:
            return None
        return self.scored.of(
            {seed: tuple(_name(side, trial) for trial in own) for seed, own in trials.items()}
        )


def joint_scores(before: pd.DataFrame, after: pd.DataFrame, metric: Metric) -> JointScores:
    """The scores of the predictions of two runs.

    They are computed together: a metric that is no mean over samples is scored by blocks of
    samples, which must be the same ones.
    """
    import pandas as pd

    sides = (before, after)
    labels = [each[["sample", *truth_columns(each)]].drop_duplicates() for each in sides]
    ids = [set(each["sample"]) for each in labels]
    every = pd.concat(labels, ignore_index=True).drop_duplicates()
    # An id with two labels, in the two runs or in one of them, is not one sample.
    unclear = set(every.loc[every["sample"].duplicated(), "sample"])
    common = (ids[0] & ids[1]) - unclear
    frames = []
    for side, predictions in enumerate(sides):
        own = predictions[predictions["sample"].isin(common)]
        names = {trial: _name(side, trial) for trial in own["trial"].unique()}
        frames.append(own.assign(trial=own["trial"].map(names)))
    return JointScores(
        before=len(ids[0]),
        after=len(ids[1]),
        common=len(common),
        relabelled=len(ids[0] & ids[1] & unclear),
        scored=trial_scores(pd.concat(frames, ignore_index=True), metric) if common else None,
    )


def _name(side: int, trial: str) -> str:
    """Both runs may have a trial of the same id."""
    return f"{side}/{trial}"
