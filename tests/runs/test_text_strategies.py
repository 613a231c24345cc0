"""Strategies on text backbones, from a suite: what is trained, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.errors import SuiteError
from bench.methods.strategies import STRATEGIES
from bench.models import HEADS, layer_group_names
from bench.runs.resolve import resolve_run
from bench.suite import Entry
from bench.training.loop import train
from tests.texts import sentences, text_backbone
from tests.tiny import entry, make_trial, tiny_training

pytest.importorskip("transformers")

OPTIONS: dict[str, dict[str, Any]] = {
    "houlsby": {"width": 4},
    "adaptformer": {"width": 4},
    "vpt": {"tokens": 2},
    "auto_rgn": {"batches": 1},
    "setfit": {"iterations": 1},
    "forest": {"trees": 4},
    "linear_sweep": {"steps": 5},
}


def suite_of(**changes: Any) -> dict[str, Any]:
    texts = sentences(40)
    labels = [texts.classes[label] for label in texts.labels]
    return {
        "name": "texts",
        "dataset": {"name": "text", "lists": {"text": list(texts.texts), "label": labels}},
        "backbone": text_backbone(),
        "strategy": "full_finetune",
        "max_length": 24,
        "epochs": 2,
        "batch_size": 8,
        "optimizer": "adamw",
        "lr": 0.001,
        "seed": 0,
        **changes,
    }


def test_layers_of_the_input_learn_least() -> None:
    groups = layer_group_names(text_backbone())
    assert tuple(groups) == ("embeddings", "block1", "block2", "head")
    assert {norm.partition("/")[0] for norm in groups.norms} == {"embeddings", "block1", "block2"}
    (stage,) = STRATEGIES.get("layerwise_decay").function(groups, 1, decay=0.5).stages
    rates = [stage.rule_for(f"{group}/any.weight").lr for group in groups]
    assert rates == [
        1 / 8,
        1 / 4,
        1 / 2,
        1,
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"strategy": {"name": "full_finetune", "penalty": {"co_tuning": 1.0}}},
            "penalty 'co_tuning' needs weights with a classifier of known classes",
        ),
        (
            {"strategy": {"name": "full_finetune", "stoch_norm": 0.5}},
            "stoch_norm needs batch norm: hf/.* has none",
        ),
        (
            {"strategy": {"name": "side_tuning", "side": "small"}},
            "side must be copy on this backbone: it takes no images",
        ),
        ({"strategy": "pretrained_head"}, "needs weights with a classifier of known classes"),
        (
            {"strategy": "setfit", "augmentation": {"name": "none", "mix": "mixup"}},
            "'mixup' mixes samples, and strategy 'setfit' compares pairs of them",
        ),
        (
            {"strategy": {"name": "setfit", "objective": "focal"}},
            "setfit: it minimises distances of pairs, not an objective",
        ),
        ({"strategy": "setfit", "task": "regression"}, "setfit"),
    ],
)
def test_what_has_no_meaning_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SuiteError, match=message):
        resolve_run(suite_of(**changes), out=tmp_path, device="cpu")


@pytest.mark.campaign
def test_pairs_take_no_weights_of_samples(tmp_path: Path) -> None:
    suite = suite_of(strategy="setfit")
    suite["dataset"]["lists"]["weight"] = [1.0] * 40
    suite["dataset"]["columns"] = {"weight": "weight"}
    with pytest.raises(SuiteError, match="a comparison of pairs does not weigh samples"):
        resolve_run(suite, out=tmp_path, device="cpu")


@pytest.mark.campaign
@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "pretrained_head"])
def test_every_strategy_gives_a_classifier(name: str) -> None:
    traits = STRATEGIES.get(name).traits
    if traits.fits:
        pytest.importorskip("sklearn")
    head = {} if traits.head is None else {"head": Entry(name=traits.head)}
    if traits.head == "mlp":
        head["head"] = entry(HEADS, "mlp", hidden=4)
    common: dict[str, Any] = {"options": OPTIONS.get(name), "backbone": text_backbone(), **head}
    found = train(tiny_training(make_trial(name, **common)), lambda _: None)
    assert len(found.records) == (2 if traits.trains else 0)
    assert found.probabilities.shape[1] == 2
    assert 0 < found.trainable_params <= found.total_params
