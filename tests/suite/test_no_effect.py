"""What a suite writes down that changes nothing is told, once, with its place; the rest is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.runs.catalogue import catalogue
from bench.suite import Note, load_suite, no_effect, written_trials

REPOSITORY = Path(__file__).parents[2]
MINIMAL = {"dataset": "fractals", "backbone": "resnet18", "strategy": "full_finetune"}


def notes(folder: Path, content: str | dict[str, Any], *overrides: str) -> list[Note]:
    path = folder / "s.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    loaded = load_suite(path, catalogue(), overrides)
    return no_effect(loaded, written_trials(loaded, catalogue()), catalogue())


def said(folder: Path, content: str | dict[str, Any], *overrides: str) -> list[tuple[str, int]]:
    found = notes(folder, content, *overrides)
    return [(note.message.replace(str(folder / "s.yaml"), "s.yaml"), note.count) for note in found]


PROBES = """\
dataset: fractals
backbone: resnet18
strategy:
  - full_finetune
  - {name: linear_probe, lr: 0.01}
lr: 0.001
seed: [0, 1]
"""


def test_an_override_that_entries_shadow_is_told(tmp_path: Path) -> None:
    assert said(tmp_path, PROBES) == []
    assert said(tmp_path, PROBES, "lr=0.1") == [
        (
            "lr (--set lr=0.1): does not reach 2 of 4 trials, "
            "strategy 'linear_probe' (s.yaml:5) has its own lr",
            2,
        )
    ]
    assert said(tmp_path, PROBES, "lr=0.01") == []
    assert said(tmp_path, PROBES, "momentum=0.5") == []


def test_a_setting_that_every_entry_shadows_is_told(tmp_path: Path) -> None:
    shadowed = PROBES.replace("full_finetune", "{name: full_finetune, lr: 0.03}")
    assert said(tmp_path, shadowed) == [
        (
            "lr (s.yaml:6): reaches no trial, strategy 'full_finetune' (s.yaml:4), "
            "strategy 'linear_probe' (s.yaml:5) have their own lr",
            4,
        )
    ]
    assert said(tmp_path, shadowed.replace("lr: 0.001\n", "")) == []


def test_an_entry_that_another_axis_shadows_is_told(tmp_path: Path) -> None:
    owner = "reaches no trial, schedule 'cosine' (s.yaml:8) has its own lr"
    assert said(tmp_path, PROBES + "schedule: {name: cosine, lr: 0.5}\n") == [
        (f"lr (s.yaml:6): {owner}", 4),
        (f"lr (s.yaml:5): {owner}", 2),
    ]


def test_an_include_rule_shadows_too(tmp_path: Path) -> None:
    rule = "include: [{strategy: full_finetune, lr: 0.5}, {strategy: linear_probe, lr: 0.7}]\n"
    (first, second) = said(tmp_path, PROBES + rule)
    assert "lr (s.yaml:6): reaches no trial, include rule (s.yaml:8) has its own lr" in first[0]
    assert first[1] == 4
    assert "lr (s.yaml:5): reaches no trial, include rule" in second[0]


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (
            {"optimizer": "adam", "momentum": 0.5},
            ["momentum (s.yaml:3): no effect, optimizer 'adam' has no momentum"],
        ),
        ({"optimizer": "adam"}, []),
        ({"optimizer": "adam", "momentum": 0.0}, []),
        ({"optimizer": ["sgd", "adam"], "momentum": 0.5}, []),
        ({"momentum": 0.5}, []),
        (
            {"weight_decay_on": ["all", "matrices"]},
            ["weight_decay_on (s.yaml:4): no effect, weight_decay is 0"],
        ),
        ({"weight_decay_on": "matrices", "weight_decay": [0.0, 0.1]}, []),
        ({"weight_decay_on": "all"}, []),
        (
            {"strategy": {"name": "pretrained_head", "objective": "focal", "penalty": None}},
            [
                "objective of strategy 'pretrained_head' (s.yaml:5): no effect, the strategy "
                "trains nothing"
            ],
        ),
        ({"strategy": {"name": "full_finetune", "objective": "focal"}}, []),
        (
            {"batch_size": 8, "micro_batch": [None, 8]},
            ["micro_batch (s.yaml:4): no effect, batches are no larger"],
        ),
        ({"batch_size": [8, 16], "micro_batch": 8}, []),
        ({"batch_size": 8, "micro_batch": None}, []),
        (
            {"strategy": "from_scratch", "weights": "imagenet"},
            ["weights (s.yaml:4): no effect, strategy 'from_scratch' starts at random"],
        ),
        ({"strategy": "from_scratch", "weights": "none"}, []),
        ({"strategy": ["from_scratch", "full_finetune"], "weights": "imagenet"}, []),
        (
            {"strategy": "linear_probe", "head": "mlp"},
            ["head (s.yaml:3): no effect, strategy 'linear_probe' always has the head 'linear'"],
        ),
        ({"strategy": "linear_probe", "head": "linear"}, []),
        ({"strategy": ["linear_probe", "full_finetune"], "head": "mlp"}, []),
        ({"strategy": "linear_probe", "head": "zero_shot"}, []),
        (
            {"augmentation": {"name": "standard", "mix_alpha": 0.2}},
            ["mix_alpha of augmentation 'standard' (s.yaml:2): no effect, nothing is mixed"],
        ),
        ({"augmentation": {"name": "standard+mixup", "mix_alpha": 0.2}}, []),
        (
            {"dataset": {"name": "fractals", "class_map": {"fractal-00": [1]}}},
            [
                "class_map of the data set (s.yaml:3): no effect, no strategy uses the classifier "
                "that comes with the weights"
            ],
        ),
        (
            {"class_weights": "balanced", "sampler": ["shuffle", "balanced"]},
            [
                "class_weights and sampler (s.yaml:2): both are balanced and correct the same "
                "imbalance twice; give one"
            ],
        ),
        ({"class_weights": "balanced"}, []),
        ({"sampler": "balanced"}, []),
    ],
    ids=str,
)
def test_settings_that_are_not_used(
    tmp_path: Path, change: dict[str, Any], messages: list[str]
) -> None:
    found = said(tmp_path, {**MINIMAL, **change})
    assert [message for message, _ in found] == messages
    assert all(count == 3 for _, count in found)


def test_what_a_strategy_that_trains_nothing_does_not_use(tmp_path: Path) -> None:
    content = {
        **MINIMAL,
        "strategy": "pretrained_head",
        "label_smoothing": 0.1,
        "early_stopping": 3,
        "schedule": ["constant", "cosine"],
        "augmentation": "standard",
        "image_size": 64,
        "threads": 1,
    }
    found = said(tmp_path, content)
    assert found == [
        (
            "label_smoothing (s.yaml:6), early_stopping (s.yaml:4), schedule (s.yaml:8), "
            "augmentation (s.yaml:1), schedule (s.yaml:9): "
            "no effect, strategy 'pretrained_head' trains nothing",
            3,
        )
    ]
    both = {**content, "strategy": ["pretrained_head", "full_finetune"]}
    assert said(tmp_path, both) == []


def test_what_tuning_may_give_an_effect_is_not_told(tmp_path: Path) -> None:
    change = {"weight_decay_on": "matrices", "optimizer": "adam", "momentum": 0.5}
    space = {"weight_decay": [0.0, 0.1], "optimizer": ["sgd", "adam"]}
    assert len(said(tmp_path, {**MINIMAL, **change})) == 2
    assert said(tmp_path, {**MINIMAL, **change, "tune": {"space": space}}) == []


def test_a_setting_of_an_entry_that_does_not_use_it_is_told(tmp_path: Path) -> None:
    strategies = [{"name": "pretrained_head", "lr": 0.1}, "full_finetune"]
    (found,) = said(tmp_path, {**MINIMAL, "strategy": strategies})
    assert found == ("lr (s.yaml:4): no effect, strategy 'pretrained_head' trains nothing", 3)


@pytest.mark.parametrize("folder", ["suites", "benchmarks"])
def test_shipped_suites_cause_no_note(folder: str, tmp_path: Path) -> None:
    (tmp_path / "resnet18.safetensors").write_bytes(b"x")
    weights = f"weights={{file: {tmp_path / 'resnet18.safetensors'}}}"
    for path in sorted((REPOSITORY / folder).glob("*.yaml")):
        own = [weights] if "{file:" in path.read_text() and folder == "benchmarks" else []
        loaded = load_suite(path, catalogue(), own)
        assert no_effect(loaded, written_trials(loaded, catalogue()), catalogue()) == [], path
