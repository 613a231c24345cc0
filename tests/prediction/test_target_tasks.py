"""Trained trials of regression and of several labels a sample, on vectors: opened and joined.

Those of images, whole, are in `test_target_images`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import bench
from bench.cli.main import app
from bench.data import open_dataset
from bench.errors import BenchError
from bench.methods.target_tasks import TARGET_TASKS, Standardisation
from bench.prediction.export.reading import Reading
from bench.prediction.model import TrainedModel
from bench.prediction.outputs import UNSURE, Outputs
from bench.results.folder import output_names
from tests.targets import DATA, LENGTH, vectors_loaded

pytestmark = pytest.mark.xdist_group("target_tasks")


@pytest.fixture(scope="module", autouse=True)
def plugin() -> Iterator[None]:
    with vectors_loaded():
        yield


@pytest.fixture(scope="module", params=list(DATA))
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bench.Run:
    """Trained once; its folder must not be changed."""
    suite = {
        "name": request.param,
        "task": request.param,
        "dataset": {"name": DATA[request.param], "train": 24, "val": 16, "test": 30},
        "backbone": "tiny_mlp",
        "weights": "none",
        "strategy": "from_scratch",
        "augmentation": "none",
        "epochs": 2,
        "batch_size": 8,
        "lr": [0.05, 0.1],
        "precision": "fp32",
        "seed": [0, 1],
        "after": ["ensemble", {"name": "ensemble", "members": "greedy"}, "soup", "tta"],
    }
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.runs.run.write_report", lambda *_: None)
        return bench.run(suite, out=folder, device="cpu", workers=1)


@pytest.fixture(scope="module")
def model(run: bench.Run) -> TrainedModel:
    return bench.load(run.folder, device="cpu")


def _columns(run: bench.Run) -> list[str]:
    prefix = "predicted_" if run.target_task == "regression" else "probability_"
    return [prefix + name for name in output_names(run.predictions)]


def _tested(run: bench.Run, model: TrainedModel) -> tuple[Any, Any]:
    """The vectors of the test split, and what the run stored of them."""
    options = dict(run.suite["dataset"])
    dataset: Any = open_dataset(options.pop("name"), options)
    stored = run.predictions[run.predictions["trial"] == model.chosen.id]
    places = [dataset.sample_ids.index(sample) for sample in stored["sample"]]
    return dataset.vectors[places], stored


def test_an_opened_trial_predicts_what_the_run_stored(run: bench.Run, model: TrainedModel) -> None:
    vectors, stored = _tested(run, model)
    assert vectors.shape[1] == LENGTH
    regression = run.target_task == "regression"
    found = model.values(vectors) if regression else model.probabilities(vectors)
    assert np.array_equal(found, stored[_columns(run)].to_numpy())
    with pytest.raises(BenchError, match="use values" if regression else "use probabilities"):
        (model.probabilities if regression else model.values)(vectors)
    frame = model.predict(vectors)
    said = [] if regression else ["predicted"]
    assert list(frame) == ["path", *said, *_columns(run), "failure"]
    if not regression:
        given = [
            "|".join(name for name in model.classes if row[f"decided_{name}"])
            for row in stored.to_dict("records")
        ]
        assert frame["predicted"].tolist() == given
    assert repr(model).endswith(f": {model.outputs}>")


def test_what_is_joined_answers_with_means_and_thresholds_of_its_own(run: bench.Run) -> None:
    children, predicted = run.children, run.child_predictions
    made = children[children["status"] == "complete"]
    assert set(made["name"]) == {"ensemble", "ensemble(members=greedy)", "soup"}
    assert children.loc[children["name"] == "tta", "error"].str.contains("one view only").all()
    for child in made[made["seed"].isna()].to_dict("records"):
        own = predicted[predicted["trial"] == child["child"]].set_index("sample")
        sides = [
            run.predictions[run.predictions["trial"] == member].set_index("sample").loc[own.index]
            for member in json.loads(child["members"])
        ]
        mean = np.mean([side[_columns(run)] for side in sides], axis=0)
        assert own[_columns(run)].to_numpy() == pytest.approx(mean, rel=1e-12)
        if run.target_task == "multi_label":
            limits = json.loads(child["thresholds"])
            decided = own[[f"decided_{name}" for name in output_names(own)]].to_numpy()
            assert (decided == (own[_columns(run)].to_numpy() >= limits)).all()
    assert made[run.metric.test].notna().all()
    assert made["test_accuracy"].isna().all()


def test_what_has_no_meaning_is_refused(run: bench.Run, tmp_path: Path) -> None:
    (tmp_path / "x.png").touch()
    command = ["predict", str(run.folder), str(tmp_path / "x.png"), "--device", "cpu"]
    done = CliRunner().invoke(app, [*command, "--min-confidence", "0.5"])
    assert "--min-confidence is the least probability of the one class" in str(done.exception)
    with pytest.raises(BenchError, match="cannot be audited"):
        bench.audit(run.folder)


# Without a network ------------------------------------------------------------------------------

NAMES = ("a", "b")


def test_rows_of_each_task() -> None:
    values = np.array([0.2, 0.8], np.float32)
    classes = Outputs(names=NAMES)
    assert classes.columns == (
        "path", "predicted", "confidence", "probability_a", "probability_b", "failure",
    )  # fmt: skip
    assert classes.cells(values, min_confidence=0.9)[:2] == [UNSURE, pytest.approx(0.8)]
    labels = Outputs(names=NAMES, task=TARGET_TASKS["multi_label"], thresholds=(0.2, 0.9))
    assert labels.columns == ("path", "predicted", "probability_a", "probability_b", "failure")
    assert labels.labels(np.array([0.2, 0.8])) == ("a",)
    assert labels.cells(np.array([0.1, 0.8]))[0] == ""
    numbers = Outputs(
        names=NAMES,
        task=TARGET_TASKS["regression"],
        standardised=Standardisation(mean=(5.0, 0.0), sd=(2.0, 1.0)),
    )
    assert numbers.columns == ("path", "predicted_a", "predicted_b", "failure")
    assert numbers.cells(None) == [None, None]
    assert str(Outputs(names=("a",), task=TARGET_TASKS["regression"])) == "1 target"
    with pytest.raises(BenchError, match="--top asks for the most probable classes"):
        numbers.check_top("--top", 3)
    labels.check_top("--top", 3)
    classes.check_confidence("--min-confidence", 0.5)


def test_answers_of_a_file_are_compared_as_what_they_are() -> None:
    known = Standardisation(mean=(1e6,), sd=(2.0,))
    numbers = Reading(
        outputs=Outputs(names=("a",), task=TARGET_TASKS["regression"], standardised=known)
    )
    logits = np.array([[0.5], [-1.0]])
    assert numbers.function == "values"
    assert numbers.logits(known.restored(logits)) == pytest.approx(logits)
    assert numbers.differing(logits, logits + np.array([[0.0], [0.01]])) == 1
    labels = Reading(
        outputs=Outputs(names=NAMES, task=TARGET_TASKS["multi_label"], thresholds=(0.5, 0.9))
    )
    found = np.array([[0.1, 3.0], [-0.1, 1.0], [-900.0, 900.0]])
    assert labels.said(found).tolist() == [[True, True], [False, False], [False, True]]
    assert labels.differing(labels.said(found), labels.said(-found)) == 3
    classes = Reading(outputs=Outputs(names=NAMES))
    assert classes.said(found).tolist() == [1, 1, 1]
    assert classes.probabilities(found).sum(axis=1) == pytest.approx([1, 1, 1])
