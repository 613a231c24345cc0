"""What counts as held out: folds that part all images, else test and validation splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.errors import BenchError
from bench.results.analysis.held_out import held_out
from tests.results.audited_run import Predicted, audited_run

COUNTS = {"counts": {"train": {"a": 1, "b": 1}, "test": {"a": 1, "b": 1}}}

HALVES: tuple[Predicted, Predicted] = (
    {"a/1": (0, 0.1), "b/1": (1, 0.9)},
    {"a/2": (0, 0.2), "b/2": (1, 0.4)},
)


def test_folds_are_put_together_and_seeds_averaged(tmp_path: Path) -> None:
    other = {"a/2": (0, 0.4), "b/2": (1, 0.8)}
    run = audited_run(
        tmp_path,
        {(0, 1): HALVES[0], (0, 2): HALVES[1], (3, 1): other, (3, 2): HALVES[0]},
        val={(0, 1): {"a/2": (0, 0.99)}},
        data={**COUNTS, "folds": 2, "tested_images": 4},
    )
    found = held_out(run)
    assert found.samples == ("a/1", "a/2", "b/1", "b/2")
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert found.probabilities[:, 1] == pytest.approx([0.1, 0.3, 0.9, 0.6])
    assert (found.folds, found.seeds, found.images, found.validated) == (2, (0, 3), 4, 0)
    assert found.agreement == 1


@pytest.mark.parametrize(
    ("second", "images", "problem"),
    [
        ({**HALVES[1], "b/1": (1, 0.8)}, 4, "folds 1 and 2 of seed 0 both test 'b/1'"),
        ({"a/2": (0, 0.2)}, 4, "the folds of seed 0 test 3 images of 4, and not each of them once"),
    ],
)
def test_folds_that_are_no_partition_are_refused(
    tmp_path: Path, second: Predicted, images: int, problem: str
) -> None:
    data = {**COUNTS, "folds": 2, "tested_images": images}
    run = audited_run(tmp_path, {(0, 1): HALVES[0], (0, 2): second}, data=data)
    with pytest.raises(BenchError, match=problem):
        held_out(run)


def test_seeds_that_test_other_images_are_refused(tmp_path: Path) -> None:
    third = {"a/3": (0, 0.2), "b/3": (1, 0.4)}
    tables = {(0, 1): HALVES[0], (0, 2): HALVES[1], (1, 1): HALVES[0], (1, 2): third}
    with pytest.raises(BenchError, match="seed 1 test other images than those of seed 0"):
        held_out(audited_run(tmp_path, tables, data={**COUNTS, "folds": 2}))


def test_without_folds_test_and_validation_splits_are_held_out(tmp_path: Path) -> None:
    run = audited_run(
        tmp_path,
        {(0, None): HALVES[0], (1, None): HALVES[0]},
        val={(0, None): {"a/2": (0, 0.2)}, (1, None): {"a/2": (0, 0.4), "b/2": (1, 0.7)}},
        data={"counts": {"train": {"a": 5, "b": 5}, "val": {"a": 1}, "test": {"a": 1, "b": 1}}},
    )
    found = held_out(run)
    assert found.samples == ("a/1", "a/2", "b/1", "b/2")
    assert found.probabilities[:, 1] == pytest.approx([0.1, 0.3, 0.9, 0.7])
    assert (found.folds, found.tested, found.validated, found.images) == (None, 2, 2, 13)


def test_an_image_with_two_labels_is_refused(tmp_path: Path) -> None:
    run = audited_run(tmp_path, {(0, None): HALVES[0]}, val={(0, None): HALVES[1]})
    run.val_predictions.loc[0, ["sample", "label"]] = ["a/1", "b"]
    with pytest.raises(BenchError, match="it gives 'a/1' two labels"):
        held_out(run)


def test_a_training_that_diverged_says_nothing(tmp_path: Path) -> None:
    nan = {sample: (label, np.nan) for sample, (label, _) in HALVES[0].items()}
    run = audited_run(tmp_path / "some", {(0, None): HALVES[0], (1, None): nan})
    assert held_out(run).probabilities[:, 1] == pytest.approx([0.1, 0.9])
    with pytest.raises(BenchError, match="are unknown, as its trainings diverged"):
        held_out(audited_run(tmp_path / "all", {(0, None): nan}))


def test_a_run_without_predictions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="has no predictions to audit"):
        held_out(audited_run(tmp_path, {(0, None): {}}))


def test_folds_of_unknown_size_are_refused(tmp_path: Path) -> None:
    run = audited_run(tmp_path, {(0, 1): HALVES[0], (0, 2): HALVES[1]}, data={"folds": 2})
    with pytest.raises(BenchError, match="must count the test and training images of a fold"):
        held_out(run)


def test_seeds_without_all_folds_hold_nothing_out(tmp_path: Path) -> None:
    tables = {(0, 1): HALVES[0], (1, 2): HALVES[1]}
    with pytest.raises(BenchError, match="has all its folds, so no image"):
        held_out(audited_run(tmp_path, tables, data={**COUNTS, "folds": 2}))
