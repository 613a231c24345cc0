from __future__ import annotations

import pytest

from bench.errors import PlanError
from bench.methods.plan import Plan, Rule, Stage


def test_first_match_wins() -> None:
    stage = Stage(
        epochs=1,
        rules=(
            Rule(pattern="head/*", lr=1.0),
            Rule(pattern="*.bias", lr=0.5),
            Rule(pattern="*", lr=None),
        ),
    )
    assert stage.rule_for("head/fc.bias").lr == 1.0
    assert stage.rule_for("layer1/0.bias").lr == 0.5
    assert stage.rule_for("layer1/0.weight").lr is None


def test_an_uncovered_address_is_an_error() -> None:
    stage = Stage(epochs=1, rules=(Rule(pattern="head/*", lr=1.0),))
    with pytest.raises(PlanError, match=r"no rule of the plan covers 'stem/conv\.weight'"):
        stage.rule_for("stem/conv.weight")


@pytest.mark.parametrize("lr", [-0.1, float("nan"), float("inf")])
def test_multipliers_are_finite_and_not_negative(lr: float) -> None:
    with pytest.raises(PlanError, match="LR multiplier"):
        Rule(pattern="*", lr=lr)


def test_frozen_statistics_cannot_move() -> None:
    with pytest.raises(PlanError, match="must be fixed"):
        Rule(pattern="*", lr=None, norm="update")


def test_norm_mode_follows_the_learning_rate_unless_given() -> None:
    assert Rule(pattern="*", lr=None).norm_mode == "fixed"
    assert Rule(pattern="*", lr=0.0).norm_mode == "update"
    assert Rule(pattern="*", lr=1.0, norm="fixed").norm_mode == "fixed"


def test_stage_at_counts_epochs_from_zero() -> None:
    first, second = (Stage(epochs=n, rules=(Rule(pattern="*", lr=float(n)),)) for n in (2, 3))
    plan = Plan(stages=(first, second))
    assert [plan.stage_at(epoch) for epoch in range(5)] == [first] * 2 + [second] * 3
    with pytest.raises(PlanError, match="5 epochs"):
        plan.stage_at(5)
