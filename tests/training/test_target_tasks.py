"""Regression and several labels a sample through training: every strategy, stacks, states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.data import open_data
from bench.data.images.augmentations import Augmenter
from bench.execution.executors import InProcessExecutor
from bench.execution.jobs import cut
from bench.methods.metrics import measure
from bench.methods.strategies import STRATEGIES
from bench.methods.target_tasks import TARGET_TASKS
from bench.models.checkpoints import read_checkpoint
from bench.runs.catalogue import catalogue
from bench.suite import Entry
from bench.training.loop import Branch, Outcome, isolated, train
from bench.training.lr_range import lr_range_test
from bench.training.one_device import OneDevice
from bench.training.trial import EpochInputs, Step, apply_stage
from tests.targets import OUTPUTS, target_job, target_training, target_trial, vectors_loaded
from tests.tiny import entry, make_job, make_trial

TASKS = ("regression", "multi_label")
OF_TRANSFORMERS = ("houlsby", "adaptformer", "vpt")
TRAITS = {name: STRATEGIES.get(name).traits for name in STRATEGIES}
TRAINING = [
    (task, name)
    for task in TASKS
    for name, traits in TRAITS.items()
    if traits.trains and task in (traits.target_tasks or TASKS) and name not in OF_TRANSFORMERS
]


@pytest.fixture(scope="module", autouse=True)
def plugin() -> Iterator[None]:
    with vectors_loaded(), isolated(1):
        yield


def _trained(task: str, *arguments: Any, **changes: Any) -> Outcome:
    training = target_training(target_trial(task, *arguments, **changes))
    return train(training, lambda _: None)


@pytest.mark.parametrize(("task", "strategy"), TRAINING)
def test_every_strategy_that_trains_does_so(task: str, strategy: str) -> None:
    outcome = _trained(task, strategy)
    assert outcome.probabilities.shape == (16, OUTPUTS)
    for scores in (outcome.best.test, outcome.best.val):
        assert scores is not None
        assert all(map(np.isfinite, scores.metrics.values()))
    if task == "regression":
        assert outcome.standardised is not None
        assert outcome.probabilities.dtype == np.float64
        assert outcome.thresholds is None
    else:
        assert outcome.thresholds is not None
        assert len(outcome.thresholds) == OUTPUTS
        assert outcome.standardised is None


def test_numbers_are_predicted_in_their_own_units() -> None:
    trial = target_trial("regression", epochs=30, data={"noise": 0.0, "train": 80})
    training = target_training(trial)
    outcome = train(training, lambda _: None)
    truth = training.truth(training.splits.test)
    assert abs(truth.mean() - 100) < 20
    assert outcome.best.test.metrics == measure("r2", truth, outcome.probabilities)
    assert outcome.best.test.metrics["r2"] > 0.5
    # What is recorded is of standardised values, of which training explains 1 - loss.
    for record in outcome.records:
        assert record.train.metrics == {"r2": 1 - record.train.loss}


def test_the_loss_that_is_recorded_is_that_of_the_training_split() -> None:
    training = target_training(target_trial("regression", lr=1e-12, epochs=1))
    (record,) = train(training, lambda _: None).records
    samples = training.splits.train
    learned = training.targets[samples].astype(np.float64)
    np.testing.assert_allclose(learned.std(axis=0), 1, atol=1e-5)
    training.load({})
    with torch.no_grad():
        network = training.network.eval()
        inputs = torch.from_numpy(np.array(training.data.vectors[samples]))  # type: ignore[attr-defined]
        expected = np.square(network(inputs).numpy() - learned).mean()
    assert record.train.loss == pytest.approx(expected, rel=1e-5)


# Stacks ---------------------------------------------------------------------------------------

VARIATIONS: dict[str, list[dict[str, Any]]] = {
    "regression": [
        {"lr": 0.1},
        {"lr": 0.03, "options": {"objective": "mae"}},
        {"lr": 0.3, "options": {"objective": {"name": "huber", "delta": 0.5}}, "momentum": 0.0},
        {"lr": 0.1, "weight_decay": 0.1, "seed": 1},
    ],
    "multi_label": [
        {"lr": 0.1},
        {"lr": 0.3, "class_weights": "balanced"},
        {"lr": 0.03, "label_smoothing": 0.2, "options": {"penalty": {"l2_sp": 0.1}}},
        {"lr": 1.0, "grad_clip_norm": 0.1, "seed": 1},
    ],
}


def _results(
    trials: list[Any], *, reuse: bool, folder: Path | None = None
) -> list[tuple[Any, ...]]:
    jobs = [target_job(trial) for trial in trials]
    if folder is not None:
        jobs = [replace(job, checkpoint=folder / f"{job.trial_id}.safetensors") for job in jobs]
    found = {r.trial_id: r for r in InProcessExecutor().run(cut(jobs, reuse=reuse), lambda _: None)}
    results = []
    for job in jobs:
        result = found[job.trial_id]
        assert result.error is None, result.error
        assert result.outcome is not None
        assert result.predictions is not None
        curve = [(r.epoch, r.lr, r.train, r.val) for r in result.records]
        outcome = result.outcome
        results.append(
            (curve, outcome.best, outcome.last, outcome.thresholds,
             result.predictions.probabilities.tobytes())
        )  # fmt: skip
    return results


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "strategy",
    [
        "lp_ft",
        *(pytest.param(name, marks=pytest.mark.campaign) for name in ("linear_probe", "mlp_probe")),
    ],
)
def test_what_is_stacked_and_shared_has_the_bits_of_each_alone(task: str, strategy: str) -> None:
    trials = [target_trial(task, strategy, epochs=3, **own) for own in VARIATIONS[task]]
    trials += [target_trial(task, "gradual_unfreeze", epochs=3, **VARIATIONS[task][0])]
    assert _results(trials, reuse=True) == _results(trials, reuse=False)


def test_epochs_are_shared_within_a_target_task_alone() -> None:
    keys = [set(target_job(target_trial(task)).keys) for task in TASKS]
    assert keys[0].isdisjoint(keys[1])
    probe, partial = (
        target_job(target_trial("regression", name)).keys for name in ("linear_probe", "lp_ft")
    )
    assert probe[:2] == partial[:2]
    huber = target_job(target_trial("regression", options={"objective": "huber"})).keys
    assert probe[0] == huber[0]
    assert probe[1] != huber[1]


# States ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_a_trial_goes_on_from_its_state_with_the_same_bits(task: str) -> None:
    trial = target_trial(task, "full_finetune", epochs=3, optimizer="adamw", lr=0.01)
    whole = Branch(training=target_training(trial))
    whole.training.load({})
    for _ in range(3):
        whole.train_epoch()
    first = Branch(training=target_training(trial))
    first.training.load({})
    first.train_epoch()
    rest = Branch(training=target_training(trial))
    rest.restore(first.state())
    rest.train_epoch()
    rest.train_epoch()
    one, other = whole.state(), rest.state()
    assert [r.val for r in one.records] == [r.val for r in other.records]
    assert all(torch.equal(tensor, other.model[name]) for name, tensor in one.model.items())


# Batches --------------------------------------------------------------------------------------


def _gradients(trial: Any) -> list[Tensor]:
    training = target_training(trial)
    training.load({})
    apply_stage(training.network, training.plan.stages[0])
    training.network.eval()  # batch statistics are those of pieces
    among = training.splits.train
    inputs = EpochInputs(training, None, training.views, 0, among=among, pristine=False)
    OneDevice().add_gradients(training, Step(inputs=inputs, samples=among[:9], number=0))
    return [p.grad for p in training.network.parameters() if p.grad is not None]


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("regression", {}),
        ("regression", {"options": {"objective": "huber"}}),
        ("multi_label", {"class_weights": "balanced", "label_smoothing": 0.1}),
    ],
)
def test_a_batch_in_pieces_has_the_gradient_of_the_whole(
    task: str, changes: dict[str, Any]
) -> None:
    whole = _gradients(target_trial(task, "full_finetune", **changes))
    pieces = _gradients(target_trial(task, "full_finetune", micro_batch=4, **changes))
    assert whole
    for one, other in zip(whole, pieces, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_weights_of_labels_are_the_odds_against_them() -> None:
    training = target_training(target_trial("multi_label", class_weights="balanced"))
    having = training.truth(training.splits.train).mean(axis=0)
    weights = training.objective.class_weights  # type: ignore[attr-defined]
    np.testing.assert_allclose(weights.numpy(), (1 - having) / having, rtol=1e-6)


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_targets_mix_as_their_images_do(mix: str) -> None:
    mixed_alone = Entry(name="none", options={"mix": mix, "mix_alpha": 1.0})
    augmenter = Augmenter(mixed_alone, size=8, num_classes=2, seed=0)
    # Every pixel of an image is its own target, so that a mixture tells its shares.
    targets = torch.tensor([[3.0, -1.0], [-2.0, 0.5], [8.0, 4.0]])
    images = targets[:, :1, None, None].expand(3, 3, 8, 8).clone()
    mixed, found = augmenter.mix(images, targets, epoch=0, step=0)
    torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), found[:, 0])
    assert not torch.equal(found, targets)


@pytest.mark.campaign
@pytest.mark.parametrize(("task", "dataset"), [("regression", "angles"), ("multi_label", "scenes")])
def test_mixed_images_are_trained_on_with_the_bits_of_each_alone(task: str, dataset: str) -> None:
    own = entry(catalogue().dataset, dataset, train=24, val=12, test=6, image_size=32)
    jobs = []
    for strategy, lr in (("linear_probe", 0.001), ("linear_probe", 0.01), ("full_finetune", 0.01)):
        trial = make_trial(
            strategy, backbone="shufflenet_v2_x0_5", augmentation="none", mix="mixup_cutmix",
            epochs=1, lr=lr, task=task, metric=TARGET_TASKS[task].metric,
        ).model_copy(update={"dataset": own})  # fmt: skip
        jobs.append(make_job(trial, trial_id=trial.id({})))
    together, alone = (
        {r.trial_id: r for r in InProcessExecutor().run(cut(jobs, reuse=reuse), lambda _: None)}
        for reuse in (True, False)
    )
    for trial, result in together.items():
        assert result.error is None, result.error
        assert result.outcome is not None
        other = alone[trial].outcome
        assert other is not None
        assert np.array_equal(result.outcome.probabilities, other.probabilities)
        assert result.records[0].train.metrics == {}  # mixtures have another spread


# What else ------------------------------------------------------------------------------------


def test_thresholds_are_those_of_validation_and_decide_the_test() -> None:
    training = target_training(target_trial("multi_label", epochs=3))
    outcome = train(training, lambda _: None)
    truth = training.truth(training.splits.test)
    probabilities = outcome.probabilities.astype(np.float64)
    for name, value in measure(
        "mean_average_precision", truth, probabilities, outcome.thresholds
    ).items():
        assert outcome.best.test.metrics[name] == pytest.approx(value, rel=1e-5)
    # Curves know no thresholds yet: they are chosen once.
    half = measure("mean_average_precision", training.truth(training.splits.val),
                   outcome.val_probabilities.astype(np.float64))  # fmt: skip
    assert outcome.best.val is not None
    f1 = "multi_label_macro_f1"
    assert outcome.best.val.metrics[f1] == pytest.approx(half[f1])


@pytest.mark.parametrize("task", TASKS)
def test_without_a_validation_split_the_last_epoch_counts(task: str) -> None:
    trial = target_trial(task, choose="last")
    training = target_training(trial)
    training.splits = replace(training.splits, val=training.splits.val[:0])
    outcome = train(training, lambda _: None)
    assert outcome.best == outcome.last
    assert outcome.best.val is None
    assert outcome.val_probabilities.shape == (0, OUTPUTS)
    if task == "multi_label":
        assert outcome.thresholds == (0.5,) * OUTPUTS


@pytest.mark.parametrize("task", TASKS)
def test_a_range_of_rates_is_tested(task: str) -> None:
    training = target_training(target_trial(task, "full_finetune"))
    found = lr_range_test(training, low=1e-4, high=10, steps=20)
    assert len(found.losses) >= 5
    assert np.isfinite(found.losses[0])


@pytest.mark.parametrize("task", TASKS)
def test_checkpoints_say_what_outputs_mean(task: str, tmp_path: Path) -> None:
    changes = {"metric": "mae"} if task == "regression" else {}
    trial = target_trial(task, "full_finetune", **changes)
    _results([trial], reuse=False, folder=tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    checkpoint = read_checkpoint(path)
    spec = checkpoint.spec
    assert spec.task == task
    assert (spec.standardised is not None) == (task == "regression")
    assert (spec.thresholds is not None) == (task == "multi_label")
    data = open_data(target_job(trial).data)
    network = checkpoint.network(data.classes).eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 8)).shape == (2, OUTPUTS)
