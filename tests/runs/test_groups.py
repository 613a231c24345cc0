"""Runs on data sets with groups and times: from a table to predictions that name the groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import bench
from bench.errors import DataError, SuiteError
from bench.runs.notes import PARTED
from bench.runs.resolve import ResolvedRun, resolve_run
from tests.data.pictures import photograph

PATIENTS = 6
SUITE: dict[str, Any] = {
    "dataset": {"path": "labels.csv"},
    "backbone": "shufflenet_v2_x0_5",
    "weights": "none",
    "strategy": "from_scratch",
    "augmentation": "none",
    "epochs": 1,
    "batch_size": 8,
    "image_size": 32,
    "precision": "fp32",
    "seed": 0,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of photographs of six patients, two of each class, taken month by month."""
    folder = tmp_path_factory.mktemp("clinic")
    rows = ["path,label,patient,date\n"]
    for index in range(4 * PATIENTS):
        photograph(index).save(folder / f"{index:02}.png")
        label, patient = ("well", "ill")[index % 2], index // 4
        rows.append(f"{index:02}.png,{label},p{patient},2024-{patient + 1:02}-15\n")
    (folder / "labels.csv").write_text("".join(rows))
    return folder


def suite_of(place: Path, change: dict[str, Any] | None = None, **dataset: Any) -> Path:
    path = place / "clinic.yaml"
    own = {**SUITE, **(change or {})}
    path.write_text(yaml.safe_dump({**own, "dataset": {"path": "labels.csv", **dataset}}))
    return path


def resolved(place: Path, change: dict[str, Any] | None = None, **dataset: Any) -> ResolvedRun:
    return resolve_run(suite_of(place, change, **dataset), out=place / "out", device="cpu")


@pytest.mark.campaign
def test_predictions_name_the_group_of_each_image(place: Path, tmp_path: Path) -> None:
    run = bench.run(suite_of(place, split={"by": "group"}), out=tmp_path, device="cpu")
    tested, validated = (set(each["group"]) for each in (run.predictions, run.val_predictions))
    assert len(tested) == len(validated) == 1
    assert not tested & validated
    assert len(run.predictions) == 4
    assert (run.predictions["group"] == "p" + (
        run.predictions["sample"].str[:2].astype(int) // 4).astype(str)).all()  # fmt: skip
    assert (
        "labels.csv has path from 'path', label from 'label', group from 'patient'"
        in (run.data["issues"][0]["message"])
    )


@pytest.mark.campaign
def test_seeds_with_groups_of_other_sizes_train_in_folds(place: Path, tmp_path: Path) -> None:
    table = (place / "labels.csv").read_text().splitlines()
    # Patients with two images, and with four.
    rows = [row for row in table if not row.startswith(("00", "01", "04", "05", "08", "09"))]
    (place / "uneven.csv").write_text("\n".join(rows))
    change = {"strategy": "linear_probe", "weights": {"name": "fractals", "classes": 3,
              "images_per_class": 8, "epochs": 1}, "folds": 2, "seed": [0, 1, 2]}  # fmt: skip
    suite = suite_of(place, change, path="uneven.csv", split={"by": "group"})
    run = bench.run(suite, out=tmp_path, device="cpu")
    assert list(run.trials["status"]) == ["complete"] * 6
    sizes = run.predictions.merge(run.trials[["trial", "seed", "fold"]], on="trial")
    by_fold = sizes.groupby(["fold", "seed"]).size().unstack("seed")
    assert (by_fold.nunique(axis=1) > 1).any()
    assert len(run.predictions) == 3 * (4 * PATIENTS - 6)


def test_groups_on_both_sides_are_told(place: Path) -> None:
    parted = [each for each in resolved(place).issues if each.kind == PARTED]
    assert "of 6 groups have images on both sides" in parted[0].message
    assert "split: {by: group} of the data set keeps groups whole" in parted[0].message
    whole = resolved(place, split={"by": "group"})
    assert not [each for each in whole.issues if each.kind == PARTED]
    in_folds = resolved(place, {"folds": 3}, split={"by": "group"})
    assert len(in_folds.trials) == 3
    assert not [each for each in in_folds.issues if each.kind == PARTED]


def test_what_a_split_by_time_leaves_without_effect_is_told(place: Path) -> None:
    found = resolved(place, split={"by": "time", "at": "2024-06-01"}, test_fraction=0.3)
    told = " ".join(found.notes)
    assert "split: {by: time} says which images test" in told
    assert "train has 16 images from 2024-01-15 to 2024-04-15, val has 4 images from" in told
    assert "test has 4 images from 2024-06-15 to 2024-06-15; the same test and" in told
    assert not [each for each in found.issues if each.kind == PARTED]


def test_the_split_is_part_of_a_trial_only_where_it_is_given(place: Path) -> None:
    ids = [
        resolved(place, **options).trials[0].id
        for options in ({}, {"split": None, "group": None}, {"split": {"by": "group"}},
                        {"split": {"by": "time", "at": "2024-06-01"}})
    ]  # fmt: skip
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


def test_folds_by_time_are_refused(place: Path) -> None:
    with pytest.raises(SuiteError, match=r"folds and split: \{by: time\} cannot be combined"):
        resolved(place, {"folds": 3}, split={"by": "time", "at": "2024-06-01"})


def test_too_many_folds_for_the_groups_are_refused_before_training(place: Path) -> None:
    with pytest.raises(SuiteError, match="is in 6 groups left, too few"):
        resolved(place, {"folds": 7}, split={"by": "group"})


def test_a_wrong_date_is_placed(place: Path) -> None:
    with pytest.raises(SuiteError, match=r"split must say at which date .*clinic\.yaml:\d+"):
        resolved(place, split={"by": "time", "at": "1.6.24"})
    with pytest.raises(DataError, match="group must find the group"):
        resolved(place, group="(q)")
