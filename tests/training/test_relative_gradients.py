"""Auto-RGN: rates by relative gradient norms, against the definition written once more."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from bench.methods.plan import HEAD, Plan, Rule, Stage, group_rule
from bench.training.loop import Branch, isolated
from bench.training.lr_range import lr_range_test
from bench.training.relative_gradients import relative_rates
from bench.training.trial import EpochInputs, Step, Training, apply_stage, batch_order
from tests.tiny import make_trial, tiny_training

SMALL, LR = "shufflenet_v2_x0_5", 0.02


def _training(batches: int = 2, **settings: object) -> Training:
    options = {"batches": batches}
    return tiny_training(make_trial("auto_rgn", options=options, backbone=SMALL, lr=LR, **settings))


def _steps(training: Training) -> list[Step]:
    apply_stage(training.network, training.plan.stage_at(0))
    samples = training.splits.train
    inputs = EpochInputs(training, None, training.views, 0, among=samples, pristine=False)
    order = batch_order(training, 0)
    return [Step(inputs=inputs, samples=own, number=at) for at, own in enumerate(order)]


def _written(training: Training, count: int) -> dict[str, float]:
    """Mean ‖g‖ / ‖θ‖ of each layer group over the first batches, divided by the largest."""
    network = training.network.eval()
    sums: dict[str, float] = defaultdict(float)
    for samples in batch_order(training, 0)[:count]:
        labels = torch.from_numpy(training.data.labels[samples])
        loss = F.cross_entropy(network(training.views.batch(samples, 0)), labels)
        named = dict(network.model.named_parameters())
        squares: dict[str, float] = defaultdict(float)
        for name, gradient in zip(named, torch.autograd.grad(loss, named.values()), strict=True):
            squares[network.group_of(name).name] += gradient.double().square().sum().item()
        for group, square in squares.items():
            sums[group] += square**0.5 / count
    sizes: dict[str, float] = defaultdict(float)
    for name, parameter in network.model.named_parameters():
        sizes[network.group_of(name).name] += parameter.double().square().sum().item()
    ratios = {group: value / sizes[group] ** 0.5 for group, value in sums.items()}
    return {group: ratio / max(ratios.values()) for group, ratio in ratios.items()}


def test_rates_are_those_of_the_definition_and_nothing_moves() -> None:
    training = _training(batch_size=4)
    before = {name: each.clone() for name, each in training.network.model.state_dict().items()}
    with isolated(1):
        steps = _steps(training)
        modes = [module.training for module in training.network.modules()]
        found = relative_rates(training, 0, steps)
        again = relative_rates(training, 0, steps)
    assert [module.training for module in training.network.modules()] == modes
    after = training.network.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert found == again
    assert found == pytest.approx(_written(training, 2), rel=1e-4)
    assert max(found.values()) == 1
    assert 0 < min(found.values()) < 1


def test_each_layer_group_trains_at_its_rate_and_a_rate_of_zero_stays_zero() -> None:
    training = _training()
    frozen, still, *_, last = (group.name for group in training.network.groups)
    assert last == HEAD
    rules = (group_rule(frozen, None), group_rule(still, 0.0), Rule(pattern="*", lr=1.0))
    plan = Plan(stages=(Stage(epochs=2, rules=rules),), gradient_batches=1)
    training = replace(training, plan=plan)
    named = dict(training.network.model.named_parameters())
    before = {name: each.detach().clone() for name, each in named.items()}
    branch = Branch(training=training)
    with isolated(1):
        record = branch.train_epoch()
    assert set(training.rates) == {g.name for g in training.network.groups} - {frozen}
    assert record.lr == LR * training.rates[HEAD]
    lrs = {group["measured"]: group["lr"] for group in training.optimizer.param_groups}
    assert lrs == {name: LR * rate for name, rate in training.rates.items()} | {
        frozen: 0.0,
        still: 0.0,
    }
    moved = {
        training.network.group_of(name).name
        for name, parameter in named.items()
        if not torch.equal(before[name], parameter)
    }
    assert moved == set(training.rates) - {still}


def test_losses_that_are_scaled_too_much_are_scaled_less() -> None:
    """As in fp16, where the first batches may all overflow."""
    training, scaled = _training(), _training()
    scaled.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    with isolated(1):
        plain = relative_rates(training, 0, _steps(training))
        found = relative_rates(scaled, 0, _steps(scaled))
    assert scaled.scaler.get_scale() < 2.0**127
    assert found == pytest.approx(plain, rel=1e-5)


def test_batches_without_finite_gradients_and_groups_of_zeros_have_no_part() -> None:
    training = _training()
    with torch.no_grad():
        for name, parameter in training.network.model.named_parameters():
            if training.network.group_of(name).name == HEAD:
                parameter.zero_()
    with isolated(1):
        # Behind a head of zeros nothing has a gradient.
        assert relative_rates(training, 0, _steps(training)) == {}
        next(training.network.parameters()).data.fill_(float("nan"))
        assert relative_rates(training, 0, _steps(training)) == {}


@pytest.mark.campaign
def test_a_range_test_has_the_rates_of_its_start() -> None:
    """Its first loss is that of full fine-tuning; with slower groups the later ones are others."""
    full = tiny_training(make_trial("full_finetune", backbone=SMALL))
    measured, plain = (
        lr_range_test(training, low=1e-3, high=1.0, steps=20).losses
        for training in (_training(), full)
    )
    assert measured[0] == plain[0]
    assert measured[1:] != plain[1:]
