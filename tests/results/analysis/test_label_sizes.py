"""A verdict compares at one number of training images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.results.analysis import natural_target, reached_target, read_verdict, trial_measures
from bench.results.analysis.choice import choices
from bench.results.analysis.label_sizes import (
    at_size,
    families,
    images_a_class,
    size_compared,
    sizes_of,
)
from bench.results.grid import read_grid
from tests.results.label_models import sized_run
from tests.results.scored_run import Scored, scored_run

LOW, HIGH = np.full((3, 100), True), np.full((3, 100), True)
LOW[:, :30] = False
HIGH[:, :5] = False


def _config(strategy: str, shots: int | None, right: np.ndarray, **settings: object) -> Scored:
    return Scored(right=right, axes={"strategy": strategy}, settings={"shots": shots, **settings})


def test_a_size_is_compared_with_itself_alone(tmp_path: Path) -> None:
    # By validation, b would stand with 5 images, and a with all.
    run = sized_run(tmp_path, {("a", 5): LOW, ("a", None): HIGH, ("b", 5): HIGH, ("b", None): LOW})
    grid = read_grid(run.trials)
    assert grid.lead == "strategy"
    assert sizes_of(grid) == ("5", "all")
    found = read_verdict(run)
    assert found.size == "all"
    assert found.recommended == "a"
    assert [(each.name, each.figure) for each in found.contenders] == [("a", 0.95), ("b", 0.7)]
    (at_all,) = found.comparisons
    assert at_all.comparisons == 2  # half of the error is for the other size


def test_more_images_are_no_rival_of_fewer(tmp_path: Path) -> None:
    run = sized_run(tmp_path, {("a", 5): LOW, ("a", None): HIGH})
    found = read_verdict(run)
    assert (found.axis, found.comparisons) == ("strategy", ())
    assert [each.figure for each in found.contenders] == [0.95]


def test_the_compared_size_is_one_that_most_have(tmp_path: Path) -> None:
    run = sized_run(tmp_path, {("a", 5): LOW, ("b", 5): HIGH, ("a", 40): HIGH})
    grid = read_grid(run.trials)
    assert size_compared(run.trials, grid) == "5"
    assert set(choices(run.trials, grid)) == {"a", "b"}
    assert sorted(at_size(run.trials, grid, "40")["strategy"].unique()) == ["a"]


def test_sizes_that_follow_from_the_strategy_are_part_of_it(tmp_path: Path) -> None:
    run = sized_run(tmp_path, {("a", 5): LOW, ("b", None): HIGH})
    assert sizes_of(read_grid(run.trials)) == ()
    found = read_verdict(run)
    assert found.size is None
    assert len(found.contenders) == 2
    assert found.comparisons[0].comparisons == 1


def test_all_sizes_together_are_one_family(tmp_path: Path) -> None:
    sizes = (2, 5, 10, None)
    run = sized_run(tmp_path, {(name, size): LOW for name in "ab" for size in sizes})
    grid = read_grid(run.trials)
    shares = [1 / families(size, "all", grid) for size in sizes_of(grid)]
    assert sum(shares) == pytest.approx(1)
    assert families(None, None, grid) == 1


def test_images_of_a_class_are_those_of_the_setting(tmp_path: Path) -> None:
    run = sized_run(tmp_path, {("a", 5): LOW, ("a", None): HIGH}, images={"ants": 30, "bees": 40})
    assert images_a_class(run, "5") == 5
    assert images_a_class(run, "all") == 35
    (tmp_path / "data.json").unlink()
    unknown = scored_run(tmp_path / "other", [_config("a", 5, LOW), _config("a", None, HIGH)])
    assert images_a_class(unknown, "all") == 0


def test_images_until_a_target_are_those_of_the_size(tmp_path: Path) -> None:
    run = sized_run(
        tmp_path,
        {("a", 5): HIGH, ("a", None): HIGH},
        images={"ants": 30, "bees": 40},
        curves=True,
    )
    measures = trial_measures(run, target=natural_target(run.trials, run.metric))
    reached = reached_target(measures)["images"].to_dict()
    labels = read_grid(run.trials).labels
    assert {labels[config]: images for config, images in reached.items()} == {
        "5": 10,
        "all": 70,
    }
