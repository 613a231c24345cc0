"""A suite of images with other channels, from a folder of arrays to a prediction."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import bench
from bench.errors import BenchError, SuiteError
from bench.execution.engine import make_training
from bench.results.folder.checks import input_problem
from bench.results.folder.inputs import InputRule
from bench.results.report.inputs import sentence
from bench.runs.inputs import describe_inputs
from bench.runs.prepare import PreparedSets, StartingWeights, make_job
from bench.runs.resolve import resolve_run
from bench.training.loop import train
from tests.models.small import small_network

SIDE = 32


def write_arrays(root: Path, channels: int, largest: int) -> Path:
    """Two classes that one of the channels tells apart."""
    kind = np.uint8 if largest <= 255 else np.uint16
    for number in range(24):
        draw = np.random.default_rng(number)
        array = draw.integers(0, largest // 2, (SIDE, SIDE, channels))
        if number % 2:
            array[:, :, -1] += largest // 2
        folder = root / ("full" if number % 2 else "dark")
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{number:02}.npy", array.astype(kind))
    return root


def write_suite(folder: Path, channels: int, **changes: Any) -> Path:
    network = small_network("shufflenet_v2_x0_5", seed=3)
    torch.save(network.model.state_dict(), folder / "start.pth")
    suite = {
        "name": "many",
        "dataset": {"path": "./set", "channels": channels},
        "backbone": "shufflenet_v2_x0_5",
        "weights": {"file": "start.pth", "mean": 0.5, "std": 0.25},
        "strategy": ["linear_probe", "full_finetune"],
        "augmentation": "none",
        "epochs": 2,
        "batch_size": 8,
        "lr": 0.01,
        "precision": "fp32",
        "seed": 0,
        "image_size": SIDE,
        **changes,
    }
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(suite, sort_keys=False))
    return path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))


def test_a_trial_of_other_channels(tmp_path: Path) -> None:
    write_arrays(tmp_path / "set", 5, 4000)
    resolved = resolve_run(write_suite(tmp_path, 5, strategy="full_finetune"), out=tmp_path)
    told = sentence(InputRule.of(describe_inputs(resolved)[0]))
    assert told.startswith(
        "Images have 5 channels of 12 bits. The first layer of a network takes 5"
    )
    assert "in turns, times 3/5. Without starting weights it is drawn anew." in told
    assert "mean 0.5, 0.5, 0.5, 0.5, 0.5 and std" in told
    assert input_problem(describe_inputs(resolved)[0]) is None
    sets = PreparedSets(resolved, None)
    (trial,) = resolved.trials
    job = make_job(resolved, trial, StartingWeights(resolved, None), sets)
    assert not isinstance(job, BenchError)
    training = make_training(job, sets.data(trial), sets.splits(trial))
    outcome = train(training, lambda _: None)
    assert outcome.best.test.loss < 10
    assert training.network.model.get_parameter("conv1.0.weight").shape[1] == 5
    (view, *_) = sets.views()
    assert (view.pixels.shape[2], view.pixels.dtype) == (3, np.uint8)


@pytest.mark.campaign
def test_from_arrays_to_a_prediction(tmp_path: Path) -> None:
    write_arrays(tmp_path / "set", 5, 4000)
    suite = write_suite(tmp_path, 5, augmentation=["none", "flip_crop"])
    plan = bench.plan(suite, out=tmp_path / "results")
    assert "Images have 5 channels of 12 bits." in plan.inputs[0]
    assert "in turns, times 3/5" in plan.inputs[0]
    run = bench.run(suite, out=tmp_path / "results")
    assert set(run.trials["status"]) == {"complete"}
    report = (run.folder / "report.md").read_text()
    assert "Images have 5 channels of 12 bits." in report
    for trial in run.trials["trial"]:
        model = bench.load(run.folder, trial)
        assert (model.spec.channels, model.preprocessing.deep) == (5, True)
        rows = run.predictions
        rows = rows[rows["trial"] == trial]
        found = model.predict([tmp_path / "set" / sample for sample in rows["sample"]])
        for name in model.classes:
            stored = rows[f"probability_{name}"].to_numpy()
            assert np.array_equal(found[f"probability_{name}"].to_numpy(np.float32), stored)
    whole = model.predict(tmp_path / "set")
    assert len(whole) == 24
    np.save(tmp_path / "other.npy", np.zeros((9, 9, 4), np.uint16))
    (failure,) = model.predict(tmp_path / "other.npy")["failure"]
    assert failure == "it has 4 channels, 5 are expected"
    with pytest.raises(BenchError, match=r"must be uint16 \[height, width, 5\], got uint8"):
        model.predict(np.zeros((9, 9, 5), np.uint8))


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("channels", "largest", "formats"),
    [(1, 255, ["onnx"]), (5, 4000, ["safetensors", "torch-export"])],
)
def test_other_channels_are_exported(
    tmp_path: Path, channels: int, largest: int, formats: list[str]
) -> None:
    pytest.importorskip("onnxruntime")
    write_arrays(tmp_path / "set", channels, largest)
    suite = write_suite(
        tmp_path, channels, strategy="from_scratch", weights="none", backbone="resnet18", epochs=1
    )
    run = bench.run(suite, out=tmp_path / "results")
    for format in formats:
        exported = bench.export(run.folder, format=format)
        assert exported.check.missing is None
        assert exported.check.changed_labels == 0
        assert exported.check.resized is not None
        assert exported.check.resized.logit_difference < 0.05
    if largest > 255:
        with pytest.raises(BenchError, match="preprocessing of 8-bit images"):
            bench.export(run.folder, format="torch-export", preprocessing="inside")


def test_uploads_of_another_number_are_told(tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    from bench.data.dataset import PixelForm
    from bench.prediction.serve.limits import Limits
    from bench.prediction.serve.uploads import RefusedError, Upload, decoded

    content = io.BytesIO()
    np.save(content, np.zeros((8, 8, 4), np.uint8))
    upload = Upload(name="a.npy", content=content.getvalue())
    assert decoded(upload, Limits(), form=PixelForm(channels=4)).shape == (8, 8, 4)
    with pytest.raises(RefusedError, match="it has 4 channels, 2 are expected") as refused:
        decoded(upload, Limits(), form=PixelForm(channels=2))
    assert refused.value.status == 422


@pytest.mark.parametrize("largest", [255, 4000])
def test_colours_need_red_green_and_blue(tmp_path: Path, largest: int) -> None:
    write_arrays(tmp_path / "set", 4, largest)
    depth = 8 if largest == 255 else 12
    for name in ("standard", "advanced", "trivial_augment", "rand_augment", "aug_mix"):
        suite = write_suite(tmp_path, 4, augmentation=name)
        with pytest.raises(SuiteError, match=rf"'{name}' changes hues.*4 channels of {depth} bits"):
            resolve_run(suite, out=tmp_path / "results")
