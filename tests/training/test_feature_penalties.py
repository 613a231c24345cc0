"""Penalties of features, as trainings meet them: what they compare with, what they leave alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from bench.data import open_data
from bench.execution.engine import make_training
from bench.execution.executors import InProcessExecutor
from bench.execution.jobs import Job, JobResult, cut, trial_splits
from bench.methods.plan import Plan
from bench.models.build import valueless_network
from bench.models.checkpoints import read_checkpoint
from bench.models.feature_layers import channels_second, feature_layers, outputs_of
from bench.models.randomness import keyed_initialisation
from bench.models.source_head import SOURCE_HEAD, source_logits
from bench.suite import Entry, Trial
from bench.training.feature_penalties import Rows, channel_weights, feature_penalty, held_layers
from bench.training.loop import Branch, isolated, train_step
from bench.training.trial import EpochInputs, Step, Training, apply_stage, batch_order
from tests.tiny import make_job, make_trial

timm = pytest.importorskip("timm")

CNN, VIT = "shufflenet_v2_x0_5", "timm/test_vit"
BOTH = (VIT, pytest.param(CNN, marks=pytest.mark.campaign))
CLASSIFIER = {CNN: "fc.", VIT: "head."}
SOURCE_CLASSES = ("a", "b", "c", "d", "e")
FEW = {"train_per_class": 6, "val_per_class": 4, "test_per_class": 4}
PENALTIES: dict[str, dict[str, Any]] = {
    "delta": {"delta": {"weight": 0.01}},
    "bss": {"bss": {"weight": 0.05, "k": 2}},
    "co_tuning": {"co_tuning": {"weight": 2.3}},
}
ALL = {name: options for each in PENALTIES.values() for name, options in each.items()}


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Entry]:
    """Files of weights that have a classifier of five classes, by backbone.

    Their norms have the statistics of some images, so that images differ behind them.
    """
    folder, found = tmp_path_factory.mktemp("weights"), {}
    for backbone in (CNN, VIT):
        with keyed_initialisation(0, "weights"):
            name = backbone.removeprefix("timm/")
            make = timm.create_model if backbone == VIT else torchvision.models.get_model
            model = make(name, num_classes=len(SOURCE_CLASSES)).train()
            with torch.no_grad():
                for _ in range(20 if backbone == CNN else 0):
                    model(torch.randn(4, 3, 32, 32))
        path = folder / f"{name}.pth"
        torch.save(model.state_dict(), path)
        found[backbone] = Entry(name="file", options={"path": str(path), "classes": SOURCE_CLASSES})
    return found


def _trial(weights: dict[str, Entry], backbone: str, penalty: Any, **settings: Any) -> Trial:
    own = {"epochs": 2, "batch_size": 6, "lr": 0.02, "momentum": 0.9, **settings}
    options = {**own.pop("options", {}), "penalty": penalty}
    strategy = own.pop("strategy", "full_finetune")
    return make_trial(
        strategy, options=options, backbone=backbone, weights=weights[backbone], data=FEW, **own
    )


def _training(trial: Trial) -> Training:
    job = make_job(trial)
    data = open_data(job.data)
    return make_training(job, data, trial_splits(trial, data))


def _epoch(trial: Trial) -> Training:
    training = _training(trial)
    with isolated(1):
        Branch(training=training).train_epoch()
    return training


def _state(training: Training) -> dict[str, Tensor]:
    return {
        name: tensor
        for name, tensor in training.network.model.state_dict().items()
        if not name.startswith(SOURCE_HEAD)
    }


def _same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("backbone", BOTH)
def test_each_changes_a_training_unless_it_weighs_nothing(
    weights: dict[str, Entry], backbone: str
) -> None:
    nothing = {name: {**options, "weight": 0.0} for name, options in ALL.items()}
    plain, idle = (_epoch(_trial(weights, backbone, own)) for own in (None, nothing))
    assert idle.references is None
    assert _same(_state(plain), _state(idle))
    for penalty in PENALTIES.values():
        assert not _same(_state(plain), _state(_epoch(_trial(weights, backbone, penalty))))


def _step(training: Training) -> Step:
    apply_stage(training.network, training.plan.stage_at(0))
    held = held_layers(training)
    train = training.splits.train
    inputs = EpochInputs(training, None, training.views, 0, among=train, pristine=False)
    return Step(inputs=inputs, samples=batch_order(training, 0)[0], number=0, held=held)


@pytest.mark.parametrize(
    ("backbone", "options"),
    [(VIT, {}), pytest.param(CNN, {"norm": "fixed"}, marks=pytest.mark.campaign)],
)
def test_delta_is_nothing_at_the_start(
    weights: dict[str, Entry], backbone: str, options: dict[str, Any]
) -> None:
    ends = []
    for penalty in ({"delta": {"weight": 50.0}}, None):
        training = _training(_trial(weights, backbone, penalty, options=options))
        with isolated(1):
            train_step(training, _step(training))
        ends.append(_state(training))
    assert _same(*ends)


def _looked_at(training: Training) -> tuple[Step, Rows]:
    """A batch that has passed the network, as it is, in evaluation mode."""
    step = _step(training)
    network = training.network.eval()
    images = step.inputs.of(step.samples)
    assert step.held is not None
    with torch.no_grad(), outputs_of(step.held) as outputs:
        features = network(images, stop="head").float()
    targets = torch.from_numpy(training.data.labels[step.samples])
    outputs = {**outputs, "head": features}
    return step, Rows(images, outputs, targets, (0, "dropout", 0, 0), None, 1)


def _moved(training: Training) -> None:
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in training.network.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=draw)


@pytest.mark.parametrize("backbone", BOTH)
@pytest.mark.parametrize("attention", [True, pytest.param(False, marks=pytest.mark.campaign)])
def test_delta_is_the_distance_of_what_layers_give(
    weights: dict[str, Entry], backbone: str, attention: bool
) -> None:
    training = _training(
        _trial(weights, backbone, {"delta": {"weight": 0.5, "attention": attention}})
    )
    started = _training(_trial(weights, backbone, None)).network.eval()
    with isolated(1):
        held_layers(training)
        _moved(training)
        step, rows = _looked_at(training)
        with torch.no_grad():
            value = feature_penalty(training, step, rows).item()
            layers = feature_layers(started)
            with outputs_of(layers) as before:
                started(rows.activations, stop="head")
    references = training.references
    assert references is not None
    expected = 0.0
    for name, known in before.items():
        own, start = (each.double().numpy() for each in (rows.outputs[name], known))
        if own.ndim == 3:  # tokens
            own, start = own.transpose(0, 2, 1), start.transpose(0, 2, 1)
        distances = ((own - start).reshape(*own.shape[:2], -1) ** 2).mean(axis=2)
        counts = np.full(own.shape[1], 1 / own.shape[1])
        if attention:
            counts = references.channel_weights[name].double().numpy()
        expected += 0.5 / 2 * (distances * counts).sum()
    assert len(before) > 1
    assert value == pytest.approx(expected, rel=1e-4)


def test_channels_weigh_by_how_much_the_loss_rises_without_them(
    weights: dict[str, Entry],
) -> None:
    """Against the loss without a channel, in the last layer: the network averages what it gives."""
    training = _training(_trial(weights, CNN, PENALTIES["delta"]))
    network = training.network.eval()
    with isolated(1):
        found = channel_weights(training, network)
        samples = training.splits.train
        images = training.central.batch(samples, 0)
        targets = torch.from_numpy(training.data.labels[samples])
        with torch.no_grad():
            features = network(images, stop="head").double()
        weight, bias = _probe(features, targets)
        (name, layer), *_ = reversed(feature_layers(network).items())

        def loss(channel: int) -> float:
            def drop(module: Any, inputs: Any, output: Tensor) -> Tensor:
                kept = torch.ones(output.shape[1])
                kept[channel] = 0
                return output * kept[:, None, None]

            hook = layer.register_forward_hook(drop)
            with torch.no_grad():
                logits = network(images, stop="head").double() @ weight.T + bias
            hook.remove()
            return float(F.cross_entropy(logits, targets))

        channels = list(range(0, 1024, 64))
        losses = np.array([loss(channel) for channel in channels])
    for own in found.values():
        assert own.sum().item() == pytest.approx(1, abs=1e-5)
    logs = found[name].double().log()[channels].numpy()
    np.testing.assert_allclose(logs - logs.mean(), losses - losses.mean(), atol=1e-4)
    assert np.ptp(losses) > 0.01


def _probe(features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Regularised logistic regression in double precision, from another start."""
    mean, deviation = features.mean(dim=0), features.std(dim=0, correction=0) + 1e-5
    scaled = (features - mean) / deviation
    weight = torch.full((2, features.shape[1]), 0.01, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=1000, tolerance_grad=1e-10)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(scaled @ weight.T + bias, targets)
        loss = loss + weight.square().sum() / (2 * len(features))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    own = weight.detach() / deviation
    return own, bias.detach() - own @ mean


def test_where_no_channel_matters_all_weigh_alike(weights: dict[str, Entry]) -> None:
    training = _training(_trial(weights, CNN, PENALTIES["delta"]))
    with torch.no_grad():
        for name, parameter in training.network.model.named_parameters():
            if name.startswith("conv5"):  # what it gives is always the same
                parameter.zero_()
    with isolated(1):
        found = channel_weights(training, training.network.eval())
    for own in found.values():
        assert torch.equal(own, torch.full_like(own, 1 / len(own)))


@pytest.mark.parametrize("backbone", BOTH)
def test_classes_are_related_as_the_weights_see_their_images(
    weights: dict[str, Entry], backbone: str
) -> None:
    training = _training(_trial(weights, backbone, PENALTIES["co_tuning"], augmentation="none"))
    with isolated(1):
        step, rows = _looked_at(training)
        train = training.splits.train
        with torch.no_grad():
            value = feature_penalty(training, step, rows).item()
            features = training.network(training.central.batch(train, 0), stop="head")
            classifier = {
                name: tensor.double().numpy()
                for name, tensor in torch.load(
                    weights[backbone].options["path"], weights_only=True
                ).items()
                if name.startswith(CLASSIFIER[backbone])
            }
    weight, bias = classifier.values()
    if weight.ndim == 1:
        weight, bias = bias, weight

    def probabilities(features: Tensor) -> Any:
        logits = features.double().numpy() @ weight.T + bias
        return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    own, labels = probabilities(features), training.data.labels[train]
    relation = np.stack([own[labels == label].mean(axis=0) for label in (0, 1)])
    references = training.references
    assert references is not None
    assert references.relation is not None
    assert references.start is None
    np.testing.assert_allclose(references.relation.numpy(), relation, atol=1e-6)
    np.testing.assert_allclose(references.relation.sum(dim=1).numpy(), 1, atol=1e-6)
    logs = np.log(probabilities(rows.outputs["head"]))
    soft = relation[training.data.labels[step.samples]]
    assert value == pytest.approx(-2.3 * (soft * logs).sum(axis=1).mean(), rel=1e-5)


def test_the_classifier_of_the_weights_has_no_part_in_measured_rates(
    weights: dict[str, Entry],
) -> None:
    rates = []
    for weight in (0.0, 1e-9):
        penalty = {"co_tuning": {"weight": weight}}
        training = _training(_trial(weights, CNN, penalty, strategy="auto_rgn", epochs=1))
        with isolated(1):
            Branch(training=training).train_epoch()
        rates.append(training.rates)
    assert rates[0] == rates[1]
    assert len(rates[0]) > 2


@pytest.mark.campaign
def test_the_classifier_of_the_weights_trains_at_the_rate_of_the_head(
    weights: dict[str, Entry],
) -> None:
    trial = _trial(weights, CNN, PENALTIES["co_tuning"], strategy="two_rates")
    training = _training(trial)
    name = f"{SOURCE_HEAD}.layer.weight"
    before = training.network.model.state_dict()[name].clone()
    own = dict(training.network.model.named_parameters())[name]
    (group,) = (g for g in training.optimizer.param_groups if any(own is p for p in g["params"]))
    assert group["head"]
    with isolated(1):
        Branch(training=training).train_epoch()
    assert not torch.equal(before, own)
    with isolated(1):
        features = torch.randn(3, 1024, generator=torch.Generator().manual_seed(0))
        found = source_logits(training.network, features)
        bias = training.network.model.state_dict()[f"{SOURCE_HEAD}.layer.bias"]
    torch.testing.assert_close(found, features @ own.T + bias)


@pytest.mark.campaign
@pytest.mark.parametrize("penalty", ["delta", "co_tuning"])
def test_pieces_of_a_batch_add_up(weights: dict[str, Entry], penalty: str) -> None:
    gradients = []
    for pieces in (None, 4):
        settings = {"batch_size": 12, "micro_batch": pieces, "options": {"norm": "fixed"}}
        training = _training(_trial(weights, CNN, PENALTIES[penalty], **settings))
        with isolated(1):
            held_layers(training)
            _moved(training)
            step = _step(training)
            train_step(training, step)
        named = training.network.model.named_parameters()
        gradients.append({name: p.grad for name, p in named if p.grad is not None})
    whole, added = gradients
    assert whole.keys() == added.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(added[name], gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.campaign
def test_a_frozen_trunk_has_none(weights: dict[str, Entry]) -> None:
    trial = _trial(weights, CNN, ALL, strategy="lp_ft", options={"probe_epochs": 1})
    training = _training(trial)
    apply_stage(training.network, training.plan.stage_at(0))
    assert held_layers(training) is None
    apply_stage(training.network, training.plan.stage_at(1))
    held = held_layers(training)
    assert held
    assert all(isinstance(layer, torch.nn.Module) for layer in held.values())


def test_the_last_convolution_of_a_residual_group_is_held() -> None:
    network = valueless_network("resnet18", Entry(name="linear"), 2, 0)
    named = {layer: name for name, layer in network.model.named_modules()}
    names = [named[layer] for layer in feature_layers(network).values()]
    assert names == [f"layer{stage}.1.conv2" for stage in (1, 2, 3, 4)]


def test_channels_are_found_wherever_they_stand() -> None:
    for shape in ((2, 7, 4, 4), (2, 4, 4, 7), (2, 16, 7), (2, 7)):
        found = channels_second(torch.randn(shape))
        assert found.shape == (2, 7, 1 if len(shape) == 2 else 16)


# Whole trials -----------------------------------------------------------------------------------


def _trained(job: Job, *, reuse: bool) -> JobResult:
    (result,) = InProcessExecutor().run(cut([job], reuse=reuse), lambda _: None)
    assert result.error is None, result.error
    return result


MOST = {**ALL, "l2_sp": {"weight": 0.01}}


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("backbone", "strategy", "options"),
    [
        (CNN, "full_finetune", {"stoch_norm": 0.5, "penalty": MOST}),
        (CNN, "lp_ft", {"probe_epochs": 1, "stoch_norm": 0.5, "penalty": ALL}),
        (VIT, "lora", {"r": 2, "penalty": ALL}),
    ],
)
def test_a_trial_goes_on_and_is_kept_as_any_other(
    weights: dict[str, Entry],
    backbone: str,
    strategy: str,
    options: dict[str, Any],
    tmp_path: Path,
) -> None:
    penalty = options["penalty"]
    rest = {name: value for name, value in options.items() if name != "penalty"}
    settings = {"strategy": strategy, "options": rest, "lr": 0.001}
    trial = _trial(weights, backbone, penalty, **settings)
    whole = _trained(make_job(trial, checkpoint=tmp_path / "whole.safetensors"), reuse=False)
    _trained(replace(make_job(trial), stop=1), reuse=True)
    second = _trained(make_job(trial, checkpoint=tmp_path / "second.safetensors"), reuse=True)
    assert whole.predictions is not None
    assert second.predictions is not None
    assert (whole.predictions.probabilities == second.predictions.probabilities).all()
    checkpoint, again = (
        read_checkpoint(tmp_path / f"{name}.safetensors") for name in ("whole", "second")
    )
    assert checkpoint.tensors.keys() == again.tensors.keys()
    assert all(torch.equal(checkpoint.tensors[name], again.tensors[name]) for name in again.tensors)
    assert not any(SOURCE_HEAD in name for name in checkpoint.tensors)
    checkpoint.network(whole.predictions.classes)
    plain = _trained(make_job(_trial(weights, backbone, None, **settings)), reuse=False)
    assert plain.outcome is not None
    assert whole.outcome is not None
    for name in ("trainable_params", "total_params"):
        assert getattr(plain.outcome, name) == getattr(whole.outcome, name)


def test_plans_without_them_keep_their_keys(weights: dict[str, Entry]) -> None:
    plain = make_job(_trial(weights, CNN, None))
    assert replace(plain.plan, stoch_norm=None) == plain.plan
    keys = {
        make_job(_trial(weights, CNN, penalty, options=options)).keys[1]
        for penalty in (None, *PENALTIES.values())
        for options in ({}, {"stoch_norm": 0.5}, {"stoch_norm": 1.0})
    }
    assert len(keys) == 12
    assert Plan(stages=()).stoch_norm is None
