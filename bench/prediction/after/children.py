"""From the section `after` of a suite to children: planned, made where they are not there, kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError
from bench.keys import content_hash
from bench.methods.after import (
    Ensemble,
    Interpolation,
    Soup,
    TargetStatistics,
    Temperature,
    Views,
    Vote,
    recipe,
)
from bench.methods.metrics import measure
from bench.methods.target_tasks import MULTI_LABEL, chosen_thresholds
from bench.prediction.after.finished import Finished, Made, Planned
from bench.prediction.after.from_predictions import ensembles, temperatures, votes
from bench.results.analysis.predicted import Predicted
from bench.results.folder import columns_of_task, output_names
from bench.results.folder.children import read_child_predictions, read_children, write_children
from bench.results.folder.columns import THRESHOLDS
from bench.suite import Entry

if TYPE_CHECKING:
    import pandas as pd

VERSION = 2
"""Raised with every change that alters what children are; part of their ids."""

SAVE_SECONDS = 30.0
"""A killed run loses about so much work at most."""

Row = dict[str, Any]


def make_children(
    finished: Finished, entries: Sequence[Entry], *, status: Callable[[str], None]
) -> None:
    """Make what the entries say and is not in the run folder yet, and forget everything else.

    `status` is told what is being made. A child that cannot be made has a row that says why.
    """
    wanted = {
        child_id(planned, entry, finished): planned
        for entry in entries
        for planned in plan(entry, finished)
    }
    kept = _Kept(finished, wanted)
    saved = time.monotonic()
    for child, planned in wanted.items():
        if child in kept.rows:
            continue
        status(f"{planned.name} of {planned.of}")
        kept.add(child, planned)
        if time.monotonic() - saved > SAVE_SECONDS:
            kept.save()
            saved = time.monotonic()
    kept.save()


def plan(entry: Entry, finished: Finished) -> Iterator[Planned]:
    """The children of one entry of the section."""
    match recipe(entry.name, dict(entry.options)):
        case Ensemble() as found:
            yield from ensembles(found, entry.label, finished)
        case Vote() as found:
            yield from votes(found, entry.label, finished)
        case Temperature():
            yield from temperatures(entry.label, finished)
        case Soup() | Interpolation() | Views() | TargetStatistics() as found:
            from bench.prediction.after.from_weights import children_of_weights

            yield from children_of_weights(found, entry.label, finished)


def child_id(planned: Planned, entry: Entry, finished: Finished) -> str:
    """Content hash of what the child is made from: trials that were trained anew are others."""
    moments = dict(zip(finished.trials["trial"], finished.trials["finished"], strict=True))
    return content_hash(
        {
            "version": VERSION,
            "entry": entry.identity(),
            "of": planned.of,
            "seed": planned.seed,
            "base": planned.base,
            "trials": [(trial, str(moments[trial])) for trial in planned.candidates],
        }
    )


class _Kept:
    """The rows and predictions of the children so far."""

    def __init__(self, finished: Finished, wanted: Mapping[str, Planned]) -> None:
        import pandas as pd

        self._finished = finished
        self._order = list(wanted)
        try:
            before = read_children(finished.run.folder)
            predictions = read_child_predictions(finished.run.folder, before)
        except BenchError:  # damaged: made anew
            before, predictions = pd.DataFrame({"child": []}), _no_predictions()
        records = before.astype(object).where(before.notna(), None).to_dict("records")
        self.rows: dict[str, Row] = {
            str(row["child"]): {str(name): value for name, value in row.items()}
            for row in records
            if row["child"] in wanted and row["status"] == "complete"
        }
        self._changed = set(before["child"]) != set(wanted) or len(self.rows) < len(wanted)
        own = predictions[predictions["trial"].isin(list(self.rows))]
        self._predictions: list[pd.DataFrame] = [] if own.empty else [own]

    def add(self, child: str, planned: Planned) -> None:
        """Make a child; why it cannot be is kept in its place."""
        started = time.monotonic()
        row: Row = {
            "child": child,
            "name": planned.name,
            "of": planned.of,
            "config": planned.config,
            "seed": planned.seed,
            "base": planned.base,
        }
        try:
            made = planned.make()
        except BenchError as error:
            self.rows[child] = {**row, "status": "skipped", "error": str(error)}
            return
        self.rows[child] = {
            **row,
            "status": "complete",
            "members": json.dumps(dict(made.members)),
            "chosen": json.dumps(dict(made.chosen)),
            "passes": made.passes,
            **self._figures(made),
            "seconds": time.monotonic() - started,
        }
        self._predictions += [
            self._columns(child, split, own)
            for split, own in (("test", made.test), ("val", made.val))
            if own is not None
        ]

    def save(self) -> None:
        """Write both tables, if anything is new."""
        import pandas as pd

        if not self._changed:
            return
        rows = [self.rows[child] for child in self._order if child in self.rows]
        whole = pd.concat(self._predictions) if self._predictions else _no_predictions()
        write_children(self._finished.run.folder, rows, whole)

    def _figures(self, made: Made) -> Row:
        primary, thresholds = self._finished.run.metric.name, self._thresholds(made)
        figures = {
            f"{split}_{name}": value
            for split, own in (("val", made.val), ("test", made.test))
            if own is not None
            for name, value in measure(primary, own.labels, own.probabilities, thresholds).items()
        }
        told = {} if thresholds is None else {THRESHOLDS: json.dumps(thresholds)}
        return {**figures, **told}

    def _thresholds(self, made: Made) -> tuple[float, ...] | None:
        """From which probability on each label is given, as its own validation chooses."""
        if self._finished.target_task is not MULTI_LABEL or made.val is None:
            return None
        return chosen_thresholds(made.val.labels, made.val.probabilities)

    def _columns(self, child: str, split: str, own: Predicted) -> pd.DataFrame:
        import pandas as pd

        columns = columns_of_task(
            self._finished.run.target_task,
            samples=own.samples,
            truth=own.labels,
            answers=own.probabilities,
            names=output_names(self._finished.run.predictions),
            split=split,
        )
        return pd.DataFrame({"trial": child, **columns})


def _no_predictions() -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({"trial": []}, dtype=str)
