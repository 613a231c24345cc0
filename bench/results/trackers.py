"""Finished runs handed to the trackers that people already use, from the run folder's files."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError, known_names, without_secrets, without_secrets_of
from bench.results.grid import AXES, complete_trials, is_missing, read_grid, value_text

if TYPE_CHECKING:
    import pandas as pd

    from bench.results.folder import Run
    from bench.results.metric import Metric

TRIAL_TAG = "bench.trial"


def track(run: Run, names: str | Sequence[str]) -> list[str]:
    """Export to each of the trackers; returns where each of them is.

    Raises `BenchError` for an unknown name, or if the tracker's package is not installed.
    """
    return [without_secrets(TRACKERS[name](run)) for name in known_trackers(names)]


def known_trackers(names: str | Sequence[str]) -> list[str]:
    """The names, as text separated by commas; raises `BenchError` unless all can be had."""
    from importlib.util import find_spec

    chosen = known_names("--track", names, TRACKERS)
    for name in chosen:
        if find_spec(name) is None:
            raise BenchError(f'--track {name} needs a package: pip install "bench[{name}]"')
    return chosen


def to_tensorboard(run: Run) -> str:
    """Event files in the run's folder `tensorboard`, a folder a trial, with its settings.

    What an earlier export left there is replaced.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    folder = run.folder / "tensorboard"
    shutil.rmtree(folder, ignore_errors=True)
    for trial, label, curves in _trials(run):
        place = folder / f"{re.sub(r'[^A-Za-z0-9._=-]+', '-', label)[:100]}-{trial['trial']}"
        writer = EventFileWriter(str(place))
        when = _seconds(trial["finished"])
        for summary in _settings_summaries(trial):
            writer.add_event(Event(summary=summary, wall_time=when))
        for name, step, value in _points(trial, curves, run.metrics):
            scalar = Summary(value=[Summary.Value(tag=name, simple_value=value)])
            writer.add_event(Event(summary=scalar, step=step, wall_time=when))
        writer.close()
    return f"tensorboard --logdir {folder}"


def to_mlflow(run: Run) -> str:
    """Runs of the experiment named like the suite, at `MLFLOW_TRACKING_URI`.

    Without that variable, in the folder `mlruns` of the run's folder. Trials that are there already
    are left alone.
    """
    from mlflow import MlflowClient
    from mlflow.entities import Metric as Point
    from mlflow.entities import Param
    from mlflow.exceptions import MlflowException

    place = os.environ.get("MLFLOW_TRACKING_URI") or (run.folder / "mlruns").resolve().as_uri()
    # MLflow asks those who keep runs in files to say that they mean it.
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    client = MlflowClient(tracking_uri=place)
    name = str(run.suite.get("name", run.folder.name))
    try:
        found = client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else client.create_experiment(name)
        for trial, label, curves in _trials(run):
            known = client.search_runs([experiment], f"tags.`{TRIAL_TAG}` = '{trial['trial']}'")
            if known:
                continue
            started, finished = (round(1000 * _seconds(trial[k])) for k in ("started", "finished"))
            tags = {TRIAL_TAG: str(trial["trial"])}
            made = client.create_run(experiment, started, tags=tags, run_name=label)
            points = [
                Point(n, v, finished, step) for n, step, v in _points(trial, curves, run.metrics)
            ]
            params = [Param(key, value[:500]) for key, value in _settings(trial).items()]
            client.log_batch(made.info.run_id, params=params)
            for start in range(0, len(points), 1000):
                client.log_batch(made.info.run_id, metrics=points[start : start + 1000])
            client.set_terminated(made.info.run_id, end_time=finished)
    except MlflowException as error:
        said = without_secrets_of(place, str(error))
        raise BenchError(f"MLflow at {place} does not take the run: {said}") from None
    return f"mlflow ui --backend-store-uri {place}"


TRACKERS: Mapping[str, Callable[[Run], str]] = {"tensorboard": to_tensorboard, "mlflow": to_mlflow}


def _trials(run: Run) -> Iterator[tuple[dict[str, Any], str, pd.DataFrame]]:
    """(row, label, curves) of every complete trial."""
    grid = read_grid(run.trials)
    curves = dict(list(run.curves.groupby("trial", sort=False)))
    for row in complete_trials(run.trials).to_dict("records"):
        own = curves.get(row["trial"], run.curves.iloc[:0])
        yield {str(key): value for key, value in row.items()}, grid.trial_label(row), own


def _settings(trial: Mapping[str, Any]) -> dict[str, str]:
    known = {
        axis: trial[axis]
        for axis in ("dataset", *AXES, "seed", "fold")
        if not is_missing(trial.get(axis))
    }
    if not is_missing(trial["settings"]):
        known |= {k: v for k, v in json.loads(trial["settings"]).items() if k not in known}
    return {name: value_text(value) for name, value in known.items()}


def _points(
    trial: Mapping[str, Any], curves: pd.DataFrame, metrics: Sequence[Metric]
) -> Iterator[tuple[str, int, float]]:
    """(name, epoch, value) of everything finite that was measured."""
    names = [metric.name for metric in metrics]
    scores = [f"{split}_{name}" for split in ("test", "val") for name in (*names, "loss")]
    for row in curves.sort_values("epoch").to_dict("records"):
        for metric in (*names, "loss"):
            if not is_missing(row[metric]) and math.isfinite(row[metric]):
                yield f"{metric}/{row['split']}", int(row["epoch"]), float(row[metric])
        if row["split"] == "train":
            yield "lr", int(row["epoch"]), float(row["lr"])
    epoch = 0 if is_missing(trial["best_epoch"]) else int(trial["best_epoch"])
    for name in (*scores, "train_seconds"):
        if not is_missing(trial[name]) and math.isfinite(trial[name]):
            yield f"chosen/{name}", epoch, float(trial[name])


def _settings_summaries(trial: Mapping[str, Any]) -> Iterator[Any]:
    """What TensorBoard's HParams tab reads: the settings of a session, and its end."""
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.plugins.hparams.metadata import (
        PLUGIN_NAME,
        SESSION_END_INFO_TAG,
        SESSION_START_INFO_TAG,
    )
    from tensorboard.plugins.hparams.plugin_data_pb2 import (
        HParamsPluginData,
        SessionEndInfo,
        SessionStartInfo,
    )

    start = SessionStartInfo(start_time_secs=_seconds(trial["started"]))
    for name, value in _settings(trial).items():
        start.hparams[name].string_value = value
    end = SessionEndInfo(end_time_secs=_seconds(trial["finished"]))
    for tag, content in (
        (SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start)),
        (SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end)),
    ):
        data = SummaryMetadata.PluginData(
            plugin_name=PLUGIN_NAME, content=content.SerializeToString()
        )
        metadata = SummaryMetadata(plugin_data=data)
        yield Summary(value=[Summary.Value(tag=tag, metadata=metadata)])


def _seconds(moment: Any) -> float:
    """Seconds since 1970; 0 for what is not known."""
    return 0.0 if is_missing(moment) else float(moment.timestamp())
