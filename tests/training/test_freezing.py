"""What moves and what stays: groups, boundaries and head epochs of plans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from bench.methods.plan import HEAD, Plan, Rule, Stage, group_rule
from bench.methods.strategies import STRATEGIES
from bench.models import Outline, layer_group_names, outline
from bench.suite import Entry
from bench.training.freezing import (
    adapts_behind,
    frozen_boundary,
    head_epochs,
    is_pristine,
    moved_groups,
    moving_groups,
)
from tests.tiny import make_trial, tiny_training

ALL = Rule(pattern="*", lr=1.0)
NOTHING = Rule(pattern="*", lr=None)


def _outline(backbone: str = "resnet18") -> Outline:
    return outline(backbone, Entry(name="linear"))


def _plan(strategy: str, epochs: int, **options: Any) -> Plan:
    function = STRATEGIES.get(strategy).function
    return function(layer_group_names("resnet18"), epochs, **options)


def test_outlines_with_and_without_values_are_equal() -> None:
    assert tiny_training(make_trial("full_finetune")).network.outline == _outline()


@pytest.mark.parametrize(
    ("multipliers", "expected"),
    [
        ({"head": 1.0}, {"head"}),
        ({"layer4": 0.0, "head": 1.0}, {"layer4", "head"}),
        ({}, set()),
    ],
)
def test_moving_groups(multipliers: Mapping[str, float], expected: set[str]) -> None:
    rules = [group_rule(group, lr) for group, lr in multipliers.items()]
    stage = Stage(epochs=1, rules=(*rules, NOTHING))
    assert moving_groups(_outline(), stage) == expected


def test_one_trained_parameter_makes_its_group_train() -> None:
    rules = (Rule(pattern="layer2/*.bn1.bias", lr=1.0), NOTHING)
    assert moving_groups(_outline(), Stage(epochs=1, rules=rules)) == {"layer2"}


@pytest.mark.parametrize("backbone", ["googlenet", "vit_b_32"])
def test_every_group_can_train(backbone: str) -> None:
    stage = Stage(epochs=1, rules=(ALL,))
    assert moving_groups(_outline(backbone), stage) == set(layer_group_names(backbone))


@pytest.mark.parametrize(
    ("strategy", "options", "expected"),
    [
        ("linear_probe", {}, [HEAD]),
        ("partial_finetune", {"top": 1}, ["layer4"]),
        ("partial_finetune", {"top": 4}, ["layer1"]),
        ("full_finetune", {}, [None]),
        ("two_rates", {"backbone_multiplier": 0.0}, [None]),
        ("two_rates", {"backbone_multiplier": 0.0, "norm": "fixed"}, [None]),
        (
            "gradual_unfreeze",
            {"every": 1},
            [HEAD, "layer4", "layer3", "layer2", "layer1", None],
        ),
        ("lp_ft", {}, [HEAD, None]),
    ],
)
def test_frozen_boundary(
    strategy: str, options: dict[str, Any], expected: list[str | None]
) -> None:
    stages = _plan(strategy, 6, **options).stages
    assert [frozen_boundary(_outline(), stage) for stage in stages] == expected


def test_an_adapter_trains_behind_what_is_frozen() -> None:
    for options, boundary in (({}, None), ({"top": 1}, "layer4"), ({"top": 2}, "layer3")):
        plan = _plan("lora", 1, **options)
        own = outline("resnet18", Entry(name="linear"), plan.adapter)
        assert frozen_boundary(own, plan.stages[0]) == boundary
        bare = [each for each in own.boundaries if adapts_behind(own, each)]
        assert bare == list(own.boundaries[: own.boundaries.index(boundary) + 1 if boundary else 0])
        assert not adapts_behind(_outline(), HEAD)


def _stages(*rules: tuple[Rule, ...]) -> Plan:
    return Plan(stages=tuple(Stage(epochs=1, rules=each) for each in rules))


def test_one_parameter_or_statistic_that_moves_ends_the_frozen_part() -> None:
    bias = Rule(pattern="layer2/0.bn1.bias", lr=1.0)
    fixed = Rule(pattern="layer3/*", lr=0.0, norm="fixed")
    head = Rule(pattern="head/*", lr=1.0)
    for rules, expected in (
        ((bias, NOTHING), "layer2"),
        ((fixed, NOTHING), "layer3"),
        ((head, NOTHING), HEAD),
        ((NOTHING,), HEAD),
    ):
        assert frozen_boundary(_outline(), Stage(epochs=1, rules=rules)) == expected


def test_pristine_until_something_in_front_has_moved() -> None:
    top = (Rule(pattern="layer4/*", lr=1.0), NOTHING)
    plan = _stages((NOTHING,), top, (NOTHING,))
    assert [is_pristine(_outline(), plan, epoch, "layer4") for epoch in range(3)] == [True] * 3
    # The last stage is equal to the first, but comes after layer4 has moved.
    assert [is_pristine(_outline(), plan, epoch, HEAD) for epoch in range(3)] == [
        True,
        False,
        False,
    ]


def test_moved_groups_are_those_of_the_stages_so_far() -> None:
    plan = _plan("gradual_unfreeze", 3, every=1)
    moved = [moved_groups(_outline(), plan, epochs) for epochs in range(4)]
    assert moved == [set(), {HEAD}, {HEAD, "layer4"}, {HEAD, "layer4", "layer3"}]


@pytest.mark.parametrize(
    ("strategy", "options", "expected"),
    [
        ("linear_probe", {}, 6),
        ("gradual_unfreeze", {"every": 2}, 2),
        ("lp_ft", {"probe_epochs": 4}, 4),
        ("full_finetune", {}, 0),
        ("partial_finetune", {}, 0),
        ("two_rates", {"backbone_multiplier": 0.0}, 0),
        ("two_rates", {"backbone_multiplier": 0.0, "norm": "fixed"}, 0),
        ("pretrained_head", {}, 0),
    ],
)
def test_head_epochs(strategy: str, options: dict[str, Any], expected: int) -> None:
    shape = _outline()
    plan = _plan(strategy, 6, **options)
    assert head_epochs(shape, plan) == expected
    assert head_epochs(replace(shape, plain_head=False), plan) == 0


def test_a_head_with_two_rates_is_not_stacked() -> None:
    rules = (Rule(pattern="head/*.bias", lr=2.0), Rule(pattern="head/*", lr=1.0))
    stage = Stage(epochs=2, rules=(*rules, Rule(pattern="*", lr=None)))
    assert head_epochs(_outline(), Plan(stages=(stage,))) == 0
