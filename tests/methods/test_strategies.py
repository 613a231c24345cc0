"""Every strategy returns a plan that covers every group of CNNs and transformers."""

from __future__ import annotations

from typing import Any

import pytest

from bench.errors import PlanError
from bench.methods.plan import LayerGroups, Plan
from bench.methods.strategies import STRATEGIES

CNN = LayerGroups(("stem", "layer1", "layer2", "layer3", "layer4", "head"))
VIT = LayerGroups(("patch_embedding", "block1", "block2", "norm", "head"))
EPOCHS = 6

# One line a strategy: options, then per stage (epochs, LR multiplier per group of CNN).
EXPECTED: dict[str, tuple[dict[str, Any], list[tuple[int, list[float | None]]]]] = {
    "from_scratch": ({}, [(6, [1, 1, 1, 1, 1, 1])]),
    "pretrained_head": ({}, []),
    **{
        name: ({}, [])
        for name in (
            *("knn", "class_mean", "ridge", "logistic", "svm", "forest", "linear_sweep"),
            *("zero_shot", "tip_adapter", "coop"),
        )
    },
    "linear_probe": ({}, [(6, [None, None, None, None, None, 1])]),
    "mlp_probe": ({}, [(6, [None, None, None, None, None, 1])]),
    "full_finetune": ({}, [(6, [1, 1, 1, 1, 1, 1])]),
    "two_rates": ({"backbone_multiplier": 0.0}, [(6, [0, 0, 0, 0, 0, 1])]),
    "layerwise_decay": ({"decay": 0.5}, [(6, [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1])]),
    "partial_finetune": ({"top": 2}, [(6, [None, None, None, 1, 1, 1])]),
    "gradual_unfreeze": (
        {"every": 2},
        [
            (2, [None, None, None, None, None, 1]),
            (2, [None, None, None, None, 1, 1]),
            (2, [None, None, None, 1, 1, 1]),
        ],
    ),
    "lp_ft": (
        {"probe_epochs": 2, "finetune_multiplier": 0.1},
        [(2, [None, None, None, None, None, 1]), (4, [0.1] * 6)],
    ),
    "surgical": ({"group": 2}, [(6, [None, 1, None, None, None, 1])]),
    "auto_rgn": ({}, [(6, [1, 1, 1, 1, 1, 1])]),
    "setfit": ({}, [(6, [1, 1, 1, 1, 1, 1])]),
    "freeze_embed": ({}, [(6, [None, 1, 1, 1, 1, 1])]),
    **{
        name: ({}, [(6, [None, None, None, None, None, 1])])
        for name in (
            *("bitfit", "norm_only", "lora", "ssf", "houlsby", "adaptformer", "vpt"),
            "side_tuning",
        )
    },
}


def _plan(name: str, groups: LayerGroups, epochs: int = EPOCHS, **options: Any) -> Plan:
    plan = STRATEGIES.get(name).function(groups, epochs, **options)
    assert isinstance(plan, Plan)
    return plan


def _multipliers(plan: Plan, groups: LayerGroups) -> list[tuple[int, list[float | None]]]:
    return [
        (stage.epochs, [stage.rule_for(f"{group}/0.weight").lr for group in groups])
        for stage in plan.stages
    ]


def test_every_strategy_has_its_line() -> None:
    assert set(EXPECTED) == set(STRATEGIES)


@pytest.mark.parametrize("name", STRATEGIES)
def test_it_tells_its_paper_its_needs_and_its_rate(name: str) -> None:
    assert set(STRATEGIES.get(name).facts) == {"paper", "needs", "typical lr"}


@pytest.mark.parametrize("name", STRATEGIES)
def test_plan(name: str) -> None:
    options, expected = EXPECTED[name]
    assert _multipliers(_plan(name, CNN, **options), CNN) == expected


@pytest.mark.parametrize("groups", [CNN, VIT, LayerGroups(("trunk", "head"))])
@pytest.mark.parametrize("name", STRATEGIES)
def test_covers_every_group_and_keeps_the_number_of_epochs(name: str, groups: LayerGroups) -> None:
    plan = _plan(name, groups)
    trains = STRATEGIES.get(name).traits.trains
    assert plan.epochs == (EPOCHS if trains else 0)
    for stage in plan.stages:
        for group in groups:
            rule = stage.rule_for(f"{group}/anything.weight")
            assert rule.norm_mode == ("fixed" if rule.lr is None else "update")
        assert stage.rule_for("head/weight").lr


@pytest.mark.parametrize("name", ["full_finetune", "two_rates"])
def test_norm_fixed_keeps_statistics_while_parameters_train(name: str) -> None:
    rule = _plan(name, CNN, norm="fixed").stages[0].rule_for("layer1/0.bn1")
    assert rule.norm_mode == "fixed"
    assert rule.lr is not None


def test_gradual_unfreeze_ends_with_everything_if_epochs_allow() -> None:
    plan = _plan("gradual_unfreeze", CNN, epochs=20, every=2)
    assert [stage.epochs for stage in plan.stages] == [2, 2, 2, 2, 2, 10]
    assert plan.stages[-1].rule_for("stem/0.weight").lr == 1


@pytest.mark.parametrize(
    ("name", "epochs", "options", "message"),
    [
        ("partial_finetune", 6, {"top": 6}, "top must be below the backbone's 6 groups"),
        ("ssf", 6, {"top": 6}, "ssf: top must be below the backbone's 6 groups"),
        ("lp_ft", 1, {}, "at least one of 1 epoch "),
        ("lp_ft", 4, {"probe_epochs": 4}, "at least one of 4 epochs"),
    ],
)
def test_impossible_options_are_refused(
    name: str, epochs: int, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        _plan(name, CNN, epochs=epochs, **options)
