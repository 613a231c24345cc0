"""Penalties that look at target data without labels, as trainings meet them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.execution.jobs import Job, cut
from bench.methods.alignment import class_confusion, domain_loss, multi_kernel_discrepancy
from bench.methods.penalties import Discriminator
from bench.models.companions import is_companion
from bench.models.discriminators import DomainLayers
from bench.models.network import Network
from bench.models.tensor_files import read_tensor_file
from bench.suite import Trial
from bench.training import feature_penalties
from bench.training.freezing import epoch_start
from bench.training.loop import Branch, isolated, trainable_parameters
from bench.training.lr_range import lr_range_test
from bench.training.trial import Training, unlabelled_order
from tests.execution.test_reuse import job_of, numbers, results_of
from tests.texts import bert_folder
from tests.tiny import DATA, make_trial, sentence_lists, tiny_training

TARGET = {"name": "fractals_shifted", **DATA}
DAN, MCC = {"dan": {"weight": 1.0}}, {"mcc": {"weight": 1.0, "temperature": 2.5}}
DANN = {"dann": {"weight": 1.0, "width": 8, "discriminator_lr": 0.5}}
CDAN = {"cdan": {**DANN["dann"], "entropy": True}}
ONE_STEP: dict[str, Any] = {
    "batch_size": 32,
    "lr": 1.0,
    "epochs": 1,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "augmentation": "none",
}
"""One step of plain SGD with the rate 1 moves parameters by their gradients."""


SHARE = {"data": {"unlabelled_fraction": 0.5}}


def _trial(penalty: Any = None, strategy: str = "full_finetune", **settings: Any) -> Trial:
    options = {**settings.pop("options", {}), "penalty": penalty}
    data = {"target_data": TARGET}
    own = {"backbone": "timm/test_efficientnet", "data": data, **settings}
    return make_trial(strategy, options=options, **own)


def _of_texts(folder: Path, **changes: Any) -> dict[str, Any]:
    """A narrow BERT without dropout, and target texts of 3 to 31 tokens without labels."""
    bert = folder / "bert"
    nothing = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    backbone = f"hf/{bert if bert.is_dir() else bert_folder(bert, **nothing)}"
    target = {"name": "text", "lists": {"text": sentence_lists(20, seed=1)["text"]}}
    return {"backbone": backbone, "data": {"target_data": target}, **changes}


def _state(network: Network) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in network.model.state_dict().items()}


def _epoch(trial: Trial) -> tuple[Training, dict[str, Tensor]]:
    training = tiny_training(trial)
    with isolated(1):
        training.load({})
        Branch(training=training).train_epoch()
    return training, _state(training.network)


def _same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_what_weighs_nothing_is_plain_source_training_and_the_rest_is_not() -> None:
    _, plain = _epoch(_trial())
    nothing = {
        name: {**options, "weight": 0.0}
        for penalty in (DAN, MCC, DANN, CDAN)
        for name, options in penalty.items()
    }
    assert _same(plain, _epoch(_trial(nothing))[1])
    for penalty in (DAN, MCC, DANN):
        assert not _same(plain, _epoch(_trial(penalty))[1])


@pytest.mark.parametrize(
    ("penalty", "beside", "count"),
    [
        (MCC, {}, 28),
        (CDAN, {}, 28),
        (MCC, SHARE, 8),
        pytest.param(MCC, "texts", 20, marks=pytest.mark.campaign),
        pytest.param(CDAN, "texts", 20, marks=pytest.mark.campaign),
    ],
)
def test_labels_of_the_target_change_nothing(
    penalty: Any, beside: Any, count: int, tmp_path: Path
) -> None:
    beside = _of_texts(tmp_path) if beside == "texts" else beside
    training, expected = _epoch(_trial(penalty, **beside))
    other = tiny_training(_trial(penalty, **beside))
    labels = other.data.labels.copy()
    labels[other.splits.unlabelled] = 1 - labels[other.splits.unlabelled]
    other = replace(other, data=replace(other.data, labels=labels))
    with isolated(1):
        other.load({})
        Branch(training=other).train_epoch()
    assert len(training.splits.unlabelled) == count
    assert _same(expected, _state(other.network))


@pytest.mark.parametrize(
    ("penalty", "texts"),
    [(DAN, False), (MCC, False), *(pytest.param(each, True, marks=pytest.mark.campaign)
                                   for each in (DAN, MCC))],
)  # fmt: skip
def test_a_step_has_the_gradient_of_loss_and_penalty_of_both_batches(
    penalty: Any, texts: bool, tmp_path: Path
) -> None:
    trial = _trial(
        penalty,
        **(_of_texts(tmp_path) if texts else {}),
        **ONE_STEP,
    )
    training = tiny_training(trial)
    with isolated(1):
        training.load({})
        before = _state(training.network)
        Branch(training=training).train_epoch()
        after = _state(training.network)
        other = tiny_training(trial)
        other.load({})
        network = other.network
        network.train()
        source = other.splits.train
        (target,) = unlabelled_order(other, 0, [len(source)])
        # Batch norms normalise both together; texts are padded less where they pass apart.
        parts = [source, target] if texts else [np.concatenate([source, target])]
        passed = [network(other.views.batch(part, 0), stop="head") for part in parts]
        features = torch.cat(passed)
        logits = network(features.float(), start="head")
        count = len(source)
        loss = F.cross_entropy(logits[:count], torch.from_numpy(other.data.labels[source]))
        if "dan" in penalty:
            pooled = features.flatten(2).mean(dim=2) if features.ndim > 2 else features
            loss = loss + multi_kernel_discrepancy(pooled[:count], pooled[count:])
        else:
            loss = loss + class_confusion(logits[count:])
        loss.backward()
    for name, parameter in network.model.named_parameters():
        assert parameter.grad is not None
        moved = before[name] - after[name]
        # Vectors of texts by an untrained BERT differ in the third digit alone.
        atol = 2e-5 + (2e-3 * float(parameter.grad.abs().max()) if texts else 0)
        torch.testing.assert_close(moved, parameter.grad, rtol=2e-3, atol=atol)


def test_target_batches_depend_on_seed_and_epoch_and_leave_nothing_out() -> None:
    training = tiny_training(_trial(MCC))
    sizes = [8, 8, 8, 1]
    order = unlabelled_order(training, 0, sizes)
    assert [len(each) for each in order] == [8, 8, 8, 2]
    again, later = unlabelled_order(training, 0, sizes), unlabelled_order(training, 1, sizes)
    assert all(np.array_equal(a, b) for a, b in zip(order, again, strict=True))
    assert not np.array_equal(order[0], later[0])
    rounds = np.concatenate(unlabelled_order(training, 0, [28, 28]))
    assert sorted(rounds[:28]) == sorted(rounds[28:]) == training.splits.unlabelled.tolist()


def test_shared_stopped_and_kept_trials_have_the_bits_of_trials_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With views that are kept, behind frozen groups whose features are, and after a head alone."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    trials = [
        _trial(),
        _trial(MCC),
        _trial(DAN, "partial_finetune", options={"top": 2}, augmentation="none"),
        _trial(MCC, "lp_ft", options={"probe_epochs": 1}),
        _trial(DANN),
        _trial(CDAN, "lp_ft", options={"probe_epochs": 1}),
    ]
    jobs = [job_of(trial) for trial in trials]
    boundary, pristine = epoch_start(jobs[2].outline, jobs[2].plan, 0)
    assert boundary is not None
    assert pristine
    _check_bits(jobs)


@pytest.mark.campaign
def test_texts_have_the_bits_of_trials_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of mixed lengths, also where those that train are mixed in pairs, and after a head alone."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    of_texts = _of_texts(tmp_path)
    trials = [
        _trial(**of_texts),
        _trial(MCC, **of_texts),
        _trial(DAN, mix="mixup", **of_texts),
        _trial(MCC, "lp_ft", options={"probe_epochs": 1}, **of_texts),
    ]
    _check_bits([job_of(trial) for trial in trials])


def _check_bits(jobs: list[Job]) -> None:
    """Those of trials alone, shared, stopped after an epoch and gone on with."""
    alone = results_of(cut(jobs, reuse=False))
    results_of(cut([replace(job, stop=1) for job in jobs], reuse=True))
    together = results_of(cut(jobs, reuse=True))
    for job in jobs:
        assert alone[job.trial_id].error is None
        assert numbers(together[job.trial_id]) == numbers(alone[job.trial_id]), job.trial.label


def test_keys_know_the_target_where_the_plan_looks_at_it() -> None:
    plain, own = job_of(_trial()), job_of(_trial(MCC))
    assert plain.keys[0] != own.keys[0]
    nothing = job_of(_trial({"mcc": {"weight": 0.0, "temperature": 2.5}}))
    assert nothing.keys[0] == plain.keys[0]


# Discriminators -------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [DANN, CDAN])
@pytest.mark.parametrize("strength", [0.0, 0.6])
def test_the_backbone_has_the_gradient_of_the_discriminator_reversed(
    penalty: Any, strength: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_penalties, "reversal_strength", lambda _: strength)
    trial = _trial(penalty, **ONE_STEP)
    training = tiny_training(trial)
    name, rate = next(iter(penalty)), penalty[next(iter(penalty))]["discriminator_lr"]
    with isolated(1):
        training.load({})
        before = _state(training.network)
        Branch(training=training).train_epoch()
        after = _state(training.network)
        other = tiny_training(trial)
        network = other.network
        network.train()
        source = other.splits.train
        (target,) = unlabelled_order(other, 0, [len(source)])
        features = network(other.views.batch(np.concatenate([source, target]), 0), stop="head")
        logits = network(features.float(), start="head")
        count = len(source)
        loss = F.cross_entropy(logits[:count], torch.from_numpy(other.data.labels[source]))
        pooled = features.flatten(2).mean(dim=2) if features.ndim > 2 else features
        probabilities = logits.detach().softmax(dim=1)
        seen, weights = pooled, None
        if "cdan" in penalty:
            seen = torch.einsum("nc,nd->ncd", probabilities, pooled).flatten(1)
            weights = 1 + torch.exp((probabilities * probabilities.log()).sum(dim=1))
        layers = network.model.get_submodule(f"discriminator.{name}.layers")
        domains = layers(seen).squeeze(1)
        adversary = domain_loss(domains[:count], domains[count:], weights)
        named = dict(network.model.named_parameters())
        own, reverse = (
            torch.autograd.grad(each, [*named.values()], retain_graph=True, allow_unused=True)
            for each in (loss, adversary)
        )
    for key, first, second in zip(named, own, reverse, strict=True):
        moved = before[key] - after[key]
        expected = torch.zeros_like(moved) if first is None else first
        if is_companion(key):
            assert second is not None
            expected = rate * second
        elif second is not None:
            expected = expected - strength * second
        torch.testing.assert_close(moved, expected, rtol=2e-3, atol=2e-5)


def test_without_batch_norm_the_first_step_is_that_of_source_only() -> None:
    """There the reversed gradient counts nothing yet."""
    own = {"backbone": "timm/test_vit", **ONE_STEP}
    _, plain = _epoch(_trial(**own))
    _, found = _epoch(_trial(DANN, **own))
    for name, tensor in plain.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)


def test_discriminators_are_a_group_with_a_rate_and_are_not_kept(tmp_path: Path) -> None:
    trial = _trial(CDAN, "lp_ft", options={"probe_epochs": 1}, epochs=2, lr=0.01)
    job = job_of(trial)
    assert job.outline.groups[-2:] == ("discriminator", "head")
    rates = [stage.rule_for("discriminator/cdan.layers.0.weight").lr for stage in job.plan.stages]
    assert rates == [None, 0.5]
    training = tiny_training(trial)
    plain = tiny_training(_trial(strategy="lp_ft", options={"probe_epochs": 1}, epochs=2))
    assert trainable_parameters(training.network, training.plan) == trainable_parameters(
        plain.network, plain.plan
    )
    path = tmp_path / "model.safetensors"
    (result,) = results_of(cut([replace(job, checkpoint=path)], reuse=False)).values()
    assert result.error is None
    tensors, _ = read_tensor_file(path)
    assert tensors.keys() == plain.network.model.state_dict().keys()


def test_discriminators_begin_with_values_of_their_own() -> None:
    """They depend on no other draw, and disturb none."""
    first, second, both = (tiny_training(_trial(p)) for p in (DANN, CDAN, {**CDAN, **DANN}))
    start = {**first.start, **second.start}
    assert both.start is not None
    assert both.start.keys() == start.keys()
    assert _same(start, dict(both.start))


def test_many_classes_meet_features_by_random_maps() -> None:
    shape = Discriminator(penalty="cdan", width=4, lr=1.0, conditioned=True)
    layers = DomainLayers(shape, features=512, classes=9)
    assert layers(torch.randn(6, 512), torch.randn(6, 9)).shape == (6,)
    assert layers.layers[0].in_features == 1024
    assert not any("of_" in name for name in layers.state_dict())


def test_keys_know_how_far_the_reversed_gradient_has_grown() -> None:
    short, long = (job_of(_trial(DANN, epochs=epochs)) for epochs in (2, 3))
    assert short.keys[0] == long.keys[0]
    assert not {*short.keys[1:]} & {*long.keys[1:]}
    short, long = (job_of(_trial(MCC, epochs=epochs)) for epochs in (2, 3))
    assert short.keys == long.keys[:3]


@pytest.mark.campaign
@pytest.mark.parametrize("penalty", [DAN, MCC, DANN, CDAN])
def test_learning_rates_are_found_with_target_data(penalty: Any) -> None:
    losses = lr_range_test(tiny_training(_trial(penalty)), low=1e-4, high=1e-2, steps=20).losses
    assert len(losses) == 20
    assert np.isfinite(losses).all()
