"""Epoch keys: which trials share which epochs, and that no field can be forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import pytest
import torch

from bench.execution.epoch_keys import EXEMPT, HASHED, epoch_keys, unlisted
from bench.methods.plan import Plan, Rule, Stage
from bench.models import outline
from bench.runs.catalogue import catalogue
from bench.suite import Entry, Settings
from bench.system.machine import arithmetic
from tests.execution.plans import CONSTANT, plan_of
from tests.tiny import entry, make_job, make_trial

LINEAR = Entry(name="linear")


def _keys(
    strategy: str = "full_finetune",
    epochs: int = 6,
    *,
    schedule: tuple[str, dict[str, Any]] = CONSTANT,
    augmentation: tuple[str, dict[str, Any]] = ("flip_crop", {}),
    options: dict[str, Any] | None = None,
    steps_per_epoch: int = 3,
    **settings: Any,
) -> tuple[str, ...]:
    names = catalogue()
    checked = Settings(**settings)
    return epoch_keys(
        {"seed": checked.seed},
        plan=plan_of(strategy, epochs, **(options or {})),
        settings=checked,
        schedule=entry(names.schedule, schedule[0], **schedule[1]),
        augmentation=entry(names.augmentation, augmentation[0], **augmentation[1]),
        outline=outline("resnet18", LINEAR),
        steps_per_epoch=steps_per_epoch,
    )


def _keys_of(
    *,
    settings: Settings | None = None,
    plan: Plan | None = None,
    schedule: Entry | None = None,
    augmentation: Entry | None = None,
) -> tuple[str, ...]:
    return epoch_keys(
        {},
        plan=plan or plan_of("full_finetune", 3),
        settings=settings or Settings(),
        schedule=schedule or Entry(name="constant"),
        augmentation=augmentation or Entry(name="none"),
        outline=outline("resnet18", LINEAR),
        steps_per_epoch=3,
    )


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """How many first epochs agree; afterwards nothing does."""
    epochs = 0
    pairs = list(zip(one, other, strict=False))
    while epochs + 1 < len(pairs) and pairs[epochs + 1][0] == pairs[epochs + 1][1]:
        epochs += 1
    assert pairs[0][0] == pairs[0][1]
    assert set(one[epochs + 1 :]).isdisjoint(other[epochs + 1 :])
    return epochs


@pytest.mark.parametrize(
    ("one", "other", "epochs"),
    [
        ({}, {"schedule": ("step", {"step_size": 7})}, 7),
        ({}, {"schedule": ("multistep", {"milestones": (2, 4)})}, 2),
        ({}, {"schedule": ("constant", {"warmup_epochs": 1.0})}, 0),
        ({}, {"schedule": ("constant", {"warmup_epochs": 0.3})}, 10),
        ({}, {"schedule": ("plateau", {})}, 0),
        ({"schedule": ("plateau", {})}, {"schedule": ("plateau", {}), "epochs": 20}, 10),
        ({"schedule": ("plateau", {})}, {"schedule": ("plateau", {"patience": 9})}, 0),
        ({"schedule": ("cosine", {})}, {"schedule": ("cosine", {}), "epochs": 20}, 0),
        ({"schedule": ("linear", {})}, {"schedule": ("cosine", {})}, 0),
        ({"schedule": ("one_cycle", {})}, {"schedule": ("one_cycle", {}), "epochs": 9}, 0),
        ({"schedule": ("step", {"step_size": 2})}, {"schedule": ("step", {"step_size": 3})}, 2),
        ({}, {"schedule": ("exponential", {})}, 1),
        ({}, {"schedule": ("linear", {"end": 1.0})}, 10),
        ({}, {"early_stopping": 3}, 10),
        (
            {"strategy": "linear_probe"},
            {"strategy": "gradual_unfreeze", "options": {"every": 4}},
            4,
        ),
        ({"strategy": "linear_probe"}, {"strategy": "lp_ft"}, 5),
        ({"strategy": "linear_probe"}, {"strategy": "lp_ft", "options": {"probe_epochs": 8}}, 8),
        ({"strategy": "lp_ft"}, {"strategy": "gradual_unfreeze", "options": {"every": 4}}, 4),
        ({}, {"strategy": "two_rates", "options": {"backbone_multiplier": 1.0}}, 10),
        ({}, {"strategy": "two_rates", "options": {"backbone_multiplier": 0.1}}, 0),
        ({}, {"strategy": "layerwise_decay", "options": {"decay": 1.0}}, 10),
        ({}, {"strategy": "from_scratch"}, 10),
        ({}, {"strategy": "auto_rgn"}, 0),
        ({"strategy": "auto_rgn"}, {"strategy": "auto_rgn", "options": {"batches": 3}}, 0),
        ({"strategy": "auto_rgn"}, {"strategy": "auto_rgn", "epochs": 20}, 10),
        ({}, {"options": {"norm": "fixed"}}, 0),
        (
            {"strategy": "linear_probe"},
            {"strategy": "two_rates", "options": {"backbone_multiplier": 0.0, "norm": "fixed"}},
            0,
        ),
        ({}, {"steps_per_epoch": 4}, 0),
        ({}, {"augmentation": ("flip_crop", {"min_scale": 0.5})}, 0),
        ({}, {"augmentation": ("flip_crop", {"mix": "mixup"})}, 0),
        ({}, {"augmentation": ("none", {})}, 0),
        ({}, {"lr": 0.002}, 0),
        ({}, {"threads": 1}, 10),
    ],
)
def test_how_many_epochs_agree(one: dict[str, Any], other: dict[str, Any], epochs: int) -> None:
    assert _shared(_keys(**{"epochs": 10, **one}), _keys(**{"epochs": 10, **other})) == epochs


def test_more_epochs_of_a_constant_rate_go_on_on_the_same_path() -> None:
    five, ten, twenty = (_keys(epochs=epochs) for epochs in (5, 10, 20))
    assert five == ten[:6] == twenty[:6]
    assert ten == twenty[:11]
    assert len(set(twenty)) == 21


def test_each_setting_of_an_epoch_changes_every_key() -> None:
    changed: dict[str, Any] = {
        "optimizer": "adam",
        "momentum": 0.5,
        "nesterov": True,
        "weight_decay": 0.1,
        "label_smoothing": 0.1,
        "grad_clip_norm": 1.0,
        "batch_size": 7,
        "class_weights": "balanced",
        "sampler": "balanced",
        "task": "regression",
        "micro_batch": 4,
        "devices_per_trial": 2,
        "metric": "ece",
        "choose": "last",
        "diagnose": "test_curve",
    }
    assert set(changed) == set(HASHED[Settings])
    for name, value in changed.items():
        assert getattr(Settings(), name) != value
        assert _shared(_keys(), _keys(**{name: value})) == 0, name


def test_a_seed_shares_not_even_the_start() -> None:
    assert set(_keys(seed=0)).isdisjoint(_keys(seed=1))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"threads": 2},
        {"precision": "bf16"},
        {"weights": Entry(name="none"), "shots": 2},
        {"data": {"family_seed": 5}},
        {"backbone": "shufflenet_v2_x0_5"},
        {"head": Entry(name="mlp", options={"hidden": 8, "dropout": 0.0})},
    ],
)
def test_what_the_start_depends_on_changes_its_key(change: dict[str, Any]) -> None:
    one, other = make_job(make_trial()), make_job(make_trial(**change))
    assert set(one.keys).isdisjoint(other.keys)


def test_a_job_has_a_key_for_every_epoch_and_knows_its_heads() -> None:
    for strategy, heads in (("linear_probe", 4), ("lp_ft", 2), ("full_finetune", 0)):
        job = make_job(make_trial(strategy, epochs=4))
        assert len(job.keys) == 5
        assert job.head_epochs == heads


# Fields ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", HASHED)
def test_the_two_lists_divide_all_fields(kind: type) -> None:
    """A new field is hashed until somebody says, with a reason, that no epoch uses it."""
    assert unlisted(kind, kind) == ()
    assert set(HASHED[kind]).isdisjoint(EXEMPT[kind])
    assert set(HASHED) == set(EXEMPT)
    names = {f.name for f in fields(kind)} if is_dataclass(kind) else set(kind.model_fields)  # type: ignore[attr-defined]
    assert {*HASHED[kind], *EXEMPT[kind]} == names
    assert all(EXEMPT[kind].values())


class PenalisedSettings(Settings):
    """Settings with a field that no list names, as after somebody has added it."""

    l2_sp: float = 0.0


def test_a_setting_that_nobody_listed_changes_every_key_and_the_trial() -> None:
    assert unlisted(PenalisedSettings, Settings) == ("l2_sp",)
    without, weak, strong = (
        _keys_of(settings=PenalisedSettings(l2_sp=value)) for value in (0.0, 0.1, 1.0)
    )
    assert _shared(without, weak) == _shared(weak, strong) == 0
    trial = make_trial()
    plain = trial.settings.model_dump()
    with_field = [
        trial.model_copy(update={"settings": PenalisedSettings.model_construct(
            **{name: getattr(trial.settings, name) for name in plain}, l2_sp=value
        )})
        for value in (0.0, 1.0)
    ]  # fmt: skip
    one, other = (make_job(trial) for trial in with_field)
    assert one.keys[0] == other.keys[0]  # it starts alike
    assert set(one.keys[1:]).isdisjoint(other.keys[1:])
    assert with_field[0].id({}) != with_field[1].id({})


@dataclass(frozen=True, kw_only=True)
class DecayingRule(Rule):
    """A rule with a field that no list names."""

    weight_decay: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PenalisedStage(Stage):
    """A stage with a field that no list names."""

    penalty: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PenalisedPlan(Plan):
    """A plan with a field that no list names."""

    penalty: float = 0.0


class TimedEntry(Entry):
    """An entry with a field that no list names."""

    since: int = 0


def _one_stage(rule: Rule, epochs: int = 3) -> Plan:
    return Plan(stages=(Stage(epochs=epochs, rules=(rule,)),))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            {"plan": _one_stage(DecayingRule(pattern="*", lr=1.0))},
            {"plan": _one_stage(DecayingRule(pattern="*", lr=1.0, weight_decay=0.1))},
        ),
        (
            {"plan": Plan(stages=(PenalisedStage(epochs=3, rules=(Rule(pattern="*", lr=1.0),)),))},
            {
                "plan": Plan(
                    stages=(
                        PenalisedStage(epochs=3, rules=(Rule(pattern="*", lr=1.0),), penalty=1.0),
                    )
                )
            },
        ),
        (
            {"plan": PenalisedPlan(stages=_one_stage(Rule(pattern="*", lr=1.0)).stages)},
            {"plan": PenalisedPlan(stages=_one_stage(Rule(pattern="*", lr=1.0)).stages, penalty=1)},
        ),
        (
            {"schedule": TimedEntry(name="constant")},
            {"schedule": TimedEntry(name="constant", since=1)},
        ),
        (
            {"augmentation": TimedEntry(name="none")},
            {"augmentation": TimedEntry(name="none", since=1)},
        ),
    ],
    ids=["rule", "stage", "plan", "schedule", "augmentation"],
)
def test_a_field_that_nobody_listed_is_hashed(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert _keys_of(**one) == _keys_of(**one)
    assert _shared(_keys_of(**one), _keys_of(**other)) == 0


def test_a_rule_s_text_is_none_of_an_epoch_s_business() -> None:
    everything = _one_stage(Rule(pattern="*", lr=1.0))
    twice = Plan(
        stages=(
            Stage(
                epochs=3,
                rules=(Rule(pattern="layer1/*", lr=1.0, norm="update"), Rule(pattern="*", lr=1.0)),
            ),
        )
    )
    assert _keys_of(plan=everything) == _keys_of(plan=twice)
    assert (
        _shared(_keys_of(plan=everything), _keys_of(plan=_one_stage(Rule(pattern="*", lr=0.5))))
        == 0
    )


# The device -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("switch", "value"),
    [
        ("torch.get_float32_matmul_precision", lambda: "medium"),
        ("torch.backends.cpu.get_cpu_capability", lambda: "an older one"),
        ("bench.system.machine.cpu_name", lambda: "another processor"),
    ],
)
def test_another_machine_has_other_keys(
    switch: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = make_job(make_trial())
    monkeypatch.setattr(switch, value)
    there = make_job(make_trial())
    assert set(here.keys).isdisjoint(there.keys)
    assert here.trunk_key != there.trunk_key


@pytest.mark.parametrize(
    ("switch", "value", "everywhere"),
    [
        # It sets the precision of float32 products on every device.
        ("torch.backends.cuda.matmul.allow_tf32", True, True),
        ("torch.backends.cudnn.benchmark", True, False),
        ("torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction", False, False),
    ],
)
def test_a_gpu_s_switches_are_part_of_its_arithmetic(
    switch: str, value: bool, everywhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "a GPU")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (9, 0))
    before, on_cpu = arithmetic("cuda"), arithmetic("cpu")
    place, _, name = switch.rpartition(".")
    owner = torch
    for part in place.split(".")[1:]:
        owner = getattr(owner, part)
    was = getattr(owner, name)
    assert was != value
    try:
        setattr(owner, name, value)
        assert arithmetic("cuda") != before
        assert (arithmetic("cpu") != on_cpu) is everywhere
    finally:
        setattr(owner, name, was)
    assert arithmetic("cuda") == before
