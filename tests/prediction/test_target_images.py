"""Trials of regression and of several labels, trained on images: all that is done with them."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

import bench
from bench.cli.main import app
from bench.data import open_dataset
from bench.errors import BenchError
from bench.prediction.export import export
from bench.prediction.model import TrainedModel
from bench.results.folder import output_names
from bench.results.folder.run import read_run

pytestmark = [pytest.mark.campaign, pytest.mark.xdist_group("target_images")]

TASKS = ("regression", "multi_label")
DATA: dict[str, dict[str, Any]] = {
    "regression": {"name": "angles", "train": 24, "val": 12, "test": 40, "image_size": 32},
    "multi_label": {"name": "scenes", "train": 40, "val": 24, "test": 40, "image_size": 32},
}
AFTER = ["ensemble", {"name": "ensemble", "members": "greedy"}, "soup", "wise_ft", "tta"]
SENT = {"Content-Type": "image/png"}
OF_CLASSES = re.compile(r"accura|confus|calibrat|\bclass(es)?\b(?!=)", re.IGNORECASE)


@pytest.fixture(scope="module", params=TASKS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bench.Run:
    """Trained once; its folder must not be changed."""
    suite = {
        "name": request.param,
        "task": request.param,
        "dataset": DATA[request.param],
        "backbone": "shufflenet_v2_x0_5",
        "weights": {"name": "fractals", "classes": 3, "images_per_class": 8, "epochs": 1},
        "strategy": ["linear_probe", "full_finetune"],
        "schedule": "constant",
        "augmentation": "none",
        "epochs": 2,
        "batch_size": 8,
        "lr": 0.002,
        "precision": "fp32",
        "seed": [0, 1],
        "after": AFTER,
    }
    return bench.run(suite, out=tmp_path_factory.mktemp("runs"), device="cpu", workers=1)


@pytest.fixture(scope="module")
def model(run: bench.Run) -> TrainedModel:
    return bench.load(run.folder, device="cpu")


@pytest.fixture(scope="module")
def pictures(run: bench.Run) -> dict[str, np.ndarray]:
    """The test images by their ids."""
    options = dict(run.suite["dataset"])
    dataset = open_dataset(options.pop("name"), options)
    places = [place for place, name in enumerate(dataset.sample_ids) if name.startswith("test")]
    read: Any = dataset.read(places)
    return {dataset.sample_ids[place]: own for place, own in zip(places, read, strict=True)}


def _stored(run: bench.Run, model: TrainedModel) -> pd.DataFrame:
    own = run.predictions[run.predictions["trial"] == model.chosen.id]
    return own.set_index("sample")


def _columns(run: bench.Run) -> list[str]:
    prefix = "predicted_" if run.target_task == "regression" else "probability_"
    return [prefix + name for name in output_names(run.predictions)]


def test_an_opened_trial_predicts_what_the_run_stored(
    run: bench.Run, model: TrainedModel, pictures: dict[str, np.ndarray]
) -> None:
    stored = _stored(run, model)
    images = [pictures[sample] for sample in stored.index]
    regression = run.target_task == "regression"
    found = model.values(images) if regression else model.probabilities(images)
    assert np.array_equal(found, stored[_columns(run)].to_numpy())
    assert model.classes == tuple(output_names(run.predictions))
    with pytest.raises(BenchError, match="use values" if regression else "use probabilities"):
        (model.probabilities if regression else model.values)(images)
    frame = model.predict(images)
    assert np.array_equal(frame[_columns(run)].to_numpy(), stored[_columns(run)].to_numpy())
    if not regression:
        given = [
            "|".join(name for name in model.classes if row[f"decided_{name}"])
            for row in stored.to_dict("records")
        ]
        assert frame["predicted"].tolist() == given


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_files_are_written_with_the_columns_of_the_task(
    run: bench.Run, pictures: dict[str, np.ndarray], tmp_path: Path, suffix: str
) -> None:
    for number, own in enumerate(list(pictures.values())[:3]):
        Image.fromarray(own).save(tmp_path / f"{number}.png")
    out = tmp_path / f"out{suffix}"
    found = bench.predict(run.folder, sorted(tmp_path.glob("*.png")), out=out, device="cpu")
    read = {
        ".csv": pd.read_csv,
        ".parquet": pd.read_parquet,
        ".jsonl": lambda path: pd.DataFrame(map(json.loads, path.read_text().splitlines())),
    }[suffix](out)
    said = [] if run.target_task == "regression" else ["predicted"]
    assert list(read) == ["path", *said, *_columns(run), "failure"]
    assert read[_columns(run)].to_numpy() == pytest.approx(
        found.table[_columns(run)].to_numpy(), rel=1e-12
    )


def test_what_has_no_meaning_is_refused(run: bench.Run, tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "x.png")
    with pytest.raises(BenchError, match="min_confidence is the least probability of the one cl"):
        bench.predict(run.folder, tmp_path / "x.png", min_confidence=0.5, device="cpu")
    command = ["predict", str(run.folder), str(tmp_path / "x.png"), "--device", "cpu"]
    done = CliRunner().invoke(app, [*command, "--top", "2"])
    if run.target_task == "regression":
        assert isinstance(done.exception, BenchError)
    else:
        assert done.exit_code == 0
        assert "most probable" in done.output
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0
    assert not OF_CLASSES.search(shown.stdout)


def test_children_are_joined_answers_judged_like_trials(run: bench.Run) -> None:
    children, predicted = run.children, run.child_predictions
    assert set(children["status"]) == {"complete"}, children["error"].dropna().tolist()
    plain = children[(children["name"] == "ensemble") & children["seed"].isna()]
    for child in plain.to_dict("records"):
        members = list(json.loads(child["members"]))
        own = predicted[predicted["trial"] == child["child"]].set_index("sample")
        sides = [
            run.predictions[run.predictions["trial"] == member].set_index("sample")
            for member in members
        ]
        mean = np.mean([side.loc[own.index, _columns(run)] for side in sides], axis=0)
        assert own[_columns(run)].to_numpy() == pytest.approx(mean, rel=1e-12)
        if run.target_task == "multi_label":
            assert len(json.loads(child["thresholds"])) == len(output_names(run.predictions))
        assert child[run.metric.test] == pytest.approx(_figure(run, own), abs=1e-9)
    page = (run.folder / "report.md").read_text()
    assert "After training" in page
    assert not OF_CLASSES.search(page), OF_CLASSES.search(page)


def _figure(run: bench.Run, own: pd.DataFrame) -> float:
    reference = pytest.importorskip("sklearn.metrics")
    found = own[_columns(run)].to_numpy()
    prefix = "target_" if run.target_task == "regression" else "label_"
    truth = own[[prefix + name for name in output_names(run.predictions)]].to_numpy()
    if run.target_task == "regression":
        return float(reference.r2_score(truth, found))
    return float(reference.average_precision_score(truth, found))


def test_an_export_answers_in_the_units_of_the_task(run: bench.Run, tmp_path: Path) -> None:
    done = export(run.folder, format="torch-export", out=tmp_path / "e")
    assert done.check.missing is None
    assert done.check.logit_difference < 1e-3
    # A probability may lie on a threshold, within rounding.
    assert (done.check.unlike_run or 0) <= 1
    assert done.check.figure == pytest.approx(done.check.trial_figure, abs=1e-3)
    card = done.card.read_text()
    assert not OF_CLASSES.search(card.partition("## How it was trained")[0])
    told = json.loads((done.folder / "card.json").read_text())
    if run.target_task == "regression":
        assert done.check.changed_labels is None
        assert told["file"]["output"] == "values, float64 [batch, 1], in the units of the targets"
    else:
        assert done.check.changed_labels == 0
        assert len(told["outputs"]["thresholds"]) == len(told["classes"])


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
@pytest.mark.parametrize("format", ["safetensors", "onnx"])
def test_other_formats(run: bench.Run, tmp_path: Path, format: str, dtype: str) -> None:
    done = export(run.folder, format=format, dtype=dtype, out=tmp_path / "e")
    assert done.check.missing is None
    assert done.check.logit_difference < (1e-3 if dtype == "fp32" else 0.05)


def test_the_service_answers_in_the_words_of_the_task(
    run: bench.Run, model: TrainedModel, pictures: dict[str, np.ndarray]
) -> None:
    pytest.importorskip("fastapi")
    from starlette.testclient import TestClient

    from bench.prediction.serve import Limits
    from bench.prediction.serve.app import make_app

    sample, image = next(iter(pictures.items()))
    content = io.BytesIO()
    Image.fromarray(image).save(content, "png")
    stored = _stored(run, model).loc[sample]
    with TestClient(make_app(model, limits=Limits())) as client:
        about = client.get("/model").json()
        assert about["task"] == run.target_task
        (row,) = client.post("/predict", content=content.getvalue(), headers=SENT).json()[
            "predictions"
        ]
        refused = client.post(
            "/predict?min_confidence=0.5", content=content.getvalue(), headers=SENT
        )
    assert refused.status_code == 422
    if run.target_task == "regression":
        assert set(row) == {"name", "values"}
        assert row["values"]["angle"] == pytest.approx(stored["predicted_angle"], rel=1e-5)
    else:
        given = [name for name in model.classes if stored[f"decided_{name}"]]
        assert row["predicted"] == given
        assert row["probabilities"] == pytest.approx(
            {name: stored[f"probability_{name}"] for name in model.classes}, abs=1e-5
        )


def test_the_report_is_read_again_as_it_was(run: bench.Run) -> None:
    again = read_run(run.folder)
    assert again.target_task == run.target_task
    assert again.metric == run.metric
