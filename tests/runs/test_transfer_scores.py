"""Transfer scores of a suite: what is scored, on which samples, and what has no score."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

import bench
from bench.data import Samples
from bench.data.images.inputs import ImageInputs
from bench.errors import BenchError
from bench.execution.engine import make_training
from bench.methods.transfer_scores import TRANSFER_SCORES, leep, logme
from bench.models import layer_group_names
from bench.models.evaluation import Trunk
from bench.models.network import save_tensors
from bench.models.tensor_files import read_tensor_file
from bench.results.folder import ScoreRow, read_transfer_scores
from bench.runs.prepare import make_job
from bench.runs.reporter import SilentReporter
from bench.runs.resolve import ResolvedRun, ResolvedTrial, resolve_run
from bench.runs.tasks import ready
from bench.runs.transfer_scores import scored_samples, transfer_scores
from bench.training.trial import Training, starting_features
from tests.models.small import small_network
from tests.targets import vectors_loaded
from tests.texts import sentences
from tests.tiny import SMOKE_SUITE

OF_FEATURES = {name for name, score in TRANSFER_SCORES.items() if score.of == "features"}
RANDOM = ("weights=none", "strategy=from_scratch")


def resolved(folder: Path, *overrides: str, **options: Any) -> ResolvedRun:
    (folder / "tiny.yaml").write_text(SMOKE_SUITE)
    return resolve_run(folder / "tiny.yaml", out=folder, overrides=overrides, **options)


def by_place(rows: tuple[ScoreRow, ...]) -> dict[tuple[str | None, str], ScoreRow]:
    return {(row.group, row.score): row for row in rows}


def reasons(rows: tuple[ScoreRow, ...], score: str) -> set[str | None]:
    return {row.reason for row in rows if row.score == score}


def test_every_layer_group_and_the_source_classifier_are_scored(tmp_path: Path) -> None:
    run = resolved(tmp_path)
    found = by_place(transfer_scores(run))
    groups = layer_group_names("shufflenet_v2_x0_5")
    features = {(group, score) for group in groups[:-1] for score in OF_FEATURES}
    assert set(found) == features | {("head", "leep"), ("head", "nce")}
    (start,) = {(row.backbone, row.weights, row.seed, row.samples) for row in found.values()}
    assert start == (
        "shufflenet_v2_x0_5", "fractals(classes=3, images_per_class=8, epochs=1)", 0, 16,
    )  # fmt: skip
    assert '"image_size": 32' in found["head", "leep"].preprocessing
    assert all((row.value is None) != (row.reason is None) for row in found.values())
    (reason,) = reasons(tuple(found.values()), "h_score")
    assert reason is not None
    assert reason.startswith("16 samples are too few")

    # The features are those that trials train heads on, of the training split.
    (_, trial, *_) = (each for each in run.trials if each.weights.name == "fractals")
    training, samples = starting(run, replace(trial.with_seed(0), reuse=False))
    expected = starting_features(training)[samples]
    labels = training.data.labels[samples]
    assert found["last_conv", "logme"].value == pytest.approx(logme(expected, labels), abs=1e-4)
    # The classifier is that of the source task, as it stands in the file.
    assert trial.weights.path is not None
    tensors, _ = read_tensor_file(trial.weights.path)
    weight, bias = (tensors[f"fc.{name}"].numpy() for name in ("weight", "bias"))
    said = softmax(expected @ weight.T + bias, axis=1)
    assert said.shape == (16, 3)
    assert found["head", "leep"].value == pytest.approx(leep(said, labels), abs=1e-4)


def starting(run: ResolvedRun, trial: ResolvedTrial) -> tuple[Training, Samples]:
    """A training at its start, and its training samples."""
    sets, weights = ready(replace(run, trials=(trial,)), SilentReporter())
    job = make_job(run, trial, weights, sets)
    assert not isinstance(job, BenchError)
    splits = sets.splits(trial)
    return make_training(job, sets.data(trial), splits), splits.train


def test_only_the_training_split_is_looked_at_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    batch = ImageInputs.batch

    def noted(self: ImageInputs, samples: Any, epoch: int) -> Any:
        seen.extend(samples)
        return batch(self, samples, epoch)

    monkeypatch.setattr(ImageInputs, "batch", noted)
    run = resolved(tmp_path, *RANDOM)
    first = transfer_scores(run)
    looked_at = set(seen)
    _, train = starting(run, run.trials[0])
    assert looked_at == set(train)

    def unused(*_: Any) -> Any:
        raise AssertionError("the features are kept")

    monkeypatch.setattr(Trunk, "__call__", unused)
    again = transfer_scores(resolved(tmp_path, *RANDOM))
    assert [row.value for row in again] == [row.value for row in first]


def test_one_start_of_each_backbone_with_the_first_seed_and_the_most_samples(
    tmp_path: Path,
) -> None:
    run = resolved(tmp_path, *RANDOM, "shots=[2, 4]", "seed=[3, 1]")
    rows = transfer_scores(run)
    assert {(row.seed, row.samples) for row in rows} == {(1, 8)}
    assert len({(row.group, row.score) for row in rows}) == len(rows)
    assert reasons(rows, "leep") == {"random weights have no classifier"}
    fewer = transfer_scores(run, max_samples=6)
    assert {row.samples for row in fewer} == {6}


def test_few_of_many_samples_keep_the_shares_of_classes() -> None:
    strata = np.repeat([0, 1, 2, 9], [80, 15, 4, 1])
    samples = np.arange(100)[::-1]
    drawn = scored_samples(samples, strata, seed=0, at_most=20)
    assert np.bincount(strata[drawn])[[0, 1, 2, 9]].tolist() == pytest.approx([15, 3, 1, 1], abs=1)
    assert (np.diff(drawn) > 0).all()
    assert drawn.tolist() == scored_samples(samples, strata, seed=0, at_most=20).tolist()
    assert drawn.tolist() != scored_samples(samples, strata, seed=1, at_most=20).tolist()
    assert scored_samples(samples, strata, seed=0, at_most=100).tolist() == list(range(100))


@pytest.mark.parametrize(
    ("size", "told", "why"),
    [
        (64, "classes: [a, b]", "takes maps of features"),
        (64, "interpolation: bilinear", "nobody has told the classes"),
        (32, "classes: [a, b, c]", r"wrong shape .*classifier"),
    ],
)
def test_a_classifier_that_cannot_be_used_leaves_the_scores_of_features(
    tmp_path: Path, size: int, told: str, why: str
) -> None:
    path = tmp_path / "own.safetensors"
    save_tensors(small_network("squeezenet1_1", num_classes=2).model.state_dict(), path)
    run = resolved(
        tmp_path, "backbone=squeezenet1_1", f"image_size={size}", "strategy=linear_probe",
        f"weights={{file: {path}, {told}}}",
    )  # fmt: skip
    rows = transfer_scores(run)
    (reason,) = reasons(rows, "leep") & reasons(rows, "nce")
    assert reason is not None
    assert re.search(why, reason)
    assert all(row.value is not None for row in rows if row.score == "logme")


def test_weights_that_cannot_be_had_are_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "bench.runs.transfer_scores.ready_jobs", lambda *_: [BenchError("no network")]
    )
    rows = transfer_scores(resolved(tmp_path))
    assert [(row.group, row.value, row.reason) for row in rows] == [
        (None, None, "no network")
    ] * len(TRANSFER_SCORES)
    assert {row.score for row in rows} == set(TRANSFER_SCORES)


@pytest.mark.parametrize("task", ["regression", "multi_label"])
def test_what_has_no_class_has_logme_alone(task: str, tmp_path: Path) -> None:
    name = {"regression": "vector_values", "multi_label": "vector_labels"}[task]
    suite = {
        "name": task,
        "task": task,
        "dataset": {"name": name, "outputs": 2, "train": 60, "val": 20, "test": 24},
        "backbone": "tiny_mlp",
        "weights": "none",
        "strategy": "from_scratch",
        "augmentation": "none",
        "epochs": 1,
    }
    with vectors_loaded():
        rows = transfer_scores(resolve_run(suite, out=tmp_path))
    valued = {(row.group, row.score) for row in rows if row.value is not None}
    assert valued == {("stem", "logme"), ("block", "logme")}
    assert reasons(rows, "gbc") == reasons(rows, "leep") == {"it is of samples with one class each"}


def test_texts_are_scored_where_their_backbone_gives_vectors(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    made = sentences(40)
    suite = {
        "name": "words",
        "dataset": {
            "name": "text",
            "lists": {"text": [*made.texts], "label": [made.classes[at] for at in made.labels]},
        },
        "backbone": "language_tiny",
        "weights": "none",
        "strategy": "from_scratch",
        "include": [
            {"backbone": "tfidf", "weights": "pretrained", "max_length": None,
             "strategy": {"name": "logistic", "c": 1.0}},
        ],
        "augmentation": "none",
        "max_length": 24,
        "epochs": 1,
    }  # fmt: skip
    rows = transfer_scores(resolve_run(suite, out=tmp_path))
    encoder = [row for row in rows if row.backbone == "language_tiny"]
    assert any(row.value is not None for row in encoder if row.score == "logme")
    ngrams = tuple(row for row in rows if row.backbone == "tfidf")
    assert {(row.group, row.reason) for row in ngrams} == {
        (None, "tfidf gives n-grams, and no vector")
    }


def test_the_call_keeps_the_table_in_the_run_folder(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(SMOKE_SUITE)
    rows = bench.transfer_scores(tmp_path / "tiny.yaml", out=tmp_path, overrides=RANDOM)
    assert read_transfer_scores(tmp_path / "tiny") == rows
    assert [path.name for path in (tmp_path / "tiny").iterdir()] == ["transfer_scores.parquet"]
