"""What cells are called: no two the same."""

from __future__ import annotations

from pathlib import Path

from bench.runs.catalogue import catalogue
from bench.suite import cell_labels, expand, load_suite, trial_label

SUITE = """\
name: mine
dataset: {name: fractals}
backbone: resnet18
strategy: [linear_probe, {name: full_finetune, lr: [0.01, 0.001], momentum: [0.0, 0.9]}]
seed: [0, 1]
"""


def labels(*overrides: str) -> list[str]:
    names = catalogue()
    trials = expand(load_suite(SUITE, names, overrides), names)
    found = cell_labels(trials)
    assert list(found) == list(dict.fromkeys(trial.config for trial in trials))
    return list(found.values())


def test_settings_tell_cells_apart_that_have_the_same_axes() -> None:
    tail = " · constant · flip_crop"
    assert labels() == [
        f"resnet18 · linear_probe{tail}",
        *(
            f"resnet18 · full_finetune{tail} · lr {lr} · momentum {momentum}"
            for lr in ("0.01", "0.001")
            for momentum in ("0", "0.9")
        ),
    ]


def test_every_setting_that_can_be_an_axis_tells_cells_apart() -> None:
    for override in (
        "image_size=[32, 64]",
        "weights=[imagenet, IMAGENET1K_V1]",
        "head=[linear, {name: mlp, hidden: 8}]",
        "early_stopping=[null, 2]", "class_weights=[none, balanced]", "batch_size=[4, 8]",
        "shots=[null, 1, 2]", "precision=[fp32, bf16]",
    ):  # fmt: skip
        found = labels(override, "strategy=full_finetune")
        assert len(set(found)) == len(found) > 1, override


def test_files_of_the_same_name_are_told_apart_by_the_config(tmp_path: Path) -> None:
    paths = [tmp_path / name / "own.pth" for name in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        path.touch()
    files = ", ".join(f"{{file: {path}}}" for path in paths)
    found = labels(f"weights=[{files}]", "strategy=full_finetune")
    assert len(set(found)) == 2


def test_a_trial_has_its_seed_and_fold_behind_the_label_of_its_cell() -> None:
    names = catalogue()
    trials = expand(load_suite(SUITE, names, ["folds=2", "strategy=linear_probe"]), names)
    found = {trial_label(trial, cell_labels(trials)) for trial in trials}
    assert len(found) == len(trials) == 4
    assert trial_label(trials[0], {}) == trials[0].full_label
    assert trials[0].full_label.endswith(" · seed 0 · fold 1")
