"""What training means: frozen, LR 0, schedules, draws, choice of the epoch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from bench.data import Samples
from bench.data.images.augmentations import Augmenter
from bench.methods.objectives import CrossEntropy
from bench.methods.plan import Plan, Rule, Stage
from bench.methods.strategies import STRATEGIES
from bench.runs.catalogue import catalogue
from bench.suite import Entry, Trial
from bench.training.loop import Outcome, outcome, train
from bench.training.stacked_heads import _Stack
from bench.training.state import EpochRecord, Scores
from bench.training.trial import (
    EpochInputs,
    Training,
    TrainingDivergedError,
    apply_stage,
    batch_order,
    predict,
    score,
)
from tests.tiny import entry, make_trial, tiny_training

SMALL = "shufflenet_v2_x0_5"
ROUGH = {"weight_decay": 0.1, "momentum": 0.9, "lr": 0.05, "grad_clip_norm": 1.0}


def _trial(*arguments: Any, **changes: Any) -> Trial:
    return make_trial(*arguments, **{"backbone": SMALL, **changes})


def _state(training: Training) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in training.network.model.state_dict().items()}


def _train(training: Training) -> Outcome:
    return train(training, lambda record: None)


def _moved(training: Training, before: dict[str, Tensor]) -> set[str]:
    """Names of the parameters and buffers that training changed by at least one bit."""
    after = _last_state(training)
    return {name for name in before if not torch.equal(before[name], after[name])}


def _last_state(training: Training) -> dict[str, Tensor]:
    return training.network.model.state_dict()


def _train_to_the_last_epoch(training: Training) -> None:
    """Train, and leave the last epoch's state in the network instead of the best one's."""
    with patch("bench.training.loop.outcome", wraps=outcome) as finished:
        _train(training)
    (_, state), _ = finished.call_args
    training.load(state.model)


def _run_and_compare(strategy: str, **changes: Any) -> tuple[Training, set[str]]:
    training = tiny_training(_trial(strategy, **{**ROUGH, **changes}))
    before = _state(training)
    _train_to_the_last_epoch(training)
    return training, _moved(training, before)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize(
    ("strategy", "options", "frozen"),
    [
        ("linear_probe", {}, 5),
        ("partial_finetune", {"top": 1}, 4),
        ("gradual_unfreeze", {"every": 1}, 4),
        ("two_rates", {"backbone_multiplier": 0.1}, 0),
    ],
)
def test_frozen_groups_keep_every_bit_of_parameters_and_buffers(
    strategy: str, options: dict[str, Any], frozen: int, optimizer: str
) -> None:
    changes = {} if optimizer == "sgd" else {"momentum": 0.0}
    training, moved = _run_and_compare(strategy, options=options, optimizer=optimizer, **changes)
    groups = {training.network.group_of(name).name for name in moved}
    assert groups == {group.name for group in training.network.groups[frozen:]}


def test_a_learning_rate_of_zero_moves_statistics_and_no_parameter() -> None:
    training, moved = _run_and_compare("two_rates", options={"backbone_multiplier": 0.0})
    parameters = {name for name, _ in training.network.model.named_parameters()}
    assert moved & parameters == {"fc.weight", "fc.bias"}
    statistics = {n for n in _last_state(training) if "running_" in n or "num_batches" in n}
    assert statistics <= moved


def test_zero_rate_with_fixed_statistics_equals_frozen_without_clipping() -> None:
    curves = [
        _train(tiny_training(_trial(strategy, options=options, momentum=0.9))).records
        for strategy, options in (
            ("two_rates", {"backbone_multiplier": 0.0, "norm": "fixed"}),
            ("linear_probe", {}),
        )
    ]
    zero, frozen = (
        [(s.loss, s.metrics["accuracy"]) for r in records for s in (r.train, r.val)]
        for records in curves
    )
    # Only frozen groups are fused, which rounds otherwise.
    for rolling, fused in zip(zero, frozen, strict=True):
        assert rolling == pytest.approx(fused, rel=1e-5)


@pytest.mark.parametrize(("strategy", "counts"), [("two_rates", True), ("linear_probe", False)])
def test_gradients_at_rate_zero_count_in_the_clipping_norm(strategy: str, counts: bool) -> None:
    options = {"backbone_multiplier": 0.0} if strategy == "two_rates" else {}
    clip, lr = 1e-3, 0.5
    trial = _trial(
        strategy, options=options, lr=lr, momentum=0.0, grad_clip_norm=clip, epochs=1, batch_size=16
    )
    training = tiny_training(trial)
    before = _state(training)
    _train(training)
    after = _last_state(training)
    head = torch.cat([(after[n] - before[n]).flatten() for n in ("fc.weight", "fc.bias")])
    # One step of plain SGD moves all parameters together by lr × the clipped norm.
    if counts:
        assert head.norm() < 0.95 * lr * clip
    else:
        assert head.norm().item() == pytest.approx(lr * clip, rel=1e-2)


@pytest.mark.parametrize("name", ["constant", "step", "cosine", "one_cycle", "plateau"])
def test_schedules_multiply_each_groups_rate_and_never_lift_a_zero(name: str) -> None:
    schedule = entry(catalogue().schedule, name, warmup_epochs=1.0)
    training = tiny_training(
        _trial("two_rates", options={"backbone_multiplier": 0.0}, schedule=schedule)
    )
    seen: list[tuple[float, float]] = []

    def record(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        rates = {group["head"]: group["lr"] for group in optimizer.param_groups}
        seen.append((rates[True], rates[False]))

    training.optimizer.register_step_pre_hook(record)
    _train(training)
    assert len(seen) == 4
    assert all(backbone == 0.0 for _, backbone in seen)
    assert any(head > 0.0 for head, _ in seen)


def test_all_parameter_groups_exist_from_the_start_and_keep_their_momentum() -> None:
    training = tiny_training(_trial("gradual_unfreeze", options={"every": 1}))
    owned = [p for group in training.optimizer.param_groups for p in group["params"]]
    assert len(owned) == len(list(training.network.model.parameters()))
    momenta: list[Tensor | None] = []
    head = training.network.model.get_parameter("fc.weight")

    def record(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        buffer = optimizer.state[head].get("momentum_buffer")
        momenta.append(None if buffer is None else buffer.clone())

    training.optimizer.register_step_pre_hook(record)
    _train(training)
    # The first step after the last group joined: the head brings its momentum along.
    assert momenta[0] is not None
    assert momenta[0].abs().sum() > 0


def test_a_frozen_trunk_runs_in_evaluation_mode_and_the_head_trains() -> None:
    training = tiny_training(_trial("linear_probe", backbone="efficientnet_b0"))
    stage = training.plan.stages[0]
    training.network.train()
    apply_stage(training.network, stage)
    modes: dict[tuple[str, bool], set[bool]] = {}
    for name, module in training.network.model.named_modules():
        if isinstance(module, nn.Dropout | nn.BatchNorm2d | torchvision.ops.StochasticDepth):
            in_head = training.network.group_of(name).name == "head"
            modes.setdefault((type(module).__name__, in_head), set()).add(module.training)
    assert modes == {
        ("StochasticDepth", False): {False},
        ("BatchNorm2d", False): {False},
        ("Dropout", True): {True},
    }


def test_the_heads_dropout_is_the_same_whatever_the_trunk_draws() -> None:
    stacked: list[Tensor] = []
    real = _Stack._masks

    def masks(stack: _Stack, *arguments: Any) -> list[Tensor]:
        drawn = real(stack, *arguments)
        stacked.append(drawn[0][0] == 0)
        return drawn

    with patch.object(_Stack, "_masks", masks):
        _train(tiny_training(_trial("linear_probe", backbone="efficientnet_b0", epochs=1)))
    seen: list[Tensor] = []

    def record(module: nn.Module, _: Any, output: Tensor) -> None:
        if module.training:
            seen.append(output == 0)

    training = tiny_training(_trial("full_finetune", backbone="efficientnet_b0", epochs=1))
    training.network.model.get_submodule("classifier.0").register_forward_hook(record)
    _train(training)
    assert len(stacked) == 2
    # Pooled features are never exactly zero, so zeros are what dropout took.
    assert all(torch.equal(a, b) for a, b in zip(stacked, seen, strict=True))
    assert 0.1 < torch.cat(seen).float().mean() < 0.3


def test_fixed_statistics_leave_dropout_of_a_training_group_on() -> None:
    training = tiny_training(
        _trial("full_finetune", options={"norm": "fixed"}, backbone="mobilenet_v3_small")
    )
    apply_stage(training.network, training.plan.stages[0])
    kinds = {
        type(module): module.training
        for module in training.network.model.modules()
        if isinstance(module, nn.Dropout | nn.BatchNorm2d)
    }
    assert kinds == {nn.Dropout: True, nn.BatchNorm2d: False}


def test_rules_may_select_parameters_within_a_group() -> None:
    training = tiny_training(_trial())
    rules = (
        Rule(pattern="head/*", lr=1.0),
        Rule(pattern="*.bias", lr=0.5),
        Rule(pattern="*", lr=None),
    )
    training.plan = Plan(stages=(Stage(epochs=1, rules=rules),))
    training.__post_init__()
    before = _state(training)
    _train_to_the_last_epoch(training)
    parameters = dict(training.network.model.named_parameters())
    moved = _moved(training, before) & set(parameters)
    assert moved == {n for n in parameters if n.startswith("fc.") or n.endswith(".bias")}


# Common random numbers -----------------------------------------------------------------------


def test_one_seed_gives_every_strategy_the_same_batches_head_and_views() -> None:
    first, second = (tiny_training(_trial(s, seed=3)) for s in ("full_finetune", "linear_probe"))
    for epoch in range(2):
        for a, b in zip(batch_order(first, epoch), batch_order(second, epoch), strict=True):
            assert np.array_equal(a, b)
            views = [
                EpochInputs(t, None, t.views, epoch, among=a, pristine=False).of(a)
                for t in (first, second)
            ]
            assert torch.equal(*views)
    for split, samples in first.splits.named().items():
        assert np.array_equal(samples, second.splits.named()[split])
    heads = [t.network.model.state_dict()["fc.weight"] for t in (first, second)]
    assert torch.equal(*heads)


def test_another_seed_gives_other_batches_and_another_head() -> None:
    first, second = (tiny_training(_trial(seed=seed)) for seed in (0, 1))
    assert not np.array_equal(
        np.concatenate(batch_order(first, 0)), np.concatenate(batch_order(second, 0))
    )
    heads = [t.network.model.state_dict()["fc.weight"] for t in (first, second)]
    assert not torch.equal(*heads)


def test_every_epoch_sees_each_sample_once_in_another_order() -> None:
    training = tiny_training(_trial())
    orders = [np.concatenate(batch_order(training, epoch)) for epoch in range(3)]
    for order in orders:
        assert np.array_equal(np.sort(order), training.splits.train)
    assert not np.array_equal(orders[0], orders[1])


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(5, [5, 5, 6]), (8, [8, 8]), (16, [16]), (20, [16]), (15, [16])]
)
def test_a_last_batch_of_one_joins_the_one_before(batch_size: int, sizes: list[int]) -> None:
    training = tiny_training(_trial(batch_size=batch_size))
    assert [len(batch) for batch in batch_order(training, 0)] == sizes


def test_balanced_sampling_draws_classes_equally() -> None:
    training = tiny_training(_trial(sampler="balanced"))
    labels = training.data.labels.copy()
    rare = training.splits.train[labels[training.splits.train] == 1][:6]
    labels[rare] = 0
    training.data = copy.copy(training.data)
    object.__setattr__(training.data, "labels", labels)
    drawn = np.concatenate([np.concatenate(batch_order(training, e)) for e in range(300)])
    # 4,800 draws: four standard deviations of a fair coin are 0.029.
    assert labels[training.splits.train].mean() == pytest.approx(2 / 16)
    assert labels[drawn].mean() == pytest.approx(0.5, abs=0.03)


def test_training_leaves_the_callers_random_state_threads_and_algorithms() -> None:
    training = tiny_training(_trial(threads=1, epochs=1))
    used: list[int] = []
    training.optimizer.register_step_pre_hook(lambda *_: used.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        _train(training)
        assert torch.equal(torch.rand(3), expected)
        assert torch.get_num_threads() == 2
        assert set(used) == {1}
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.set_num_threads(before)


def test_curves_are_bit_identical_when_run_again_alone_or_after_others() -> None:
    trial = _trial(backbone="mobilenet_v3_small", augmentation="standard", mix="mixup_cutmix")

    def scores() -> list[tuple[Scores, Scores]]:
        return [(r.train, r.val) for r in _train(tiny_training(trial)).records]

    alone = scores()
    _train(tiny_training(_trial("linear_probe", seed=7)))
    torch.rand(1000)
    assert scores() == alone


# A second implementation ---------------------------------------------------------------------


def _tutorial_loop(training: Training, epochs: int, lr: float) -> list[tuple[float, float]]:
    """The loop of the official transfer-learning tutorial, written again with the same batches."""
    model = torchvision.models.resnet18()
    model.fc = nn.Linear(512, 2)
    model.load_state_dict(training.network.model.state_dict())
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )

    def batch(samples: Any) -> tuple[Tensor, Tensor]:
        pixels = np.stack([np.asarray(training.data.images[i]) for i in samples])
        images = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - mean) / std
        labels = torch.tensor([int(training.data.labels[i]) for i in samples])
        return images.contiguous(memory_format=torch.channels_last), labels

    curves = []
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for samples in batch_order(training, epoch):
            images, labels = batch(samples)
            optimizer.zero_grad()
            loss = nn.CrossEntropyLoss()(model(images), labels)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(samples)
        scheduler.step()
        model.eval()
        images, labels = batch(training.splits.val)
        with torch.no_grad():
            val = nn.CrossEntropyLoss()(model(images), labels).item()
        curves.append((total / len(training.splits.train), val))
    return curves


def test_equals_a_plain_loop_written_by_hand() -> None:
    schedule = entry(catalogue().schedule, "step", step_size=1, gamma=0.5)
    trial = make_trial(
        augmentation="none", schedule=schedule, lr=0.02, weight_decay=0.01, epochs=3, momentum=0.9
    )
    training = tiny_training(trial)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        expected = _tutorial_loop(training, epochs=3, lr=0.02)
    finally:
        torch.set_num_threads(before)
    records = _train(training).records
    assert [(r.train.loss, r.val.loss) for r in records] == [
        (pytest.approx(a, rel=1e-5), pytest.approx(b, rel=1e-5)) for a, b in expected
    ]
    assert [r.lr for r in records] == pytest.approx([0.02, 0.01, 0.005])


def test_scores_against_closed_forms() -> None:
    training = tiny_training(_trial())
    zeros, ones = (np.flatnonzero(training.data.labels == label) for label in (0, 1))
    logits = torch.log(torch.tensor([[0.8, 0.2], [0.4, 0.6], [0.5, 0.5]]))
    scores = score(training, logits, np.array([*zeros[:2], ones[0]]))
    expected = -(np.log(0.8) + np.log(0.4) + np.log(0.5)) / 3
    assert scores.loss == pytest.approx(expected, rel=1e-6)
    assert scores.metrics["accuracy"] == pytest.approx(1 / 3)


def test_recorded_loss_is_plain_cross_entropy_whatever_is_optimised() -> None:
    # With a vanishing learning rate the network does not change, so the epoch's loss can be
    # computed afterwards from its (fixed) predictions.
    trial = _trial(
        options={"norm": "fixed"},
        augmentation="none",
        lr=1e-12,
        label_smoothing=0.3,
        class_weights="balanced",
        epochs=1,
    )
    training = tiny_training(trial)
    record = _train(training).records[0]
    logits = predict(training, training.splits.train, epoch=0)
    labels = torch.from_numpy(training.data.labels[training.splits.train])
    assert record.train.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-4)


def test_class_weights_are_inverse_to_the_counts_with_mean_one() -> None:
    training = tiny_training(_trial(class_weights="balanced"))
    labels = training.data.labels.copy()
    rare = training.splits.train[labels[training.splits.train] == 1][:4]
    labels[rare] = 0
    training.data = copy.copy(training.data)
    object.__setattr__(training.data, "labels", labels)
    training.__post_init__()
    assert isinstance(training.objective, CrossEntropy)
    assert training.objective.class_weights is not None
    # 12 and 4 of 16 samples: 16 / (2 × 12) and 16 / (2 × 4).
    assert training.objective.class_weights.tolist() == pytest.approx([2 / 3, 2.0])


# Choosing the epoch --------------------------------------------------------------------------


def _with_val_scores(
    monkeypatch: pytest.MonkeyPatch, training: Training, scores: list[Scores]
) -> list[EpochRecord]:
    """Train with scripted validation scores: only the choice of the epoch is under test."""
    scripted = iter(scores)
    real = score

    def scored(
        training: Training, logits: Tensor, samples: Samples, thresholds: None = None
    ) -> Scores:
        if len(samples) == len(training.splits.val):
            return next(scripted)
        return real(training, logits, samples, thresholds)

    monkeypatch.setattr("bench.training.loop.score", scored)
    monkeypatch.setattr("bench.training.stacked_heads.score", scored)
    records: list[EpochRecord] = []
    outcome = train(training, records.append)
    assert outcome.records == tuple(records)
    monkeypatch.undo()
    training.best = outcome.best  # type: ignore[attr-defined]
    return records


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([(0.5, 0.6), (0.4, 0.9), (0.3, 0.8)], 2),
        ([(0.5, 0.8), (0.4, 0.8), (0.6, 0.8)], 2),
        ([(0.5, 0.8), (0.5, 0.8), (0.5, 0.8)], 1),
    ],
)
def test_best_epoch_is_the_highest_accuracy_then_lowest_loss_then_first(
    monkeypatch: pytest.MonkeyPatch, scores: list[tuple[float, float]], best: int
) -> None:
    training = tiny_training(_trial("linear_probe", epochs=3))
    scripted = [Scores(loss=loss, metrics={"accuracy": accuracy}) for loss, accuracy in scores]
    _with_val_scores(monkeypatch, training, scripted)
    assert training.best.epoch == best  # type: ignore[attr-defined]


def test_early_stopping_counts_epochs_without_improvement(monkeypatch: pytest.MonkeyPatch) -> None:
    training = tiny_training(_trial("linear_probe", epochs=8, early_stopping=2))
    accuracies = [0.5, 0.6, 0.55, 0.6, 0.9, 0.9, 0.9, 0.9]
    scripted = [Scores(loss=1.0, metrics={"accuracy": accuracy}) for accuracy in accuracies]
    records = _with_val_scores(monkeypatch, training, scripted)
    assert [record.epoch for record in records] == [1, 2, 3, 4]


def test_early_stopping_ends_no_stage_but_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"probe_epochs": 4}
    training = tiny_training(_trial("lp_ft", options=options, epochs=9, early_stopping=2))
    accuracies = [0.9, *[0.5] * 8]
    scripted = [Scores(loss=1.0, metrics={"accuracy": accuracy}) for accuracy in accuracies]
    records = _with_val_scores(monkeypatch, training, scripted)
    assert [record.epoch for record in records] == [1, 2, 3, 4, 5, 6]


def test_the_chosen_epochs_weights_are_kept_and_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[dict[str, Tensor]] = []
    training = tiny_training(_trial(epochs=3, lr=0.05))

    def on_epoch(record: EpochRecord) -> None:
        states.append(_state(training))

    outcome = train(training, on_epoch)
    chosen = states[outcome.best.epoch - 1]
    assert all(torch.equal(chosen[name], outcome.state[name]) for name in chosen)
    training.network.model.load_state_dict(chosen)
    logits = predict(training, training.splits.test, epoch=0)
    assert score(training, logits, training.splits.test) == outcome.best.test
    assert np.allclose(outcome.probabilities, logits.softmax(dim=1).numpy(), atol=1e-7)
    assert outcome.last.epoch == 3


@pytest.mark.parametrize("strategy", ["full_finetune", "partial_finetune", "linear_probe"])
def test_validation_predicted_while_training_is_what_the_chosen_epoch_predicts(
    strategy: str,
) -> None:
    training = tiny_training(make_trial(strategy, epochs=3, lr=0.05))
    with patch("bench.training.loop.outcome", wraps=outcome) as finished:
        found = train(training, lambda _: None)
    (_, state), _ = finished.call_args
    assert found.best.epoch < 3 or strategy != "full_finetune"  # then another state is loaded
    again = outcome(training, replace(state, best_val=None))
    assert np.array_equal(found.val_probabilities, again.val_probabilities)
    assert len(again.val_probabilities) == len(training.splits.val)


@pytest.mark.campaign
@pytest.mark.parametrize("strategy", ["full_finetune", "lp_ft", "linear_probe"])
def test_a_diagnosis_scores_the_test_split_in_every_epoch_and_changes_nothing(
    strategy: str,
) -> None:
    plain, diagnosed = (
        train(tiny_training(_trial(strategy, epochs=3, lr=0.05, diagnose=asked)), lambda _: None)
        for asked in (None, "test_curve")
    )
    assert [record.test for record in plain.records] == [None] * 3
    assert [
        replace(record, test=None, train_seconds=0, val_seconds=0) for record in diagnosed.records
    ] == [replace(record, train_seconds=0, val_seconds=0) for record in plain.records]
    assert (diagnosed.best, diagnosed.last) == (plain.best, plain.last)
    assert diagnosed.records[diagnosed.best.epoch - 1].test == diagnosed.best.test
    assert diagnosed.records[-1].test == diagnosed.last.test


def test_a_loss_that_is_not_finite_ends_the_trial_with_its_epoch() -> None:
    training = tiny_training(_trial(lr=1e30, epochs=2))
    with pytest.raises(TrainingDivergedError, match=r"loss is (nan|inf) in epoch 1; lower lr"):
        _train(training)


def test_a_plan_without_stages_trains_nothing() -> None:
    training = tiny_training(_trial())
    training.plan = STRATEGIES.get("pretrained_head").function((), 2)
    training.__post_init__()
    before = _state(training)
    outcome = _train(training)
    assert _moved(training, before) == set()
    assert outcome.records == ()
    assert outcome.best == outcome.last
    assert outcome.best.epoch == 0
    assert outcome.trainable_params == 0


@pytest.mark.parametrize(
    ("strategy", "options", "expected"),
    [
        ("linear_probe", {}, lambda model: 1024 * 2 + 2),
        ("two_rates", {"backbone_multiplier": 0.0}, lambda model: 1024 * 2 + 2),
        ("full_finetune", {}, lambda model: sum(p.numel() for p in model.parameters())),
    ],
)
def test_trainable_parameters(
    strategy: str, options: dict[str, Any], expected: Callable[[nn.Module], int]
) -> None:
    training = tiny_training(_trial(strategy, options=options, epochs=1))
    outcome = _train(training)
    assert outcome.trainable_params == expected(training.network.model)
    assert outcome.total_params == sum(p.numel() for p in training.network.model.parameters())


@pytest.mark.parametrize("seed", range(3))
def test_bf16_is_another_computation_whose_roundings_explain_the_difference(seed: int) -> None:
    logits = {}
    for precision in ("fp32", "bf16"):
        training = tiny_training(make_trial(precision=precision, seed=seed))
        training.load({})
        logits[precision] = predict(training, training.splits.train, epoch=None)
    layers = [m for m in training.network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    difference = (logits["bf16"] - logits["fp32"]).norm() / logits["fp32"].norm()
    # Eight bits of precision: each layer rounds by up to 2^-9 of a value, in either direction.
    assert 0 < difference < len(layers) * 2**-9


def test_evaluation_sees_the_central_view() -> None:
    training = tiny_training(_trial())
    images = torch.arange(2 * 3 * 6 * 6, dtype=torch.uint8).reshape(2, 3, 6, 6)
    view = Augmenter(Entry(name="none"), size=4, num_classes=2, seed=0).images(
        images, [0, 1], epoch=0
    )
    assert torch.equal(view, images[:, :, 1:5, 1:5])
    assert training.preprocessing.size == 32
