"""What does nothing with this data, or cannot work, is told before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.models.batch_norms import single_value_norms
from bench.runs.resolve import resolve_run
from bench.runs.run import SilentReporter, run

TINY: dict[str, Any] = {
    "dataset": {
        "name": "fractals",
        "train_per_class": 4,
        "val_per_class": 2,
        "test_per_class": 2,
        "image_size": 32,
    },
    "backbone": "resnet18",
    "strategy": "from_scratch",
    "augmentation": "none",
    "epochs": 4,
    "batch_size": 4,
    "precision": "fp32",
    "seed": [0, 1],
}
"""Two steps an epoch."""


class Listener(SilentReporter):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def written(folder: Path, change: dict[str, Any]) -> Path:
    path = folder / "s.yaml"
    path.write_text(yaml.safe_dump({**TINY, **change}))
    return path


def said(folder: Path, change: dict[str, Any]) -> list[str]:
    path = written(folder, change)
    resolved = resolve_run(path, out=folder / "out", device="cpu")
    return [note.replace(str(path), "s.yaml") for note in resolved.notes]


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        ({}, []),
        ({"schedule": "constant"}, []),
        (
            {"schedule": "step"},
            ["schedule 'step' (s.yaml:12): no effect, it changes the learning rate at no step"],
        ),
        ({"schedule": {"name": "step", "step_size": 4}}, ["schedule 'step(step_size=4)'"]),
        ({"schedule": {"name": "step", "step_size": 3}}, []),
        ({"schedule": {"name": "step", "step_size": 4}, "epochs": [4, 5]}, []),
        (
            {"schedule": {"name": "multistep", "milestones": [2, 4, 9]}},
            ["milestones of schedule 'multistep(milestones=(2, 4, 9))' (s.yaml:13): "
             "no effect of 4, 9, where training is over. (2 trials)"],
        ),
        (
            {"schedule": {"name": "multistep", "milestones": [4]}},
            ["schedule 'multistep(milestones=(4,))' (s.yaml:12): no effect, it changes"],
        ),
        ({"schedule": {"name": "multistep", "milestones": [3]}}, []),
        ({"schedule": {"name": "plateau", "patience": 3}}, ["schedule 'plateau(patience=3)'"]),
        ({"schedule": {"name": "plateau", "patience": 1}}, []),
        ({"schedule": {"name": "cosine", "end": 1.0}}, ["schedule 'cosine(end=1)'"]),
        ({"schedule": ["cosine", "linear", "one_cycle", "exponential"]}, []),
        (
            {"schedule": "one_cycle", "epochs": 1, "batch_size": 8},
            ["schedule 'one_cycle' (s.yaml:12): training has one step only, at 4e-06 of the"],
        ),
        ({"schedule": "one_cycle", "epochs": 1}, []),
        (
            {"schedule": {"name": "cosine", "warmup_epochs": 4}},
            ["the warm-up takes all of the training, or longer"],
        ),
        ({"schedule": {"name": "cosine", "warmup_epochs": 1e308}}, ["the warm-up takes all"]),
        ({"schedule": {"name": "cosine", "warmup_epochs": 3}}, []),
        (
            {"schedule": {"name": "constant", "warmup_epochs": 0.2}},
            ["no effect, the warm-up is shorter than half a step"],
        ),
        ({"schedule": {"name": "constant", "warmup_epochs": 0.5}}, []),
        ({"early_stopping": 3}, ["early_stopping (s.yaml:10): no effect, so many epochs"]),
        ({"early_stopping": 2}, []),
        ({"early_stopping": [2, 9]}, []),
        ({"early_stopping": None}, []),
        (
            {"class_weights": "balanced"},
            ["class_weights (s.yaml:4): no effect, every class has as many training images"],
        ),
        ({"class_weights": "none"}, []),
        (
            {"dataset": {"name": "fractals", "val_fraction": 0.3, "split_seed": 1}},
            ["the data set has a validation split", "the data set has a test split"],
        ),
    ],
    ids=str,
)  # fmt: skip
def test_what_does_nothing(tmp_path: Path, change: dict[str, Any], messages: list[str]) -> None:
    found = said(tmp_path, change)
    assert len(found) == len(messages), found
    for note, message in zip(found, messages, strict=True):
        assert message in note
        assert note.endswith(". (2 trials)")


@pytest.mark.parametrize(
    "name", ["resnet18_binary", "resnet18_binary_tuned", "smoke", "strategies"]
)
def test_shipped_suites_cause_no_note(name: str, tmp_path: Path) -> None:
    suite = Path(__file__).parents[2] / "suites" / f"{name}.yaml"
    resolved = resolve_run(suite, out=tmp_path, device="cpu", overrides=["precision=fp32"])
    assert resolved.notes == []


def test_batch_norms_of_a_single_value() -> None:
    assert single_value_norms("resnet18", 64) == frozenset()
    assert {address.partition("/")[0] for address in single_value_norms("resnet18", 32)} == {
        "layer4"
    }
    assert single_value_norms("vit_b_32", 32) == frozenset()


def test_trials_that_will_fail_are_told_and_fail(tmp_path: Path, no_report: None) -> None:
    """Told of the trial that torch refuses, and of no other, and kept for the report."""
    change = {"image_size": [32, 64], "batch_size": 1, "epochs": 1, "seed": 0}
    listener = Listener()
    result = run(
        written(tmp_path, change), out=tmp_path, device="cpu", workers=1, reporter=listener
    )
    (told,) = listener.notes
    assert told.startswith("note: batch_size 1 (")
    assert "strategy 'from_scratch' trains batch norms of resnet18" in told
    assert "one value per channel of an image of 32 px" in told
    assert told.endswith("give batch_size 2 or larger images. (1 trial)")
    assert sorted(result.trials["status"]) == ["complete", "failed"]
    (error,) = result.trials["error"].dropna()
    assert "Expected more than 1 value per channel" in error
    (issue,) = result.data["issues"]
    assert (issue["kind"], issue["count"]) == ("will fail", 1)
    assert issue["message"] in told


def test_frozen_batch_norms_take_a_single_image(tmp_path: Path) -> None:
    strategies = ["linear_probe", {"name": "full_finetune", "norm": "fixed"}]
    change = {"strategy": strategies, "image_size": 32, "batch_size": 1, "weights": "imagenet"}
    assert [note for note in said(tmp_path, change) if "batch norms" in note] == []
