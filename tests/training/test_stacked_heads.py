"""Stacked heads: a head among many is the head alone, and the one that plain torch trains."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.data import open_data
from bench.execution.engine import build, make_training
from bench.execution.jobs import trial_splits
from bench.keys import derive_seed
from bench.methods.plan import HEAD
from bench.methods.schedules import Progress, lr_factor
from bench.models import head_start
from bench.runs.catalogue import catalogue
from bench.suite import Entry, Trial
from bench.training.frozen_features import FeatureStore
from bench.training.loop import Branch, isolated
from bench.training.stacked_heads import HeadTrial, train_heads
from bench.training.state import EpochRecord, Scores
from bench.training.trial import (
    EpochInputs,
    Step,
    Training,
    TrainingDivergedError,
    batch_order,
    copied_tensors,
    training_batch,
)
from tests.tiny import entry, make_job, make_trial
from tests.written_loss import written_loss

BACKBONE = "shufflenet_v2_x0_5"
TENSORS = dict[str, Tensor]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with isolated(1):
        yield


def _trial(strategy: str = "linear_probe", **changes: Any) -> Trial:
    return make_trial(strategy, **{"backbone": BACKBONE, "augmentation": "none", **changes})


def _schedule(name: str, **options: Any) -> Entry:
    return entry(catalogue().schedule, name, **options)


def _head_trials(
    trials: Sequence[Trial], folder: Path, *, with_keys: bool = False
) -> list[HeadTrial]:
    """Heads that share one network, whose trunk is that of the first trial's seed."""
    first = make_job(trials[0])
    jobs = [make_job(t) if with_keys else replace(first, trial=t) for t in trials]
    data = open_data(jobs[0].data)
    network = build(jobs[0], data)
    start, features = copied_tensors(network), FeatureStore(folder)
    splits = {trial.settings.seed: trial_splits(trial, data) for trial in trials}
    return [
        HeadTrial(
            training=make_training(
                replace(job, trunk_key=jobs[0].trunk_key),
                data,
                splits[job.trial.settings.seed],
                network=network,
                start=start,
                features=features,
            ),
            epochs=job.head_epochs,
            start=head_start(
                job.trial.backbone.name,
                job.trial.settings.head,
                num_classes=len(data.classes),
                seed=job.trial.settings.seed,
            ),
            keys=job.keys if with_keys else None,
        )
        for job in jobs
    ]


def _fresh(trial: HeadTrial) -> HeadTrial:
    return HeadTrial(
        training=trial.training, epochs=trial.epochs, start=trial.start, keys=trial.keys
    )


def _run(trials: Sequence[HeadTrial]) -> list[HeadTrial]:
    fresh = [_fresh(trial) for trial in trials]
    for _ in train_heads(fresh):
        pass
    return fresh


def _curve(records: Sequence[EpochRecord]) -> list[tuple[int, float, Scores, Scores]]:
    return [(r.epoch, r.lr, r.train, r.val) for r in records]


def _assert_same_bits(one: HeadTrial, other: HeadTrial) -> None:
    assert _curve(one.state.records) == _curve(other.state.records)
    for part in ("model", "best"):
        a, b = getattr(one.state, part), getattr(other.state, part)
        assert set(a) == set(b)
        assert all(torch.equal(a[name], b[name]) for name in a), part
    for name, slots in one.state.optimizer.items():
        others = other.state.optimizer[name]
        assert set(slots) == set(others)
        assert all(torch.equal(slots[slot], others[slot]) for slot in slots)


# Companions -----------------------------------------------------------------------------------

VARIATIONS: tuple[dict[str, Any], ...] = (
    {"lr": 0.1, "weight_decay": 0.01, "momentum": 0.9},
    {"lr": 0.03, "momentum": 0.0, "label_smoothing": 0.2},
    {"lr": 1.0, "grad_clip_norm": 0.1, "momentum": 0.5, "weight_decay": 0.3},
    {"lr": 0.3, "schedule": ("cosine", {}), "options": {"penalty": {"l2_sp": 0.2}}},
    {"lr": 0.5, "schedule": ("step", {"step_size": 1}), "class_weights": "balanced"},
    {
        "lr": 0.02,
        "schedule": ("plateau", {"patience": 0, "gamma": 0.5}),
        "weight_decay": 1e-2,
        "weight_decay_on": "matrices",
    },
    {"lr": 0.007, "schedule": ("one_cycle", {}), "grad_clip_norm": 5.0},
)


def _varied(count: int, **common: Any) -> list[Trial]:
    trials = []
    for index, variation in enumerate(islice(cycle(VARIATIONS), count)):
        changes = {**variation, "lr": variation["lr"] * (1 + index / 100), "seed": index % 2}
        name, options = changes.pop("schedule", ("constant", {}))
        if common.get("optimizer", "sgd") != "sgd":
            changes.pop("momentum", None)
        trials.append(_trial(schedule=_schedule(name, **options), **changes, **common))
    return trials


@pytest.mark.parametrize(
    ("optimizer", "augmentation", "backbone", "head"),
    [
        ("sgd", "none", BACKBONE, "linear"),
        ("sgd", "flip_crop", BACKBONE, "linear"),
        pytest.param(*("adam", "none", "mobilenet_v3_small", "linear"), marks=pytest.mark.campaign),
        pytest.param(*("adamw", "flip_crop", BACKBONE, "mlp"), marks=pytest.mark.campaign),
    ],
)
def test_a_head_has_the_same_bits_alone_and_among_others(
    optimizer: str, augmentation: str, backbone: str, head: str, tmp_path: Path
) -> None:
    names = catalogue()
    options = {"hidden": 16, "dropout": 0.3} if head == "mlp" else {}
    common = {
        "strategy": "mlp_probe" if head == "mlp" else "linear_probe",
        "optimizer": optimizer,
        "augmentation": augmentation,
        "backbone": backbone,
        "head": entry(names.head, head, **options),
        "data": {"val_per_class": 7},
        "batch_size": 5,
    }
    trials = _head_trials(_varied(64, **common), tmp_path)
    among = {count: _run(trials[:count]) for count in (2, 8, 64)}
    for index in (0, 1, 5):
        (alone,) = _run([trials[index]])
        assert alone.error is None
        for count, others in among.items():
            if index < count:
                _assert_same_bits(alone, others[index])
    # Another place in the stack, and none of the first companions.
    _assert_same_bits(_run(trials[40:][::-1])[0], among[64][63])


def test_the_settings_of_companions_do_act(tmp_path: Path) -> None:
    trials = _run(_head_trials(_varied(7), tmp_path))
    curves = [_curve(trial.state.records) for trial in trials]
    assert all(a != b for i, a in enumerate(curves) for b in curves[:i])


@pytest.mark.parametrize("threads", [2, 3])
def test_more_threads_change_no_bit(threads: int, tmp_path: Path) -> None:
    trials = _head_trials(_varied(8), tmp_path)
    expected = _run(trials)
    with isolated(threads):
        together = _run(trials)
        alone = [_run([trial])[0] for trial in trials]
    for one, two, three in zip(expected, together, alone, strict=True):
        _assert_same_bits(two, three)
        _assert_same_bits(one, two)


# Against torch --------------------------------------------------------------------------------


def _unbalanced(training: Training) -> None:
    """Most samples of the last class get the label 0."""
    labels = training.data.labels.copy()
    last = training.splits.train[labels[training.splits.train] == labels.max()]
    labels[last[:5]] = 0
    training.data = copy.copy(training.data)
    object.__setattr__(training.data, "labels", labels)
    training.__post_init__()


def _torch_optimizer(training: Training, model: nn.Module) -> torch.optim.Optimizer:
    settings = training.settings
    common = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(), momentum=settings.momentum, nesterov=settings.nesterov, **common
        )
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[settings.optimizer](model.parameters(), **common)


def _plain_loop(
    trial: HeadTrial,
) -> tuple[list[tuple[float, float]], TENSORS, dict[str, dict[str, Tensor]]]:
    """Curves (training and validation loss), parameters and optimiser slots of a plain loop."""
    training, settings = trial.training, trial.training.settings
    layers = training.network.head_layers()
    assert layers is not None
    assert trial.start is not None
    model = nn.Sequential(*(copy.deepcopy(layer) for _, layer in layers))
    names = [f"{name}.{own}" for name, layer in layers for own, _ in layer.named_parameters()]
    with torch.no_grad():
        for name, parameter in zip(names, model.parameters(), strict=True):
            parameter.copy_(trial.start[name])
            parameter.requires_grad_()
    optimizer = _torch_optimizer(training, model)
    curves = []
    training.network.eval()
    weights = None
    if settings.class_weights == "balanced":
        counts = np.bincount(training.data.labels[training.splits.train])
        weights = torch.tensor(counts.sum() / len(counts) / counts, dtype=torch.float32)
    for epoch in range(trial.epochs):
        model.train()
        train = training.splits.train
        inputs = EpochInputs(training, HEAD, training.views, epoch, among=train, pristine=False)
        batches = batch_order(training, epoch)
        total = 0.0
        for step, batch in enumerate(batches):
            with torch.no_grad():
                features, targets = training_batch(
                    training, Step(inputs=inputs, samples=batch, number=step)
                )
            progress = Progress(
                step=epoch * len(batches) + step,
                steps_per_epoch=len(batches),
                num_epochs=training.plan.epochs,
            )
            optimizer.param_groups[0]["lr"] = settings.lr * lr_factor(training.schedule, progress)
            torch.manual_seed(derive_seed(settings.seed, "dropout", epoch, step, HEAD))
            logits = model(features)
            loss = written_loss(logits, targets, weights, settings.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            if settings.grad_clip_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip_norm)
            optimizer.step()
            total += F.cross_entropy(logits.detach(), targets).item() * len(batch)
        model.eval()
        val = training.splits.val
        inputs = EpochInputs(training, HEAD, training.central, epoch, among=val, pristine=False)
        central = inputs.of(val)
        with torch.no_grad():
            loss = F.cross_entropy(model(central), torch.from_numpy(training.data.labels[val]))
        curves.append((total / len(training.splits.train), loss.item()))
    parameters = dict(zip(names, model.parameters(), strict=True))
    slots = {name: optimizer.state[parameter] for name, parameter in parameters.items()}
    return curves, {name: p.detach() for name, p in parameters.items()}, slots


def _assert_close(actual: Tensor, expected: Tensor) -> None:
    scale = float(expected.abs().max())
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * scale)


MLP = {"strategy": "mlp_probe", "head": ("mlp", {"hidden": 12, "dropout": 0.4})}
CASES: dict[str, dict[str, Any]] = {
    "momentum": {"momentum": 0.9, "weight_decay": 0.05, "lr": 0.05},
    "plain": {"momentum": 0.0, "lr": 0.2},
    "nesterov": {"momentum": 0.8, "nesterov": True, "weight_decay": 0.05, "lr": 0.05},
    "clipped": {"momentum": 0.9, "grad_clip_norm": 0.05, "lr": 0.5},
    "clip that seldom acts": {"momentum": 0.9, "grad_clip_norm": 1e3, "lr": 0.05},
    "smoothed": {"label_smoothing": 0.3, "lr": 0.05},
    "balanced": {"class_weights": "balanced", "label_smoothing": 0.2, "lr": 0.05},
    "mixup": {"mix": "mixup", "label_smoothing": 0.2, "class_weights": "balanced", "lr": 0.05},
    "adam": {"optimizer": "adam", "weight_decay": 0.1, "lr": 0.01, "grad_clip_norm": 0.1},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.5, "lr": 0.01, "label_smoothing": 0.1},
    "schedule": {"lr": 0.1, "schedule": ("cosine", {"warmup_epochs": 1.0})},
    "dropout": {"backbone": "mobilenet_v3_small", "lr": 0.05},
    "dropout before": {"backbone": "mobilenet_v2", "lr": 0.05},
    "mlp": {**MLP, "lr": 0.05, "weight_decay": 0.01},
    "mlp clipped adamw": {**MLP, "optimizer": "adamw", "grad_clip_norm": 0.2, "lr": 0.01},
    "mlp mixup balanced": {**MLP, "mix": "mixup", "class_weights": "balanced", "lr": 0.05},
    "odd batches": {"batch_size": 7, "lr": 0.05, "augmentation": "flip_crop"},
}


@pytest.mark.parametrize("case", CASES)
def test_equals_a_plain_loop_of_torch(case: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"data": {"classes": 3}, "epochs": 3, "seed": 4, **CASES[case]}
    names = catalogue()
    if "schedule" in changes:
        name, options = changes["schedule"]
        changes["schedule"] = _schedule(name, **options)
    if "head" in changes:
        name, options = changes["head"]
        changes["head"] = entry(names.head, name, **options)
    (trial,) = _head_trials([_trial(**changes)], tmp_path)
    if changes.get("class_weights") == "balanced":
        _unbalanced(trial.training)
    # A companion with other settings, so that rows would show if they were mixed up.
    other = _fresh(trial)
    other.training = copy.copy(trial.training)
    settings = trial.training.settings.model_copy(update={"lr": 0.3, "weight_decay": 0.2})
    other.training.settings = settings
    _, stacked = _run([other, trial])
    curves, parameters, slots = _plain_loop(trial)
    state = stacked.state
    assert [(r.train.loss, r.val.loss) for r in state.records] == [
        (pytest.approx(a, rel=1e-4), pytest.approx(b, rel=1e-4)) for a, b in curves
    ]
    assert set(state.model) == set(parameters)
    for name, expected in parameters.items():
        _assert_close(state.model[name], expected)
        for slot, tensor in slots[name].items():
            _assert_close(state.optimizer[name][slot], tensor)


# Rows -----------------------------------------------------------------------------------------


def test_rows_merge_while_their_keys_agree_and_part_afterwards(tmp_path: Path) -> None:
    trials = [
        _trial(epochs=3, lr=0.1, schedule=_schedule("constant")),
        _trial(epochs=3, lr=0.1, schedule=_schedule("step", step_size=1)),
        _trial(epochs=2, lr=0.1, schedule=_schedule("constant")),
        _trial(epochs=3, lr=0.2, schedule=_schedule("constant")),
        _trial(epochs=3, lr=0.1, schedule=_schedule("step", step_size=2)),
    ]
    heads = _head_trials(trials, tmp_path, with_keys=True)
    alone = [_run([trial])[0] for trial in heads]
    index = {id(trial): str(at) for at, trial in enumerate(heads)}
    rows: dict[int, list[str]] = {}
    for row, record in train_heads(heads):
        rows.setdefault(record.epoch, []).append("".join(index[id(trial)] for trial in row))
    assert {epoch: sorted(members) for epoch, members in rows.items()} == {
        1: ["0124", "3"],
        2: ["024", "1", "3"],
        3: ["0", "1", "3", "4"],
    }
    for one, other in zip(alone, heads, strict=True):
        _assert_same_bits(one, other)


def test_a_row_that_diverges_ends_and_the_others_do_not_notice(tmp_path: Path) -> None:
    trials = [
        _trial(epochs=3, lr=0.1),
        _trial(epochs=3, lr=1e30, weight_decay=0.1),
        _trial(epochs=3, lr=0.1, seed=1),
    ]
    heads = _head_trials(trials, tmp_path)
    good, bad, seeded = _run(heads)
    assert isinstance(bad.error, TrainingDivergedError)
    assert bad.state.epochs < 3
    for trial, start in ((good, heads[0]), (seeded, heads[2])):
        assert trial.error is None
        assert trial.state.epochs == 3
        _assert_same_bits(trial, _run([start])[0])


def test_a_row_that_diverges_is_not_reported_for_that_epoch(tmp_path: Path) -> None:
    trials = [_trial(lr=0.1), _trial(lr=1e30, weight_decay=0.1)]
    good, bad = _head_trials(trials, tmp_path)
    news = [(row, record.epoch) for row, record in train_heads([good, bad])]
    assert [epoch for row, epoch in news if row == [good]] == [1, 2]
    assert len(bad.state.records) == sum(row == [bad] for row, _ in news)


def test_early_stopping_removes_a_trial_and_keeps_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = [
        _trial(epochs=4, lr=0.1, early_stopping=1),
        _trial(epochs=4, lr=0.1),
        _trial(epochs=4, lr=0.2, early_stopping=2),
        _trial(epochs=4, lr=0.3),
    ]
    heads = _head_trials(trials, tmp_path, with_keys=True)
    monkeypatch.setattr(
        "bench.training.stacked_heads.score", lambda *_: Scores(loss=1.0, metrics={"accuracy": 0.5})
    )
    alone = [_run([trial])[0] for trial in heads]
    together = _run(heads)
    assert [trial.state.epochs for trial in together] == [2, 4, 3, 4]
    for one, other in zip(alone, together, strict=True):
        _assert_same_bits(one, other)


def test_the_best_epochs_head_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (trial,) = _head_trials([_trial(epochs=3, lr=0.1)], tmp_path)
    scores = iter([0.5, 0.9, 0.7])
    monkeypatch.setattr(
        "bench.training.stacked_heads.score",
        lambda *_: Scores(loss=1.0, metrics={"accuracy": next(scores)}),
    )
    states = []
    for _ in train_heads([trial]):
        states.append(trial.state)
    final = states[-1]
    assert all(torch.equal(final.best[name], states[1].model[name]) for name in final.best)
    assert not torch.equal(final.best["fc.weight"], final.model["fc.weight"])


# Handing over ---------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_the_optimisers_state_goes_on_in_torch(optimizer: str, tmp_path: Path) -> None:
    changes = {"momentum": 0.9} if optimizer == "sgd" else {"grad_clip_norm": 0.5}
    trial = _trial(
        "lp_ft",
        options={"probe_epochs": 2},
        epochs=3,
        optimizer=optimizer,
        weight_decay=0.05,
        lr=0.02,
        **changes,
    )
    (head,) = _head_trials([trial], tmp_path)
    assert head.epochs == 2
    (trained,) = _run([head])
    _, parameters, slots = _plain_loop(head)
    branch = Branch(training=make_training_again(head.training))
    branch.restore(trained.state)
    own = dict(branch.training.network.model.named_parameters())
    state = branch.training.optimizer.state
    assert {id(parameter) for parameter in state} == {id(own[name]) for name in parameters}
    names = {"sgd": {"momentum_buffer"}}.get(optimizer, {"exp_avg", "exp_avg_sq", "step"})
    for name in parameters:
        found = state[own[name]]
        assert set(found) == set(slots[name]) == names
        _assert_close(own[name].detach(), parameters[name])
        for slot, expected in slots[name].items():
            assert found[slot].shape == expected.shape
            assert found[slot].dtype == expected.dtype
            _assert_close(found[slot], expected)
    branch.train_epoch()
    assert branch.records[-1].epoch == 3
    if optimizer != "sgd":
        steps = {name: float(state[own[name]]["step"]) for name in own}
        batches = len(batch_order(branch.training, 2))
        assert {steps[name] for name in parameters} == {3.0 * batches}
        assert {steps[name] for name in set(own) - set(parameters)} == {1.0 * batches}


def make_training_again(training: Training) -> Training:
    """The same training with an optimiser that has no state yet."""
    again = copy.copy(training)
    again.__post_init__()
    return again


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_stacked_head_is_close_to_the_general_trainers(optimizer: str, tmp_path: Path) -> None:
    changes = {} if optimizer == "sgd" else {"momentum": 0.0}
    trial = _trial(epochs=2, lr=0.05, backbone="mobilenet_v2", optimizer=optimizer, **changes)
    (head,) = _head_trials([trial], tmp_path)
    (stacked,) = _run([head])
    branch = Branch(training=make_training_again(head.training))
    branch.training.load(head.start or {})
    for record in stacked.state.records:
        general = branch.train_epoch()
        assert general.train.loss == pytest.approx(record.train.loss, rel=1e-4)
        assert general.val.loss == pytest.approx(record.val.loss, rel=1e-4)
        assert general.lr == record.lr
