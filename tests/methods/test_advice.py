"""Rules of advice, on facts that are made up."""

from __future__ import annotations

import pytest

from bench.methods.advice import RULES, BackboneFacts, Facts


def facts(*, per_class: int = 10, accuracy: float | None = 0.9, pretrained: bool = True) -> Facts:
    small = BackboneFacts(
        backbone="small", parameters=10, pretrained=pretrained, neighbour_accuracy=accuracy, logme=2
    )
    large = BackboneFacts(
        backbone="large", parameters=20, pretrained=pretrained, neighbour_accuracy=0.5, logme=1
    )
    return Facts(samples=2 * per_class, classes=2, majority=0.5, backbones=(large, small))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("pretrained", [True, False])
def test_rules_name_each_once_and_give_a_reason(rule: str, pretrained: bool) -> None:
    said = RULES[rule](facts(pretrained=pretrained))
    assert said.reason
    assert said.strategies or said.backbones
    assert len(set(said.strategies)) == len(said.strategies)
    assert not said.backbones or set(said.backbones) == {"small", "large"}


@pytest.mark.parametrize(
    ("per_class", "accuracy", "first"),
    [
        (10, 0.9, "linear_probe"),
        (1000, 0.9, "full_finetune"),
        (10, 0.55, "svm"),
        (1000, 0.55, "full_finetune"),
    ],
)
def test_table_of_the_tutorials(per_class: int, accuracy: float, first: str) -> None:
    said = RULES["tutorial_table"](facts(per_class=per_class, accuracy=accuracy))
    assert said.strategies[0] == first


def test_gain_is_the_way_from_the_largest_class_to_1() -> None:
    assert facts(accuracy=0.75).best_gain == 0.5
    assert facts(pretrained=False).best_gain is None


def test_order_of_backbones() -> None:
    assert RULES["largest_backbone"](facts()).backbones == ("large", "small")
    assert RULES["logme"](facts()).backbones == ("small", "large")
    assert RULES["knn_gain"](facts(accuracy=None)).backbones == ("large", "small")


def test_without_features_nothing_is_said_of_strategies() -> None:
    bare = BackboneFacts(backbone="lost", parameters=10, pretrained=True)
    said = RULES["tutorial_table"](Facts(samples=9, classes=3, majority=0.4, backbones=(bare,)))
    assert (said.strategies, "no features" in said.reason) == ((), True)
