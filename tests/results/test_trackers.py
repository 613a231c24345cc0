"""Runs exported to the real TensorBoard and MLflow and read back with their own readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.errors import BenchError
from bench.results.folder import Run
from bench.results.trackers import TRIAL_TAG, track
from tests.made_up_run import made_up_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    def diverge(row: dict[str, Any], curves: dict[str, Any]) -> None:
        if row["strategy"] == "b":
            curves["loss"][1] = float("nan")

    folder = tmp_path_factory.mktemp("runs") / "tracked"
    return made_up_run(
        folder, strategies=["a", "b"], schedules=["s"], seeds=2, epochs=3, change=diverge
    )


def _curve(run: Run, trial: str, split: str, metric: str) -> dict[int, float]:
    own = run.curves[(run.curves["trial"] == trial) & (run.curves["split"] == split)]
    known = own[np.isfinite(own[metric].astype(float))]
    return dict(zip(known["epoch"].astype(int), known[metric].astype(float), strict=True))


def test_tensorboard_reads_curves_and_settings(run: Run) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    for _ in range(2):  # a second export replaces the first
        (place,) = track(run, "tensorboard")
    assert place == f"tensorboard --logdir {run.folder / 'tensorboard'}"
    folders = {
        path.name.rpartition("-")[2]: path for path in (run.folder / "tensorboard").iterdir()
    }
    assert set(folders) == set(run.trials["trial"])
    for row in run.trials.to_dict("records"):
        events = EventAccumulator(str(folders[row["trial"]])).Reload()
        for split in ("train", "val"):
            for metric in ("accuracy", "loss"):
                found = {e.step: e.value for e in events.Scalars(f"{metric}/{split}")}
                expected = _curve(run, row["trial"], split, metric)
                assert found == pytest.approx(expected, rel=1e-6)
        (score,) = events.Scalars("chosen/test_accuracy")
        assert (score.step, score.value) == (row["best_epoch"], pytest.approx(row["test_accuracy"]))
        stored = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        settings = HParamsPluginData.FromString(stored).session_start_info.hparams
        assert settings["strategy"].string_value == row["strategy"]
        assert settings["seed"].string_value == str(row["seed"])
        assert settings["momentum"].string_value == "0.9"


def test_mlflow_reads_runs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for _ in range(2):  # what is there already is left alone
        (place,) = track(run, "mlflow")
    uri = place.rpartition(" ")[2]
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("tracked")
    found = {r.data.tags[TRIAL_TAG]: r for r in client.search_runs([experiment.experiment_id])}
    assert set(found) == set(run.trials["trial"])
    for row in run.trials.to_dict("records"):
        exported = found[row["trial"]]
        assert exported.info.status == "FINISHED"
        assert exported.info.run_name == f"{row['strategy']} · seed {row['seed']}"
        assert exported.data.params["strategy"] == row["strategy"]
        assert exported.data.metrics["chosen/test_accuracy"] == pytest.approx(row["test_accuracy"])
        history = client.get_metric_history(exported.info.run_id, "loss/val")
        expected = _curve(run, row["trial"], "val", "loss")
        assert {m.step: m.value for m in history} == pytest.approx(expected)


def test_where_mlflow_is_can_be_said(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "elsewhere").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert track(run, "mlflow") == [
        f"mlflow ui --backend-store-uri {(tmp_path / 'elsewhere').as_uri()}"
    ]
    assert (tmp_path / "elsewhere").is_dir()


def test_unknown_and_missing_trackers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BenchError, match="among tensorboard, mlflow, got 'wandb'"):
        track(run, "wandb")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(BenchError, match=r'pip install "bench\[mlflow\]"'):
        track(run, "mlflow")
    assert track(run, "") == []
