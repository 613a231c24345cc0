"""Which labels each trial gives a sample, where samples have several: probabilities, decided."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from bench.methods.target_tasks import HALF
from bench.results.folder.columns import (
    PROBABILITY_PREFIX,
    THRESHOLDS,
    class_names,
    target_task_of,
)

if TYPE_CHECKING:
    import pandas as pd

DECIDED_PREFIX = "decided_"


def with_decisions(predictions: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Predictions of several labels a sample with a column `decided_NAME` each; others as they are.

    A label is given where its probability reaches the threshold that the trial's validation chose.
    """
    if target_task_of(predictions) != "multi_label":
        return predictions
    names = class_names(predictions)
    known = trials[THRESHOLDS] if THRESHOLDS in trials else trials["trial"].map(lambda _: None)
    by_trial = {
        str(trial): _thresholds(text, len(names))
        for trial, text in zip(trials["trial"], known, strict=True)
    }
    rows, places = _places(predictions["trial"])
    limits = np.array([by_trial[trial] for trial in places]).reshape(-1, len(names))[rows]
    columns = [PROBABILITY_PREFIX + name for name in names]
    given = predictions[columns].to_numpy() >= limits
    return predictions.assign(
        **{DECIDED_PREFIX + name: given[:, at] for at, name in enumerate(names)}
    )


def _thresholds(text: object, labels: int) -> list[float]:
    """Those of a trial; where it has none, or another number of them, one half."""
    found = json.loads(text) if isinstance(text, str) else []
    return found if len(found) == labels else [HALF] * labels


def _places(trials: pd.Series[str]) -> tuple[np.ndarray, list[str]]:
    import pandas as pd

    rows, names = pd.factorize(trials)
    return rows, [str(name) for name in names]
