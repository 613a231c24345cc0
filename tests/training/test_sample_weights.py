"""Trainings whose samples have weights: alone, in pieces, in stacks, on several devices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

import bench
from bench.data import open_data
from bench.errors import SuiteError
from bench.execution.engine import make_training
from bench.execution.jobs import trial_splits
from bench.runs.resolve import resolve_run
from bench.training.loop import isolated, train, train_step
from bench.training.stacked_heads import HeadTrial, train_heads
from bench.training.trial import EpochInputs, Step, Training, apply_stage, batch_order
from tests.data.pictures import photograph
from tests.tiny import make_job, make_trial

BACKBONE = "shufflenet_v2_x0_5"


def training_of(weights: Any = None, strategy: str = "linear_probe", **settings: Any) -> Training:
    """A tiny training; `weights` gives those of so many samples."""
    trial = make_trial(strategy, backbone=BACKBONE, augmentation="none", **settings)
    job = make_job(trial)
    data = open_data(job.data)
    if weights is not None:
        data = replace(data, sample_weights=weights(len(data)))  # type: ignore[type-var]
    return make_training(job, data, trial_splits(trial, data))


def drawn(count: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.1, 10, count)


def gradients(training: Training) -> dict[str, Tensor]:
    capture = apply_stage(training.network, training.plan.stage_at(0))
    samples = batch_order(training, 0)[0]
    inputs = EpochInputs(training, None, training.views, 0, among=samples, pristine=False)
    train_step(training, Step(inputs=inputs, samples=samples, number=0, capture=capture))
    named = training.network.model.named_parameters()
    return {name: p.grad for name, p in named if p.grad is not None}


def test_a_weight_of_two_is_two_of_the_sample() -> None:
    """Whole numbers weigh as repeated samples do, in the gradient of the head."""
    with isolated(1):
        weighted = training_of(lambda n: 1.0 + np.arange(n) % 3, batch_size=16)
        found = gradients(weighted)["fc.weight"]
        plain = training_of(batch_size=16)
        samples = batch_order(plain, 0)[0]
        repeated = np.repeat(samples, 1 + samples % 3)
        capture = apply_stage(plain.network, plain.plan.stage_at(0))
        inputs = EpochInputs(plain, None, plain.views, 0, among=samples, pristine=False)
        train_step(plain, Step(inputs=inputs, samples=repeated, number=0, capture=capture))
        expected = plain.network.model.get_parameter("fc.weight").grad
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)  # type: ignore[arg-type]


def test_pieces_of_a_batch_add_up() -> None:
    settings: dict[str, Any] = {"label_smoothing": 0.1, "batch_size": 16}
    with isolated(1):
        whole = gradients(training_of(drawn, **settings))
        pieces = gradients(training_of(drawn, micro_batch=5, **settings))
    assert whole.keys() == pieces.keys()
    for name, gradient in whole.items():
        assert torch.allclose(pieces[name], gradient, rtol=1e-3, atol=1e-6), name


def test_records_count_every_sample_alike() -> None:
    """At a rate near zero, the loss that is recorded is that of the plain training."""
    for strategy in ("linear_probe", "full_finetune"):
        settings = {"strategy": strategy, "lr": 1e-12, "epochs": 1}
        with isolated(1):
            (one, other) = (
                train(training_of(w, **settings), lambda _: None).records[0] for w in (None, drawn)
            )
        assert one.train.loss == pytest.approx(other.train.loss, rel=1e-6)
        assert one.train.metrics == other.train.metrics
        assert one.val is not None
        assert other.val is not None
        assert one.val.loss == pytest.approx(other.val.loss, rel=1e-6)


# Suites ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weighted")
    rows = ["path,label,weight\n"]
    for index in range(20):
        photograph(index).save(folder / f"{index:02}.png")
        rows.append(f"{index:02}.png,{('well', 'ill')[index % 2]},{1 + index % 4}\n")
    (folder / "labels.csv").write_text("".join(rows))
    (folder / "plain.csv").write_text("".join(f"{r.rpartition(',')[0]}\n" for r in rows))
    return folder


def suite_of(place: Path, table: str = "labels.csv", **changes: Any) -> Path:
    suite: dict[str, Any] = {
        "dataset": {"path": table},
        "backbone": BACKBONE,
        "weights": {"name": "fractals", "classes": 2, "images_per_class": 4, "epochs": 1},
        "strategy": "linear_probe",
        "augmentation": "none",
        "epochs": 2,
        "batch_size": 8,
        "image_size": 32,
        "precision": "fp32",
        "seed": 0,
        **changes,
    }
    path = place / "suite.yaml"
    path.write_text(yaml.safe_dump(suite))
    return path


def test_heads_in_a_stack_are_each_alone() -> None:
    def trials() -> list[HeadTrial]:
        return [
            HeadTrial(training=training_of(drawn, lr=lr, label_smoothing=smoothing), epochs=2)
            for lr, smoothing in ((0.01, 0.0), (0.1, 0.2))
        ]

    with isolated(1):
        together, alone = trials(), trials()
        list(train_heads(together))
        for each in alone:
            list(train_heads([each]))
    for one, other in zip(together, alone, strict=True):
        assert all(torch.equal(one.state.model[n], t) for n, t in other.state.model.items())
        assert [r.train for r in one.state.records] == [r.train for r in other.state.records]


@pytest.mark.campaign
def test_a_stack_of_weighted_heads_is_each_alone(place: Path, tmp_path: Path) -> None:
    suite = suite_of(place, lr=[0.01, 0.1], label_smoothing=[0.0, 0.1])
    together = bench.run(suite, out=tmp_path / "together")
    alone = bench.run(suite, out=tmp_path / "alone", reuse=False)
    assert list(together.trials["status"]) == ["complete"] * 4
    key = ["trial", "epoch", "split"]
    one, other = (run.curves.sort_values(key)["loss"].tolist() for run in (together, alone))
    assert one == other
    unweighted = bench.run(suite_of(place, "plain.csv"), out=tmp_path / "plain")
    assert set(unweighted.trials["trial"]).isdisjoint(together.trials["trial"])
    told = " ".join(issue["message"] for issue in together.data["issues"])
    assert "Images have weights in the training loss, from 1 to 4 (labels.csv); metrics" in told


def test_what_cannot_weigh_samples_is_refused_by_name(place: Path, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="'mixup' mixes samples, and labels has weights"):
        resolve_run(suite_of(place, augmentation="none+mixup"), out=tmp_path)
    resolve_run(suite_of(place, "plain.csv", augmentation="none+mixup"), out=tmp_path)
    focal = {"name": "linear_probe", "objective": "focal"}
    resolve_run(suite_of(place, strategy=focal), out=tmp_path)


@pytest.mark.parametrize(
    ("cell", "message"),
    [("heavy", "got 'heavy' (row 2"), ("-1", "got '-1'"), ("0", "got '0'"), ("", "got 'none'"),
     ("nan", "got 'none'"), ("inf", "got 'inf'"), ("1e300", "got '1e300'")],
)  # fmt: skip
def test_hostile_weights(place: Path, cell: str, message: str) -> None:
    from bench.data import open_dataset
    from bench.errors import DataError

    table = place / "hostile.csv"
    table.write_text(f"path,label,weight\n00.png,a,1\n01.png,b,{cell}\n02.png,a,1\n03.png,b,1\n")
    with pytest.raises(DataError) as caught:
        open_dataset("table", {"path": str(table)})
    assert message in str(caught.value)
    assert "`columns: {weight: null}`" in str(caught.value)
    plain = open_dataset("table", {"path": str(table), "columns": {"weight": None}})
    assert plain.sample_weights is None
