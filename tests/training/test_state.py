"""States: written and read they are the same, and training goes on from them bit by bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.methods.metrics import measure
from bench.methods.plan import Plan, Rule, Stage
from bench.system.lru_folder import LruFolder
from bench.training.freezing import moved_groups
from bench.training.loop import Branch, isolated
from bench.training.state import EpochRecord, Scores, State, StateStore, best_record
from bench.training.trial import Training
from tests.damage import DAMAGES, damage
from tests.emulated_device import emulated_device
from tests.tiny import make_trial, tiny_training

KEYS = ("start", "one", "two", "three")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with isolated(1):
        yield


def _record(epoch: int, loss: float = 1 / 3) -> EpochRecord:
    return EpochRecord(
        epoch=epoch,
        lr=0.1 + 0.2,
        train=Scores(loss=loss, metrics={"accuracy": 2 / 3}),
        val=Scores(loss=5e-324, metrics={"accuracy": 1.0}),
        train_seconds=1e-9 / 3,
        val_seconds=1e20 / 7,
    )


def _state(epochs: int, *, own_best: bool = True) -> State:
    model = {
        "fc.weight": torch.randn(3, 4),
        "conv.weight": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "bn.num_batches_tracked": torch.tensor(7),
        "half": torch.randn(3).bfloat16(),
    }
    slots = {"step": torch.tensor(12.0), "exp_avg": torch.randn(3, 4)}
    return State(
        records=tuple(_record(epoch + 1, 1 / (3 + epoch)) for epoch in range(epochs)),
        model=model,
        best={name: tensor + 1 for name, tensor in model.items()} if own_best else model,
        optimizer={"fc.weight": slots, "conv.weight": {"momentum_buffer": torch.randn(1)}},
    )


def _store(folder: Path) -> StateStore:
    return StateStore(LruFolder(folder / "states", 2**30))


def _assert_same(one: State, other: State) -> None:
    assert one.records == other.records
    pairs = [(one.model, other.model), (one.best, other.best)]
    assert set(one.optimizer) == set(other.optimizer)
    pairs += [(slots, other.optimizer[name]) for name, slots in one.optimizer.items()]
    for first, second in pairs:
        assert set(first) == set(second)
        for name, tensor in first.items():
            assert tensor.dtype == second[name].dtype
            assert tensor.shape == second[name].shape
            assert torch.equal(tensor, second[name])


@pytest.mark.parametrize("own_best", [True, False])
def test_a_state_from_disk_has_the_same_bits(own_best: bool, tmp_path: Path) -> None:
    state = _state(2, own_best=own_best)
    _store(tmp_path).save("key", state)
    found = _store(tmp_path).load("key")
    assert found is not None
    _assert_same(found, state)
    assert (found.best is found.model) == (not own_best)
    assert found.epochs == 2


def test_states_of_a_gpu_wait_in_main_memory(tmp_path: Path) -> None:
    with emulated_device():
        there = torch.ones(3, 4, device="cuda")
        model = {"fc.weight": there}
        slots = {"fc.weight": {"momentum_buffer": there + 1, "step": torch.tensor(2.0)}}
        store = _store(tmp_path)
        store.save("key", State(model=model, best=model, optimizer=slots))
        for each in (store, _store(tmp_path)):
            found = each.load("key")
            assert found is not None
            kept = (*found.model.values(), *found.optimizer["fc.weight"].values())
            assert {type(tensor) for tensor in kept} == {torch.Tensor}
            assert found.best is found.model
            assert torch.equal(found.model["fc.weight"], torch.ones(3, 4))


def test_what_a_task_does_not_need_is_left_to_the_disk(tmp_path: Path) -> None:
    store = _store(tmp_path)
    for key in KEYS:
        store.save(key, _state(1))
    (tmp_path / "states" / "two").unlink()  # what is nowhere else stays
    store.keep_only(["one"])
    assert set(store._memory) == {"one", "two"}
    assert store._bytes == 2 * _state(1).nbytes
    assert all(store.load(key) is not None for key in KEYS)


def test_a_state_without_tensors_survives(tmp_path: Path) -> None:
    _store(tmp_path).save("key", State())
    found = _store(tmp_path).load("key")
    assert found is not None
    _assert_same(found, State())


def test_nothing_is_found_where_nothing_was_saved(tmp_path: Path) -> None:
    assert _store(tmp_path).load("key") is None
    assert StateStore(None).load("key") is None


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_state_is_none(how: str, tmp_path: Path) -> None:
    _store(tmp_path).save("two", _state(2))
    damage(tmp_path / "states" / "two", how)
    assert _store(tmp_path).load("two") is None
    assert _store(tmp_path).deepest(KEYS) is None


def test_a_file_of_something_else_is_none(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "states").mkdir()
    save_file({"weights": torch.zeros(3)}, tmp_path / "states" / "two")
    assert _store(tmp_path).load("two") is None


def test_the_deepest_state_is_found_past_damaged_and_wrong_ones(tmp_path: Path) -> None:
    store = _store(tmp_path)
    assert store.deepest(KEYS) is None
    states = {key: _state(epochs) for epochs, key in enumerate(KEYS)}
    store.save("one", states["one"])
    store.save("three", states["one"])  # not what its key says
    store.save("start", states["start"])
    for each in (store, _store(tmp_path)):
        found = each.deepest(KEYS)
        assert found is not None
        _assert_same(found, states["one"])
    store.save("two", states["two"])
    found = _store(tmp_path).deepest(KEYS)
    assert found is not None
    assert found.epochs == 2
    assert _store(tmp_path).deepest(KEYS[:2]).epochs == 1  # type: ignore[union-attr]
    assert _store(tmp_path).deepest(KEYS[:1]) is None
    (tmp_path / "states" / "two").write_bytes(b"damaged")
    assert _store(tmp_path).deepest(KEYS).epochs == 1  # type: ignore[union-attr]


def test_memory_has_a_limit_and_disk_keeps_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = {f"key{index}": _state(1) for index in range(6)}
    monkeypatch.setattr("bench.training.state.MEMORY_LIMIT", 2 * states["key0"].nbytes)
    store = _store(tmp_path)
    for key, state in states.items():
        store.save(key, state)
    in_memory = [key for key, state in states.items() if store.load(key) is state]
    assert in_memory == ["key4", "key5"]
    for key, state in states.items():
        found = store.load(key)
        assert found is not None
        _assert_same(found, state)


def test_what_was_used_last_stays_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, c = (_state(1) for _ in range(3))
    monkeypatch.setattr("bench.training.state.MEMORY_LIMIT", 2 * a.nbytes)
    store = _store(tmp_path)
    store.save("a", a)
    store.save("b", b)
    assert store.load("a") is a
    store.save("c", c)
    assert store.load("a") is a
    assert store.load("b") is not b


def test_without_a_disk_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.training.state.MEMORY_LIMIT", 1)
    store = StateStore(None)
    states = {f"key{index}": _state(1) for index in range(3)}
    for key, state in states.items():
        store.save(key, state)
    assert all(store.load(key) is state for key, state in states.items())


# Going on -------------------------------------------------------------------------------------


def _training(strategy: str, optimizer: str, **changes: Any) -> Training:
    if optimizer == "sgd":
        changes["momentum"] = 0.9
    return tiny_training(
        make_trial(
            strategy,
            optimizer=optimizer,
            epochs=3,
            lr=0.02,
            weight_decay=0.05,
            **{"backbone": "shufflenet_v2_x0_5", **changes},
        )
    )


def _numbers(branch: Branch) -> list[Any]:
    return [(r.epoch, r.lr, r.train, r.val) for r in branch.records]


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize(
    ("strategy", "backbone"),
    [
        ("full_finetune", "shufflenet_v2_x0_5"),
        pytest.param("partial_finetune", "resnet18", marks=pytest.mark.campaign),
        ("gradual_unfreeze", "mobilenet_v3_small"),
    ],
)
def test_two_epochs_and_one_are_three(
    strategy: str, backbone: str, optimizer: str, tmp_path: Path
) -> None:
    in_a_row = Branch(training=_training(strategy, optimizer, backbone=backbone))
    first = Branch(training=_training(strategy, optimizer, backbone=backbone))
    for _ in range(3):
        in_a_row.train_epoch()
    for _ in range(2):
        first.train_epoch()
    _store(tmp_path).save("key", first.state())
    # Nothing of a state may change when its branch goes on.
    kept = first.state()
    first.train_epoch()
    assert _numbers(first) == _numbers(in_a_row)
    read = _store(tmp_path).load("key")
    assert read is not None
    for state in (read, kept):
        second = Branch(training=_training(strategy, optimizer, backbone=backbone))
        second.restore(state)
        second.train_epoch()
        assert _numbers(second) == _numbers(in_a_row)
        a, b = second.state(), in_a_row.state()
        for part in ("model", "best"):
            one, other = getattr(a, part), getattr(b, part)
            assert set(one) == set(other)
            assert all(torch.equal(one[name], other[name]) for name in one)
        assert set(a.optimizer) == set(b.optimizer)
        for name, slots in a.optimizer.items():
            assert set(slots) == set(b.optimizer[name])
            assert all(torch.equal(slots[slot], b.optimizer[name][slot]) for slot in slots)


def test_a_state_holds_what_moved_and_no_more() -> None:
    branch = Branch(training=_training("partial_finetune", "sgd", backbone="resnet18"))
    branch.train_epoch()
    state = branch.state()
    assert {name.partition(".")[0] for name in state.model} == {"layer4", "fc"}
    assert set(state.model) == set(state.best)
    assert {name.partition(".")[0] for name in state.optimizer} == {"layer4", "fc"}


def test_the_best_epoch_of_an_earlier_stage_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.9, 0.5, 0.6])
    monkeypatch.setattr(
        "bench.training.loop.score", lambda *_: Scores(loss=1.0, metrics={"accuracy": next(scores)})
    )
    branch = Branch(training=_training("gradual_unfreeze", "sgd", backbone="resnet18"))
    weight = branch.training.network.model.get_parameter("fc.weight")
    branch.train_epoch()
    best = weight.detach().clone()
    branch.train_epoch()
    again = Branch(training=_training("gradual_unfreeze", "sgd", backbone="resnet18"))
    again.restore(branch.state())
    again.train_epoch()
    state = again.state()
    assert torch.equal(state.best["fc.weight"], best)
    assert {name.partition(".")[0] for name in state.best} == {"fc"}
    assert {name.partition(".")[0] for name in state.model} == {"layer3", "layer4", "fc"}


def test_what_an_earlier_stage_moved_stays_in_the_state_of_a_stage_that_comes_again() -> None:
    network = _training("linear_probe", "sgd", backbone="resnet18").network
    head = (Rule(pattern="head/*", lr=1.0), Rule(pattern="*", lr=None))
    stages = [Stage(epochs=1, rules=rules) for rules in (head, (Rule(pattern="*", lr=1.0),), head)]
    plan = Plan(stages=tuple(stages))
    everything = {group.name for group in network.groups}
    moved = [moved_groups(network.outline, plan, epochs) for epochs in range(4)]
    assert moved == [set(), {"head"}, everything, everything]


def test_accuracy_and_macro_f1_choose_different_epochs_where_classes_are_unequal() -> None:
    labels = np.array([0] * 18 + [1] * 2)
    majority = np.tile([0.9, 0.1], (20, 1))
    both = np.array([[0.9, 0.1]] * 14 + [[0.1, 0.9]] * 6)  # wrong of four, right of the rare two
    records = [
        EpochRecord(
            epoch=epoch,
            lr=0.1,
            train=Scores(loss=1.0, metrics={}),
            val=Scores(loss=1.0, metrics=measure("macro_f1", labels, probabilities)),
            train_seconds=1.0,
            val_seconds=1.0,
        )
        for epoch, probabilities in ((1, majority), (2, both))
    ]
    assert best_record(records, "accuracy").epoch == 1
    assert best_record(records, "macro_f1").epoch == 2
    assert best_record(records, "balanced_accuracy").epoch == 2
