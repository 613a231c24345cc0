"""Suites in sections: told in one problem, with a suite that is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.errors import SuiteError
from bench.runs.catalogue import catalogue
from bench.suite import load_suite
from bench.suite.load import KEYS
from bench.suite.sections import unnested
from bench.suite.yaml_file import parse_yaml

FLAT: dict[str, Any] = {
    "dataset": "./photos",
    "backbone": "resnet18",
    "strategy": ["linear_probe", "lp_ft"],
    "lr": 0.01,
    "epochs": 3,
    "seed": [0, 1],
}

NESTED = {
    "as most people write first": """
data: {path: ./photos}
grid: {backbone: resnet18, strategy: [linear_probe, lp_ft]}
training: {lr: 0.01, epochs: 3}
seed: [0, 1]
""",
    "in the words of other tools": """
dataset: ./photos
model: {arch: resnet18}
finetuning: {methods: [linear_probe, lp_ft]}
trainer: {learning_rate: 0.01, max_epochs: 3}
seeds: 2
""",
    "one section around all": """
experiment:
  dataset: ./photos
  backbone: resnet18
  strategy: [linear_probe, lp_ft]
  hyperparameters: {LR: 0.01, num-epochs: 3, seeds: [0, 1]}
""",
    "a section in a section": """
config:
  data: {dataset: ./photos}
  model: {name: resnet18}
  train:
    optim: {lr: 0.01}
    schedule_of_epochs: {epochs: 3}
  strategy: [linear_probe, lp_ft]
  random_state: [0, 1]
""",
    "the data set with a folder": """
data: {root: ./photos}
backbone: resnet18
strategy: [linear_probe, lp_ft]
train: {lr: 0.01, n_epochs: 3, num_seeds: 2}
""",
}


def problems(text: str, *overrides: str) -> tuple[Any, ...]:
    with pytest.raises(SuiteError) as caught:
        load_suite(text, catalogue(), ["name=mine", *overrides])
    return caught.value.problems


@pytest.mark.parametrize("text", NESTED.values(), ids=list(NESTED))
def test_one_problem_with_the_suite_that_is_meant(text: str) -> None:
    (problem,) = problems(text)
    assert "all keys of a suite stand at its top level, not inside '" in problem.message
    corrected = yaml.safe_load(problem.detail)
    assert corrected == {"name": "mine", **FLAT}
    loaded = load_suite(problem.detail, catalogue())
    assert loaded.suite.settings["seed"] == (0, 1)


def test_it_stands_below_the_line_that_names_the_sections(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(NESTED["as most people write first"])
    with pytest.raises(SuiteError) as caught:
        load_suite(path, catalogue())
    first, *rest = str(caught.value).splitlines()
    assert first == (
        "all keys of a suite stand at its top level, not inside 'data', 'grid' and 'training'; "
        f"the same suite with its keys there follows ({path}:2)"
    )
    assert rest == [
        "dataset: ./photos", "backbone: resnet18", "strategy: [linear_probe, lp_ft]", "lr: 0.01",
        "epochs: 3", "seed: [0, 1]",
    ]  # fmt: skip


def test_other_mistakes_follow_with_the_lines_where_they_stand() -> None:
    text = "data: {path: ./photos}\ngrid:\n  backbone: resnet18\n  strategy: linear_prob\n"
    first, second = problems(f"{text}train:\n  epochs: 0\n  magic: 3\n")[:2]
    assert first.message.endswith("follows, and what else is wrong with it")
    assert (second.line, "epochs" in second.message or "magic" in second.message) == (7, True)
    lines = {p.line for p in problems(f"{text}train:\n  epochs: 0\n  magic: 3\n")}
    assert {4, 6, 7} <= lines


def test_the_value_of_a_section_that_an_override_gives_is_lifted_too() -> None:
    flat = yaml.safe_dump({"name": "mine", **FLAT})
    (problem,) = problems(flat, "training.lr=0.5", "training.batch_size=4")
    assert yaml.safe_load(problem.detail) == {"name": "mine", **FLAT, "batch_size": 4}


@pytest.mark.parametrize(
    "text",
    [
        "dataset: {name: fractals, classes: 3, image_size: 32}",
        "backbone: {name: resnet18, lr: 0.1}",
        "strategy: [{name: lp_ft, lr: 0.1}]",
        "weights: {name: fractals, epochs: 3}",
        "schedule: {name: cosine, warmup_epochs: 1}",
        "tune: {space: {lr: {low: 1, high: 2}}, trials: 3}",
        "claims: {margin: 0.01}",
        "limits: {size: 5}",
        "after: {name: tta, count: 0}",
        "resources: {minutes: 3}",
        "include: [{strategy: lp_ft, lr: 0.01}]",
        "unknown: {foo: 3}",
        "unknown: 3",
    ],
)
def test_mappings_that_a_suite_has_are_no_sections(text: str) -> None:
    assert unnested(parse_yaml(text), KEYS) is None


@pytest.mark.parametrize(
    ("text", "corrected"),
    [
        (
            "optimizer: {name: adamw, lr: 0.1, wd: 0.01}",
            {"optimizer": "adamw", "lr": 0.1, "weight_decay": 0.01},
        ),
        ("early_stopping: {patience: 5}", {"early_stopping": 5}),
        (
            "data: {name: fractals, classes: 3}\nepochs: 2",
            {"dataset": {"name": "fractals", "classes": 3}, "epochs": 2},
        ),
        (
            "data: {path: ./a, val_fraction: 0.2, bs: 8}",
            {"dataset": {"path": "./a", "val_fraction": 0.2}, "batch_size": 8},
        ),
        (
            "train: {scheduler: {name: step, step_size: 3}}",
            {"schedule": {"name": "step", "step_size": 3}},
        ),
        (
            "model: {name: resnet18, pretrained: true}",
            {"backbone": "resnet18", "weights": "imagenet"},
        ),
        ("train: {lr: 1, magic: {a: 3}}", {"lr": 1, "magic": {"a": 3}}),
        ("lr: 1\ntrain: {lr: 2}", {"lr": 1}),
    ],
)
def test_what_is_lifted(text: str, corrected: dict[str, Any]) -> None:
    flat = unnested(parse_yaml(text), KEYS)
    assert flat is not None
    assert flat.yaml_file.data == corrected


def test_a_suite_that_is_too_long_for_a_message_is_told_without_its_text() -> None:
    (problem,) = problems(f"train: {{lr: {list(range(1, 900))}}}")
    assert problem.detail is None
    assert "not inside 'train'" in problem.message
