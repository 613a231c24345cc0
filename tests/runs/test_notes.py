"""What does nothing with this data, or cannot work, is told before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.errors import SuiteError
from bench.models.batch_norms import single_value_norms
from bench.runs.reporter import SilentReporter
from bench.runs.resolve import resolve_run
from bench.runs.run import run
from tests.data.pictures import write_folder

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


def is_of_validation(note: str) -> bool:
    """Whether it tells of the few images that choose, as in all of these suites."""
    return note.startswith("validation has ")


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
        ({"early_stopping": 3}, ["early_stopping (s.yaml:10): no effect, training is too short"]),
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
    found = [note for note in said(tmp_path, change) if not is_of_validation(note)]
    assert len(found) == len(messages), found
    for note, message in zip(found, messages, strict=True):
        assert message in note
        assert note.endswith(". (2 trials)")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("resnet18_binary", marks=pytest.mark.campaign),
        "resnet18_binary_tuned",
        "smoke",
        pytest.param("strategies", marks=pytest.mark.campaign),
    ],
)
def test_shipped_suites_cause_no_note(name: str, tmp_path: Path) -> None:
    suite = Path(__file__).parents[2] / "suites" / f"{name}.yaml"
    resolved = resolve_run(suite, out=tmp_path, device="cpu", overrides=["precision=fp32"])
    # Two epochs of twenty images choose nothing, and the suite says so at its top.
    assert [note for note in resolved.notes if name != "smoke" or not is_of_validation(note)] == []


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
    told, _ = listener.notes
    assert told.startswith("note: batch_size 1 (")
    assert "strategy 'from_scratch' trains batch norms of resnet18" in told
    assert "one value per channel of an image of 32 px" in told
    assert told.endswith("give batch_size 2 or larger images. (1 trial)")
    assert sorted(result.trials["status"]) == ["complete", "failed"]
    (error,) = result.trials["error"].dropna()
    assert "Expected more than 1 value per channel" in error
    issue, _ = result.data["issues"]
    assert (issue["kind"], issue["count"]) == ("will fail", 1)
    assert issue["message"] in told


def test_frozen_batch_norms_take_a_single_image(tmp_path: Path) -> None:
    strategies = ["linear_probe", {"name": "full_finetune", "norm": "fixed"}]
    change = {"strategy": strategies, "image_size": 32, "batch_size": 1, "weights": "imagenet"}
    assert [note for note in said(tmp_path, change) if "batch norms" in note] == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {},
            "validation has 4 images: its accuracy is known to ± 25 points (one standard error at "
            "50 %), and epochs that differ by less are chosen by chance; choose: last takes the "
            "last epoch, more validation images choose better. (2 trials)",
        ),
        ({"choose": "last"}, None),
        ({"choose": "last", "lr": [0.1, 0.01]}, None),
        (
            {"choose": "last",
             "strategy": ["from_scratch", {"name": "full_finetune", "lr": [0.1, 0.2]}]},
            "validation has 4 images: its accuracy is known to ± 25 points (one standard error at "
            "50 %), and configs that differ by less are chosen by chance; one config for each "
            "strategy leaves nothing else to choose, more validation images choose better. "
            "(6 trials)",
        ),
        ({"dataset": {**TINY["dataset"], "val_per_class": 50}}, None),
        (
            {"dataset": {**TINY["dataset"], "val_per_class": 49}},
            "validation has 98 images: its accuracy is known to ± 5 points",
        ),
        (
            {"folds": 2, "choose": "last", "dataset": {**TINY["dataset"], "val_fraction": 0},
             "strategy": ["from_scratch", {"name": "full_finetune", "lr": [0.1, 0.2]}]},
            "there is no validation split, and strategies have several configs",
        ),
    ],
    ids=str,
)  # fmt: skip
def test_choosing_by_few_images(
    tmp_path: Path, change: dict[str, Any], expected: str | None
) -> None:
    found = [note for note in said(tmp_path, change) if "validation" in note.partition(",")[0]]
    found = [note for note in found if "pooled" not in note]
    assert len(found) == (expected is not None), found
    if expected is not None:
        assert found[0].startswith(expected)


def test_folds_pool_the_splits_of_the_data_set(tmp_path: Path) -> None:
    own = {**TINY["dataset"], "test_fraction": 0.3, "split_seed": 1, "val_fraction": 0.3}
    found = said(tmp_path, {"folds": 2, "dataset": own})
    assert [note for note in found if not is_of_validation(note)] == [
        "test_fraction of the data set (s.yaml:8), split_seed of the data set (s.yaml:7): no "
        "effect, folds test every image once for each seed. (4 trials)",
        "folds: 2 (s.yaml:14): the data set's own test and validation splits are pooled with all "
        "other images; each of the 16 images is tested once for each seed, so results cannot be "
        "compared with those on the data set's own test split. (4 trials)",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": 9}, "folds must not exceed the images of the smallest class, got 9; class"),
        ({"folds": 2, "shots": 4}, "shots must not exceed the training images of any class, got 4"),
    ],
)
def test_folds_that_the_data_set_cannot_have(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(SuiteError) as error:
        said(tmp_path, change)
    (problem,) = error.value.problems
    assert problem.message.startswith(message)
    assert problem.line is not None


# The data set -----------------------------------------------------------------------------------


def test_how_a_folder_was_taken_is_told_before_training(tmp_path: Path) -> None:
    layout = {f"{split}/{name}": 4 for split in ("Training", "Testing") for name in "ab"}
    write_folder(tmp_path / "brain", {**layout, "unlabeled": 2})
    change = {"dataset": {"path": "brain"}, "image_size": 32}
    taken, left_out, *others = said(tmp_path, change)
    assert taken.startswith(
        "Recognised by structure and name: Training as the train split, Testing as"
    )
    assert left_out.startswith("2 images left out (without labels")
    assert all(map(is_of_validation, others))
    folds = said(tmp_path, {**change, "folds": 2})
    assert not any(note.startswith("Recognised by") for note in folds)


def test_limits_of_files_for_data_without_files(tmp_path: Path) -> None:
    notes = said(tmp_path, {"limits": {"megapixels": 300}})
    limits = next(note for note in notes if note.startswith("limits ("))
    assert limits.endswith("no effect, the data set is not a folder of image files. (2 trials)")


def test_limits_are_in_ids_where_they_decide(tmp_path: Path) -> None:
    write_folder(tmp_path / "insects", {"ants": 9, "bees": 9})
    change = {"dataset": {"path": "insects"}, "image_size": 32}

    def ids(**more: Any) -> list[str]:
        path = written(tmp_path, {**change, **more})
        return [each.id for each in resolve_run(path, out=tmp_path, device="cpu").trials]

    assert ids() == ids(limits={"megapixels": 300})
    assert ids() != ids(limits={"megapixels": 0.001})


GENERATED = {"classes": 2, "train_per_class": 8, "val_per_class": 4, "test_per_class": 4}
SHIFTED = {
    "dataset": {
        "name": "fractals",
        **GENERATED,
        "target_data": {"name": "fractals_shifted", **GENERATED},
    }
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"after": ["ensemble", "tta", "soup"]}, None),
        ({"after": "ensemble", "seed": 0}, "it joins the seeds of a config, and there is one"),
        ({"after": {"name": "ensemble", "members": "greedy"}, "seed": 0}, None),
        ({"after": "vote"}, "it joins the learning rates of a config, and none has two"),
        ({"after": "vote", "lr": [0.01, 0.02]}, None),
        ({"after": "wise_ft"}, "it starts from the linear_probe of each seed, which is no"),
        ({"after": "wise_ft", "strategy": ["linear_probe", "full_finetune"]}, None),
        ({"after": "adabn"}, "it looks at target data without labels, and the suite has no"),
        ({"after": "adabn", **SHIFTED}, None),
        ({"after": "adabn", **SHIFTED, "backbone": "timm/test_vit"}, "it changes statistics of"),
    ],
)
def test_what_cannot_be_made_after_training_is_told_before(
    tmp_path: Path, change: dict[str, Any], reason: str | None
) -> None:
    found = [note for note in said(tmp_path, change) if note.startswith("after ")]
    assert len(found) == (reason is not None)
    if reason is not None:
        assert f"(s.yaml:1): cannot be made, {reason}" in found[0]


@pytest.mark.parametrize("entry", ["temperature", {"name": "soup", "members": "greedy"}, "wise_ft"])
def test_what_validation_chooses_needs_one(tmp_path: Path, entry: Any) -> None:
    layout = {f"{split}/{name}": 8 for split in ("train", "test") for name in "ab"}
    dataset = {"path": str(write_folder(tmp_path / "pictures", layout)), "val_fraction": 0}
    change = {"dataset": dataset, "choose": "last", "after": [entry, "tta"]}
    (found,) = (note for note in said(tmp_path, change) if note.startswith("after "))
    assert "cannot be made, validation chooses it, and there is no validation split" in found
