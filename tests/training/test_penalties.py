"""Penalties and decay by rule, as trainings meet them: against what they equal in the limit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bench.methods.objectives import CrossEntropy
from bench.training.loop import Branch, Outcome, isolated, train, train_step
from bench.training.trial import Training, apply_stage
from tests.tiny import make_trial, tiny_training
from tests.training.test_micro_batch import _first_step

SGD: dict[str, Any] = {"momentum": 0.9, "batch_size": 16, "lr": 0.02, "precision": "fp32"}


def _trained(strategy: str, options: dict[str, Any] | None = None, **settings: Any) -> Outcome:
    training = tiny_training(make_trial(strategy, options=options, **{**SGD, **settings}))
    return train(training, lambda _: None)


def _losses(outcome: Outcome) -> list[float]:
    return [loss for r in outcome.records for loss in (r.train.loss, r.val.loss)]


@pytest.mark.campaign
@pytest.mark.parametrize("objective", ["cross_entropy", "focal"])
def test_a_penalty_on_the_head_is_weight_decay_of_sgd(objective: str) -> None:
    """Stacked (cross-entropy) and behind kept features (focal, which does not stack)."""
    options = {"objective": {"name": objective}}
    penalty = {"l2_sp": {"weight": 7.0, "head_weight": 5.0}}
    penalised = _trained("linear_probe", {**options, "penalty": penalty}, epochs=3)
    decayed = _trained("linear_probe", options, epochs=3, weight_decay=5.0)
    plain = _trained("linear_probe", options, epochs=3)
    assert _losses(penalised) == pytest.approx(_losses(decayed), rel=1e-5)
    assert _losses(penalised) != pytest.approx(_losses(plain), rel=1e-3)


def _backbone_distance(training: Training) -> float:
    network = training.network
    return sum(
        float((parameter.detach() - training.anchors[network.address_of(name)]).square().sum())
        for name, parameter in network.model.named_parameters()
        if network.group_of(name).name != "head"
    )


@pytest.mark.campaign
def test_the_backbone_stays_nearer_to_its_start_the_larger_the_weight() -> None:
    distances = []
    for weight in (0.0, 50.0, 200.0):
        options = {"penalty": {"l2_sp": {"weight": weight, "head_weight": 0.0}}}
        settings = {**SGD, "batch_size": 4, "lr": 0.002}
        branch = Branch(training=tiny_training(make_trial(options=options, epochs=3, **settings)))
        with isolated(1):
            for _ in range(3):
                branch.train_epoch()
        distances.append(_backbone_distance(branch.training))
    assert distances[0] > 5 * distances[1] > 5 * distances[2] > 0


def test_at_the_start_a_penalty_changes_no_bit() -> None:
    """In the first step the backbone is where it started; the recorded loss never has it."""
    options = {"penalty": {"l2_sp": {"weight": 50.0, "head_weight": 0.0}}}
    steps = []
    for own in ({}, options):
        training = tiny_training(make_trial("full_finetune", options=own, **SGD))
        steps.append(_one_step(training))
    for name, tensor in steps[0].items():
        assert torch.equal(tensor, steps[1][name]), name


def _one_step(training: Training) -> dict[str, Tensor]:
    """The parameters after one step."""
    with isolated(1):
        apply_stage(training.network, training.plan.stage_at(0))
        train_step(training, _first_step(training))
    return {name: p.detach() for name, p in training.network.model.named_parameters()}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("strategy", ["linear_probe", "full_finetune"])
def test_biases_and_norms_are_spared_the_decay(optimizer: str, strategy: str) -> None:
    """One step with a decay that is felt: only what has two dimensions is drawn to zero by it."""
    ends = {}
    for on in ("all", "matrices", "none"):
        settings = {
            **SGD,
            "optimizer": optimizer,
            "momentum": 0.0,
            "lr": 0.01,
            "weight_decay": 0.0 if on == "none" else 10.0,
            "weight_decay_on": "all" if on == "none" else on,
        }
        trial = make_trial(strategy, epochs=1, augmentation="none", **settings)
        training = tiny_training(trial)
        outcome = train(training, lambda _: None)
        assert outcome.records
        ends[on] = {n: p.detach().clone() for n, p in training.network.model.named_parameters()}
    moved = [name for name in ends["all"] if not torch.equal(ends["all"][name], ends["none"][name])]
    assert moved
    for name in moved:
        like = "none" if ends["all"][name].ndim == 1 else "all"
        torch.testing.assert_close(ends["matrices"][name], ends[like][name], rtol=1e-3, atol=1e-4)


def test_a_focus_trains_otherwise_and_is_no_stack() -> None:
    focal = {"objective": {"name": "focal", "gamma": 3.0}}
    training = tiny_training(make_trial("linear_probe", options=focal))
    assert isinstance(training.objective, CrossEntropy)
    assert training.objective.gamma == 3.0
    focused, plain = _trained("linear_probe", focal), _trained("linear_probe")
    assert _losses(focused) != pytest.approx(_losses(plain), rel=1e-4)
