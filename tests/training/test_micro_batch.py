"""A batch in pieces: the gradient of the whole, keys of its own, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.data import open_data
from bench.execution.engine import make_training
from bench.execution.jobs import trial_splits
from bench.methods.objectives import CrossEntropy
from bench.methods.plan import Plan, Rule, Stage
from bench.training.loop import isolated, train_step
from bench.training.trial import (
    EpochInputs,
    Step,
    Training,
    apply_stage,
    batch_order,
    training_batch,
)
from tests.tiny import make_job, make_trial
from tests.written_loss import written_loss

FIXED_NORMS = Plan(stages=(Stage(epochs=2, rules=(Rule(pattern="*", lr=1.0, norm="fixed"),)),))


def fixed_norm_training(**settings: Any) -> Training:
    """All of resnet18 trains, but for what its norm layers divide by."""
    job = make_job(make_trial("from_scratch", batch_size=16, momentum=0.0, **settings))
    data = open_data(job.data)
    return make_training(replace(job, plan=FIXED_NORMS), data, trial_splits(job.trial, data))


def one_step(training: Training) -> dict[str, Tensor]:
    """The gradients that one step over all images leaves."""
    capture = apply_stage(training.network, training.plan.stage_at(0))
    train_step(training, _first_step(training, capture))
    named = training.network.model.named_parameters()
    return {name: p.grad for name, p in named if p.grad is not None}


def _first_step(training: Training, capture: tuple[str, ...] = ()) -> Step:
    samples = training.splits.train
    inputs = EpochInputs(training, None, training.views, 0, among=samples, pristine=False)
    return Step(inputs=inputs, samples=batch_order(training, 0)[0], number=0, capture=capture)


def whole_gradients(training: Training) -> dict[str, Tensor]:
    """The gradients of the mean loss over all images at once, as torch itself has them."""
    apply_stage(training.network, training.plan.stage_at(0))
    images, targets = training_batch(training, _first_step(training))
    assert isinstance(training.objective, CrossEntropy)
    weights, smoothing = training.objective.class_weights, training.objective.label_smoothing
    loss = written_loss(training.network(images), targets, weights, smoothing)
    named = dict(training.network.model.named_parameters())
    gradients = torch.autograd.grad(loss, list(named.values()))
    return dict(zip(named, gradients, strict=True))


@pytest.mark.parametrize("micro_batch", [5, 8, 16, 99])
@pytest.mark.parametrize("mix", [None, "mixup"])
def test_the_gradients_of_the_pieces_are_that_of_the_whole(
    micro_batch: int, mix: str | None
) -> None:
    settings: dict[str, Any] = {"mix": mix, "label_smoothing": 0.1}
    with isolated(1):
        expected = whole_gradients(fixed_norm_training(**settings))
        found = one_step(fixed_norm_training(micro_batch=micro_batch, **settings))
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-5), name


def test_class_weights_count_over_the_whole_batch() -> None:
    """Each piece has its own sum of weights: a mean over pieces would be another loss."""
    training = fixed_norm_training(micro_batch=6)
    whole = fixed_norm_training()
    weights = torch.tensor([0.2, 3.0])
    training.objective = whole.objective = CrossEntropy(class_weights=weights, label_smoothing=0.1)
    with isolated(1):
        expected, found = whole_gradients(whole), one_step(training)
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-5), name


def test_it_is_part_of_ids_and_keys_where_it_is_given_only() -> None:
    plain, pieces = make_trial(threads=1), make_trial(threads=1, micro_batch=4)
    assert "micro_batch" not in plain.identity()
    assert plain.id({}) == "286b13bb8048"
    assert pieces.id({}) != plain.id({})
    assert pieces.config != plain.config
    first, second = make_job(plain), make_job(pieces)
    assert first.keys[0] == second.keys[0]
    assert not set(first.keys[1:]) & set(second.keys[1:])
