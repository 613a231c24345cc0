"""Run folders of which every prediction is given, with folds or without, for tests of the audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from bench.results.folder import Run, RunStore, prediction_columns, read_run, write_json
from tests.results.scored_run import Scored, scored_row

CLASSES = ("a", "b")

Predicted = Mapping[str, tuple[int, float]]
"""Sample → index of its label, and the probability of the second class."""


def audited_run(
    folder: Path,
    test: Mapping[tuple[int, int | None], Predicted],
    *,
    val: Mapping[tuple[int, int | None], Predicted] | None = None,
    data: Mapping[str, Any] | None = None,
    classes: Sequence[str] = CLASSES,
) -> Run:
    """One config; `test` and `val` have what the trial of each seed and fold predicted."""
    store, ids = RunStore(folder), []
    for (seed, fold), own in test.items():
        row = scored_row(Scored(right=np.ones((1, 1), bool)), seed, np.ones(1, bool))
        row |= {} if fold is None else {"fold": fold, "trial": f"{row['trial']}-{fold}"}
        sides = [_columns(own, "test", classes)]
        if val is not None and (seed, fold) in val:
            sides.append(_columns(val[seed, fold], "val", classes))
        columns = {name: list(chain(*(side[name] for side in sides))) for name in sides[0]}
        store.write_part(row, (), columns)
        ids.append(row["trial"])
    store.consolidate(ids)
    write_json(folder / "environment.json", {"cpu": "made-up processor"})
    write_json(folder / "data.json", {"classes": list(classes), **(data or {})})
    (folder / "suite.yaml").write_text("name: made_up\n")
    return read_run(folder)


def _columns(own: Predicted, split: str, classes: Sequence[str]) -> dict[str, Any]:
    second = np.array([probability for _, probability in own.values()])
    return prediction_columns(
        samples=list(own),
        labels=np.array([label for label, _ in own.values()]),
        probabilities=np.stack([1 - second, second], axis=1)[:, : len(classes)],
        classes=classes,
        split=split,
    )
