"""The JSON Schema of suites: it takes what the loader takes, and refuses what a schema can."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.errors import SuiteError
from bench.methods.strategies import StrategyTraits
from bench.runs.catalogue import catalogue
from bench.suite import load_suite
from bench.suite.json_schema import schema_text, suite_schema
from bench.suite.registry import Registry
from bench.suite.yaml_file import parse_yaml
from tests.hostile import mutated_tree
from tests.suite.test_hostile import VALID

REPOSITORY = Path(__file__).parents[2]
SCHEMA = REPOSITORY / "suites" / "schema.json"
SHIPPED = sorted(
    path for folder in ("suites", "benchmarks") for path in (REPOSITORY / folder).glob("*.yaml")
)

Draft202012Validator = pytest.importorskip("jsonschema").Draft202012Validator
MINIMAL = {"dataset": "fractals", "backbone": "resnet18", "strategy": "full_finetune"}


@cache
def validator() -> Draft202012Validator:
    return Draft202012Validator(suite_schema(catalogue()))


def mistakes(data: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator().iter_errors(data)]


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(suite_schema(catalogue()))


def test_the_kept_schema_is_up_to_date() -> None:
    renew = "renew it with: bench schema --out suites/schema.json"
    kept = json.loads(SCHEMA.read_text(encoding="utf-8"))  # 1 and 1.0 are the same
    assert kept == json.loads(schema_text(catalogue())), renew


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_suites_are_valid_and_name_the_schema(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert mistakes(parse_yaml(text).data) == []
    (modeline,) = [line for line in text.splitlines() if "yaml-language-server" in line]
    start, equals, named = modeline.partition("$schema=")
    assert start + equals == "# yaml-language-server: $schema="
    assert (path.parent / named).resolve() == SCHEMA


ACCEPTED: list[dict[str, Any]] = [
    {},
    {"dataset": "photos"},
    {"dataset": "./photos"},
    {"dataset": {"name": "photos", "val_fraction": 0.3}},
    {"dataset": {"path": "photos", "val_fraction": 0.3}},
    {"dataset": "torchvision:CIFAR10"},
    {"dataset": {"name": "torchvision:CIFAR10", "root": "down"}},
    {"dataset": {"name": "torchvision", "dataset": "CIFAR10"}},
    {"dataset": {"name": "hymenoptera", "class_map": {"ants": [310, "ant"]}}},
    {"name": "a.b-c_1"},
    {"backbone": ["timm/convnext_tiny.fb_in1k", {"name": "vgg11", "lr": [0.1, 1]}]},
    {"strategy": [{"name": "lp_ft", "probe_epochs": None}, {"name": "lp_ft", "lr": 1}]},
    {"schedule": {"name": "multistep", "milestones": [2, 4], "warmup_epochs": 1}},
    {"augmentation": ["mixup", "standard+cutmix", {"name": "none+mixup", "mix_alpha": 0.2}]},
    {"augmentation": {"name": "aug_mix", "mix": "cutmix", "severity": 1, "epochs": 3}},
    {"weights": ["none", "IMAGENET1K_V1", {"file": "w.pth"}, {"name": "fractals", "lr": 1}]},
    {"weights": {"file": "w.pth", "mean": 0.5, "std": [1, 0.2, 0.3], "image_size": 96}},
    {"weights": {"file": "w.pth", "classes": "imagenet", "interpolation": "bicubic"}},
    {"weights": {"file": "w.pth", "classes": ["a", "b"], "mean": None}},
    {"head": [{"name": "mlp"}, {"name": "mlp", "hidden": 8}, "linear"]},
    {"strategy": {"name": "full_finetune", "head": {"name": "mlp", "hidden": 8}}},
    {"strategy": {"name": "full_finetune", "penalty": {"l2_sp": 0.1}, "objective": "focal"}},
    {"strategy": {"name": "full_finetune", "penalty": {"l2_sp": {"head_weight": 0}}}},
    {"strategy": {"name": "full_finetune", "objective": {"name": "focal", "gamma": 1}}},
    {"strategy": {"name": "full_finetune", "penalty": None, "objective": None}},
    {"augmentation": {"name": "standard", "mix": None}},
    {"tune": {"space": {"strategy": {"full_finetune": {"objective": ["focal", None]}}}}},
    {"micro_batch": [None, 4], "image_size": None, "shots": [1, None]},
    {"exclude": [], "include": []},
    {"exclude": [{"schedule": "multistep", "lr": [0.1, 0.2], "head": "mlp"}]},
    {"exclude": [{"schedule": {"name": "multistep", "gamma": 0.5}}]},
    {"include": [{"strategy": {"name": "lp_ft", "epochs": [2, 4]}, "weights": "imagenet"}]},
    {"tune": {"space": {"lr": [1, 1.0]}, "seeds": 7, "objective": "val_loss"}},
    {"tune": {"space": {"lr": {"find": "valley"}}, "objective": ["val_loss", "seconds"]}},
    {"tune": {"space": {"strategy": {"full_finetune": {"norm": ["fixed", "update"]}}}}},
    {"tune": {"space": {"momentum": {"low": 0, "high": 0.5, "step": 0.1}, "strategy": {}}}},
    {"tune": {"space": {"head": {"linear": {"batch_size": {"low": 2, "high": 8}}}}, "images": 9}},
    {"task": "regression", "dataset": {"path": "t.csv", "target": ["x", "y"]}},
    {"task": "multi_label", "dataset": {"path": "t.csv", "labels": "tags"}},
    {"resources": {}},
    {"limits": {"megapixels": 400}},
    {"dataset": {"path": "photos", "splits": {"train": "a", "test": "b"}, "bits": 12}},
    {"dataset": {"path": "photos", "splits": {}}},
    {"resources": {"minutes": 1, "memory_gib": None, "cpus": 2, "gpus": 0.5}},
]


@pytest.mark.parametrize("change", ACCEPTED, ids=str)
def test_what_the_loader_takes_is_valid(tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / "w.pth").write_bytes(b"x")
    (tmp_path / "photos").mkdir()
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, **change}))
    load_suite(path, catalogue())
    assert mistakes({**MINIMAL, **change}) == []


def test_a_random_suite_that_the_loader_takes_is_valid(tmp_path: Path) -> None:
    path, taken = tmp_path / "s.yaml", 0
    for seed in range(150):
        tree = mutated_tree(yaml.safe_load(VALID), random.Random(seed))
        text = yaml.safe_dump(tree, allow_unicode=True)
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        try:
            data = load_suite(path, catalogue()).yaml_file.data
        except SuiteError:
            continue
        taken += 1
        assert mistakes(data) == []
    assert taken > 3


REFUSED: list[Any] = [
    [],
    None,
    {key: value for key, value in MINIMAL.items() if key != "dataset"},
    {key: value for key, value in MINIMAL.items() if key != "backbone"},
    {key: value for key, value in MINIMAL.items() if key != "strategy"},
    *(
        {**MINIMAL, **change}
        for change in (
            {"optimiser": "sgd"},
            {"name": "../up"},
            {"name": 3},
            {"dataset": None},
            {"dataset": ""},
            {"dataset": "torchvision"},
            {"dataset": {"name": "fractals", "clases": 3}},
            {"dataset": {"name": "fractals", "classes": 1}},
            {"dataset": ["fractals"]},
            {"backbone": "resnet81"},
            {"backbone": []},
            {"backbone": {"name": "resnet18", "depth": 3}},
            {"strategy": 3},
            {"strategy": ["lp_ft", "lp_ft"]},
            {"strategy": "linear_prob"},
            {"strategy": {"name": "two_rates", "backbone_multiplyer": 1}},
            {"strategy": {"name": "two_rates", "backbone_multiplier": -1}},
            {"strategy": {"name": "two_rates", "lr": 0}},
            {"schedule": "multistep"},
            {"schedule": {"name": "step", "step_size": 0}},
            {"schedule": {"name": "cosine", "warmup_epochs": -1}},
            {"augmentation": "flip_crop+mixupp"},
            {"augmentation": "+mixup"},
            {"augmentation": {"name": "standard", "mix": "mixupp"}},
            {"strategy": {"name": "full_finetune", "penalty": {}}},
            {"strategy": {"name": "full_finetune", "penalty": {"l2_spp": 1}}},
            {"strategy": {"name": "full_finetune", "penalty": {"l2_sp": -1}}},
            {"strategy": {"name": "full_finetune", "penalty": {"l2_sp": {"wait": 1}}}},
            {"strategy": {"name": "full_finetune", "objective": "focl"}},
            {"strategy": {"name": "full_finetune", "objective": {"name": "focal", "gama": 1}}},
            {"metric": "acuracy"},
            {"task": "regresion"},
            {"task": ["regression"]},
            {"dataset": {"path": "t.csv", "target": 3}},
            {"metric": ["accuracy", "macro_f1"]},
            {"optimizer": "sdg"},
            {"batch_size": True},
            {"lr": "fast"},
            {"lr": [0.1, -1]},
            {"lr": [0.1, 0.1]},
            {"epochs": 1.5},
            {"epochs": 10**12},
            {"momentum": 1.0},
            {"seed": list(range(2000))},
            {"weights": "file"},
            {"weights": {"fil": "x"}},
            {"weights": {"file": "x", "name": "y"}},
            {"weights": {"file": "x", "mean": 2}},
            {"weights": {"file": "x", "std": [0.5, 0.5]}},
            {"weights": {"file": "x", "classes": "imagnet"}},
            {"weights": {"name": "fractals", "clases": 3}},
            {"weights": {"name": "imagenet", "tag": 1}},
            {"head": "mpl"},
            {"head": {"name": "mlp", "hidden": 10**12}},
            {"head": {"name": "mlp", "lr": 0.1}},
            {"exclude": {"strategy": "lp_ft"}},
            {"exclude": [{}]},
            {"exclude": [{"stratgy": "x"}]},
            {"exclude": [{"strategy": ["lp_ft"]}]},
            {"include": [{"schedule": "multistep"}]},
            {"tune": 5},
            {"tune": {"trials": 3}},
            {"tune": {"space": {}}},
            {"tune": {"space": {"epochs": [1, 2]}}},
            {"tune": {"space": {"lr": [0.1]}}},
            {"tune": {"space": {"lr": [0.1, -1]}}},
            {"tune": {"space": {"lr": {"low": 1, "hihg": 2}}}},
            {"tune": {"space": {"batch_size": {"low": 2.5, "high": 4}}}},
            {"tune": {"space": {"weight_decay": {"find": "valley"}}}},
            {"tune": {"space": {"strategy": {"two_rates": {"decay": [1, 2]}}}}},
            {"tune": {"space": {"lr": [1, 2]}, "trials": 0}},
            {"tune": {"space": {"lr": [1, 2]}, "sampler": "best"}},
            {"resources": {"minuts": 3}},
            {"resources": {"minutes": 0}},
            {"resources": [30]},
            {"limits": {"megapixels": 0}},
            {"dataset": {"path": "photos", "splits": {"training": "a"}}},
            {"dataset": {"path": "photos", "bits": 7}},
        )
    ),
]


@pytest.mark.parametrize("suite", REFUSED, ids=lambda suite: str(suite)[-70:])
def test_what_it_refuses_the_loader_refuses(tmp_path: Path, suite: Any) -> None:
    assert mistakes(suite)
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(suite))
    with pytest.raises(SuiteError):
        load_suite(path, catalogue())


def test_a_new_entry_appears_by_itself() -> None:
    strategies: Registry[Any, StrategyTraits] = Registry("strategy", StrategyTraits)

    @strategies.register("mine")
    def mine(groups: Any, epochs: int, *, depth: int) -> None:
        """Mine."""

    schema = Draft202012Validator(suite_schema(replace(catalogue(), strategy=strategies)))
    entry = {"name": "mine", "depth": 3, "lr": 0.1}
    assert schema.is_valid({**MINIMAL, "strategy": entry})
    assert not schema.is_valid({**MINIMAL, "strategy": {**entry, "depth": "x"}})
    assert not schema.is_valid(MINIMAL)


def test_editors_are_told_meaning_default_and_examples() -> None:
    schema = suite_schema(catalogue())
    lr = schema["$defs"]["lr.values"]
    assert (lr["default"], lr["examples"][0]) == (0.001, 0.001)
    assert "multiplier" in lr["description"]
    assert schema["properties"]["schedule"]["default"] == "constant"
    assert schema["$defs"]["seed.values"]["default"] == [0, 1, 2]
