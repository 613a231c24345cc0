"""Why a trial was trained, kept, shared, skipped or failed: read off the run's files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from bench.errors import BenchError, counted, nearest
from bench.methods.plan import FITTED
from bench.results.folder import Run
from bench.results.grid import is_missing, read_grid


def find_trial(run: Run, name: str) -> dict[str, Any]:
    """The row of the trial whose id begins with `name`, or of `CONFIG LABEL · seed N[ · fold M]`.

    Raises `BenchError` if none or several do.
    """
    grid = read_grid(run.trials)
    rows = [{str(k): v for k, v in row.items()} for row in run.trials.to_dict("records")]
    labels = [grid.trial_label(row) for row in rows]
    found = [
        row
        for row, label in zip(rows, labels, strict=True)
        if str(row["trial"]).startswith(name) or label == name
    ]
    if len(found) == 1:
        return found[0]
    if found:
        first = ", ".join(str(row["trial"]) for row in found[:5])
        raise BenchError(f"TRIAL must name one trial, {name!r} begins {len(found)}: {first}")
    ids = [str(row["trial"]) for row in rows]
    raise BenchError(
        f"TRIAL must be the id of a trial of {run.folder} or the beginning of one, got {name!r}"
        f"{nearest(name, [*ids, *labels])}"
    )


def why(run: Run, trial: Mapping[str, Any]) -> Iterator[str]:
    """Sentences about what became of the trial, and why."""
    status = str(trial["status"])
    epochs = _epochs(run, trial)
    if status == "skipped":
        yield f"It was skipped before anything ran: {trial['error'] or 'no reason was given'}."
        return
    if status == "failed":
        yield f"It failed after {counted(epochs, 'finished epoch')}: {trial['error']}"
        if is_missing(trial["started"]):
            yield (
                "It failed for an external reason (missing file, full disk, killed process), so "
                "the next run retries it."
            )
        else:
            yield "The next run skips it; add --retry failed to run it again."
        return
    yield from _origin(run, trial)
    yield from _shared(run, trial)
    asked = int(trial["epochs"])
    if epochs < asked and epochs:
        yield (
            f"It stopped early, after {epochs} of {counted(asked, 'epoch')}: validation had not "
            "improved for as many epochs as early_stopping allows."
        )
    if epochs and run.suite.get("choose") == "last":
        yield f"Epoch {trial['best_epoch']}, its last, counts: the suite says choose: last."
    elif epochs:
        yield (
            f"Epoch {trial['best_epoch']} was chosen because it has the {run.metric.best} "
            f"validation {run.metric.label} (ties: the lower validation loss, then the earlier "
            "epoch)."
        )
    elif trial["head"] == FITTED:
        yield "It has no epochs: its head was fitted at once, on features of the frozen backbone."
        yield from _chosen(trial)
    else:
        yield "It trains nothing: it was scored as it is."


def _chosen(trial: Mapping[str, Any]) -> Iterator[str]:
    """What a head was fitted with: what validation chose, and what the strategy gives."""
    values = {} if is_missing(trial["chosen"]) else json.loads(str(trial["chosen"]))
    label = str(trial["strategy"])
    told: dict[bool, list[str]] = {True: [], False: []}
    for name, value in values.items():
        given = f"({name}=" in label or f", {name}=" in label
        told[given].append(f"{name} = {value:.4g}")
    if told[False]:
        yield f"Validation chose {', '.join(told[False])} (of equals, what is regularised more)."
    if told[True]:
        yield f"It was fitted with {', '.join(told[True])}, as the strategy says."


def _epochs(run: Run, trial: Mapping[str, Any]) -> int:
    own = run.curves[run.curves["trial"] == trial["trial"]]
    return 0 if own.empty else int(own["epoch"].max())


def _origin(run: Run, trial: Mapping[str, Any]) -> Iterator[str]:
    finished, started = trial["finished"], run.environment.get("started")
    if is_missing(finished):
        return
    when = finished.strftime("%Y-%m-%d %H:%M UTC")
    if started and finished < pd.Timestamp(datetime.fromisoformat(str(started))):
        yield (
            f"It was trained by an earlier start of this run (finished {when}) and kept: its id, a "
            "hash of everything that changes its numbers, is still that of the suite."
        )
    else:
        yield f"It was trained by the last start of this run (finished {when})."


def _shared(run: Run, trial: Mapping[str, Any]) -> Iterator[str]:
    reused = 0 if is_missing(trial["reused_epochs"]) else int(trial["reused_epochs"])
    if not reused:
        return
    grid = read_grid(run.trials)
    twins = [
        grid.trial_label(row)
        for row in run.trials.to_dict("records")
        if row["trial"] != trial["trial"]
        and _begins_alike(run, str(trial["trial"]), str(row["trial"]), reused)
    ]
    names = f" (such as {twins[0]})" if twins else ""
    epochs = "epoch was" if reused == 1 else f"{reused} epochs were"
    yield (
        f"Its first {epochs} trained once together with an earlier trial{names}: everything that "
        "training uses until then is the same in both."
    )


def _begins_alike(run: Run, first: str, second: str, epochs: int) -> bool:
    one, other = (
        run.curves[(run.curves["trial"] == trial) & (run.curves["epoch"] <= epochs)]
        .sort_values(["split", "epoch"])["loss"]
        .to_numpy()
        for trial in (first, second)
    )
    return len(one) > 0 and np.array_equal(one, other)
