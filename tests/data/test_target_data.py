"""Target data beside a data set: what is tested, what has lost its labels, what does not fit."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data import (
    DATASETS,
    TEST,
    Dataset,
    ImageDataset,
    Splits,
    TextDataset,
    VectorDataset,
    make_splits,
    open_dataset,
    open_with_target,
)
from bench.data.dataset import UNLABELLED
from bench.data.target_data import TARGET_NOTE, with_target
from bench.errors import BenchError, DataError
from tests.data.pictures import write_folder

FEW = {"classes": 2, "train_per_class": 3, "val_per_class": 2, "test_per_class": 2}
SMALL = {**FEW, "image_size": 16}
TARGET = {"name": "fractals_shifted", **SMALL}


def _opened(**options: Any) -> ImageDataset:
    found = open_with_target("fractals", {**SMALL, "target_data": TARGET, **options})
    assert isinstance(found, ImageDataset)
    return found


def _plain(name: str = "fractals") -> ImageDataset:
    found = open_dataset(name, SMALL)
    assert isinstance(found, ImageDataset)
    return found


def _splits(data: ImageDataset) -> Splits:
    return make_splits(
        data.labels, data.splits, data.classes, seed=0, val_fraction=0.2, test_fraction=0.2,
        split_seed=0, shots=2,
    )  # fmt: skip


def test_source_trains_and_the_target_is_tested_or_has_no_labels() -> None:
    data, target = _opened(), _plain("fractals_shifted")
    splits = _splits(data)
    ids = {name: [data.sample_ids[i] for i in part] for name, part in splits.named().items()}
    assert not any(each.startswith("target/") for each in (*ids["train"], *ids["val"]))
    tested = [s for s, split in zip(target.sample_ids, target.splits, strict=True) if split == TEST]
    assert ids["test"] == [f"target/{sample}" for sample in tested]
    assert data.labels[splits.test].tolist() == target.labels[target.splits == TEST].tolist()
    assert len(splits.unlabelled) == 10
    assert not data.labels[splits.unlabelled].any()
    assert not set(splits.unlabelled) & set(np.concatenate(list(splits.named().values())))
    (note,) = [each for each in data.issues if each.kind == TARGET_NOTE]
    assert "10 images are used without labels, and the labels of 4 for" in note.message


def test_pixels_are_those_of_either_whatever_is_read_with_them() -> None:
    data, source, target = _opened(), _plain(), _plain("fractals_shifted")
    order = [0, len(data) - 1, 3, len(data) - 14]
    own = [source.sample_ids.index(data.sample_ids[i]) for i in (0, 3)]
    expected = [source.read(own)[0], target.read([13])[0], source.read(own)[1], target.read([0])[0]]
    for found, known in zip(data.read(order), expected, strict=True):
        assert np.array_equal(np.asarray(found), np.asarray(known))


def test_without_a_test_split_of_the_target_nothing_of_it_is_measured() -> None:
    target = _plain("fractals_shifted")
    target = replace(target, splits=np.where(target.splits == TEST, 0, target.splits))
    data = with_target(_plain(), target)
    splits = _splits(data)
    assert not any(data.sample_ids[i].startswith("target/") for i in splits.test)
    assert len(splits.unlabelled) == len(target)
    assert "nothing about the target was measured" in data.issues[-1].message


def test_fingerprints_know_the_target() -> None:
    noisier = {**TARGET, "noise": 20.0}
    known = {_opened().fingerprint, _opened(target_data=noisier).fingerprint, _plain().fingerprint}
    assert len(known) == 3
    assert UNLABELLED not in _opened(target_data=None).splits


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_data": {**TARGET, "classes": 3}}, "must have the classes of the data set"),
        ({"split": {"by": "time", "at": "2024-06-01"}}, "says twice what is tested"),
        ({"unlabelled_fraction": 0.5}, "both say what has no labels"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        _opened(**options)


def test_target_data_of_test_images_alone_is_refused() -> None:
    target = _plain("fractals_shifted")
    with pytest.raises(DataError, match="test images alone"):
        with_target(_plain(), replace(target, splits=np.full_like(target.splits, TEST)))


def test_groups_weights_and_test_sets_are_of_what_has_them() -> None:
    source, target = _plain(), _plain("fractals_shifted")
    tests = target.splits == TEST
    weights = np.linspace(1, 2, len(source))
    source = replace(source, sample_weights=weights, test_sets=("home",) * len(source))
    sets = tuple("abroad" if own else "" for own in tests)
    target = replace(target, groups=("one",) * len(target), test_sets=sets)
    data = with_target(source, target)
    of_source = int((source.splits != TEST).sum())
    assert data.sample_weights is not None
    assert data.groups is not None
    assert data.test_sets is not None
    assert data.sample_weights.tolist() == [*weights[source.splits != TEST], *np.ones(len(target))]
    assert set(data.groups[of_source:]) == {"one"}
    assert len(set(data.groups[:of_source])) == of_source
    assert data.test_sets[of_source:] == sets


# Folders and tables ---------------------------------------------------------------------------

HOME = {"ants": 3, "bees": 3}


def _beside(tmp_path: Path, target: Any, **options: Any) -> Dataset:
    """The folder `home`, with target data beside it."""
    if not (tmp_path / "home").is_dir():
        write_folder(tmp_path / "home", HOME)
    given = {"path": str(tmp_path / "home"), "target_data": target, **options}
    model = _options("folder", given)
    return open_with_target("folder", model)


def _options(name: str, given: dict[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = DATASETS.get(name).options(**given).model_dump()
    return options


def _parts(data: Dataset) -> tuple[dict[str, str], list[str]]:
    """Of target data the class of what is tested, and what is without labels."""
    tested = {
        data.sample_ids[at]: data.classes[data.labels[at]]
        for at in np.flatnonzero(data.splits == TEST)
    }
    without = [data.sample_ids[at] for at in np.flatnonzero(data.splits == UNLABELLED)]
    return tested, without


@pytest.mark.parametrize(
    ("layout", "tested", "without"),
    [
        ({".": 2}, 0, 2),
        ({"unlabelled": 2}, 0, 2),
        ({"2024/may": 2, "2024/june": 1, "june": 1}, 0, 4),
        ({"test/ants": 1, "test/bees": 2, "rest": 3}, 3, 3),
        ({"phone/test/ants": 1, "phone/test/bees": 1, "phone/rest": 2}, 2, 2),
        ({"Test set/ants": 1, "Test set/bees": 1, "train": 2}, 2, 2),
        ({"train/ants": 1, "train/bees": 1, "test/ants": 1, "test/bees": 1, "unlabelled": 2}, 2, 4),
        ({"ants": 1, "bees": 1, "others": 1}, 0, 3),
        ({"ants/test": 1, "bees/test": 1, "ants/train": 1, "bees/train": 1}, 2, 2),
        ({"val/ants": 1, "val/bees": 1}, 0, 2),
    ],
)
def test_a_folder_of_target_data_needs_no_class_folders(
    layout: dict[str, int], tested: int, without: int, tmp_path: Path
) -> None:
    phone = tmp_path / "phone"
    phone.mkdir()
    write_folder(phone / "x", layout)
    data = _beside(tmp_path, str(phone / "x"))
    of_tests, others = _parts(data)
    assert (len(of_tests), len(others)) == (tested, without)
    assert all(f"/{name}/" in sample for sample, name in of_tests.items())
    assert not data.labels[data.splits == UNLABELLED].any()
    (note,) = [each.message for each in data.issues if each.kind == TARGET_NOTE]
    assert f"{without} images are used without labels" in note
    assert ("nothing about the target was measured" in note) == (not tested)


def test_an_archive_and_what_is_no_image(tmp_path: Path) -> None:
    phone = write_folder(tmp_path / "phone", {"a": 2, "test/ants": 1, "test/bees": 1})
    (phone / "a" / "notes.md").write_text("")
    plain = _parts(_beside(tmp_path, str(phone)))
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", phone)
    data = _beside(tmp_path, {"name": "folder", "path": packed})
    assert _parts(data) == plain
    assert any("notes.md" in each.message for each in data.issues)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"test": 2, "rest": 1}, "must have a folder for each class .ants, bees., but .* has none"),
        ({"test/ants": 1, "test/wasps": 1}, "but .*test has ants, wasps; images without labels go"),
        ({"test/ants": 1, "test/bees": 1, "testing/ants": 1, "testing/bees": 1}, "test split"),
        ({"ants": 1}, "has ants and not bees"),
        ({"ants": 1, "wasps": 1}, "has ants and not bees; put images without labels into"),
        ({"empty": 0}, "holds no images"),
    ],
)
def test_a_folder_that_can_be_read_in_two_ways_is_refused(
    layout: dict[str, int], message: str, tmp_path: Path
) -> None:
    phone = write_folder(tmp_path / "phone", layout)
    with pytest.raises(DataError, match=message):
        _beside(tmp_path, str(phone))


def test_a_table_of_target_data_needs_labels_of_its_test_split_alone(tmp_path: Path) -> None:
    write_folder(tmp_path / "phone", {".": 4})
    table = tmp_path / "phone" / "files.csv"
    table.write_text("path\n000.png\n001.png\n")
    assert _parts(_beside(tmp_path, str(table))) == ({}, ["target/000.png", "target/001.png"])
    rows = "000.png,bees,test\n001.png,ants,test\n002.png,wasps,train\n003.png,,\n"
    table.write_text(f"path,label,split\n{rows}")
    tested, without = _parts(_beside(tmp_path, str(table)))
    assert tested == {"target/000.png": "bees", "target/001.png": "ants"}
    assert without == ["target/002.png", "target/003.png"]
    table.write_text("path,label,split\n000.png,wasps,test\n001.png,ants,train\n")
    with pytest.raises(DataError, match=r"must have the classes .*, got 'wasps' \(row 1"):
        _beside(tmp_path, str(table))
    table.write_text("path,split\n000.png,test\n001.png,train\n")
    with pytest.raises(DataError, match="test split, but no column of their labels"):
        _beside(tmp_path, str(table))


# Texts and vectors ----------------------------------------------------------------------------

REVIEWS = {"text": [f"it was {word}" for word in "abcdef"], "label": ["good", "bad"] * 3}


def _texts(target: dict[str, Any]) -> TextDataset:
    given = {"lists": REVIEWS, "target_data": {"name": "text", **target}}
    found = open_with_target("text", _options("text", given))
    assert isinstance(found, TextDataset)
    return found


def test_texts_of_target_data_need_no_labels(tmp_path: Path) -> None:
    data = _texts({"lists": {"text": ["new", "newer"]}})
    assert _parts(data) == ({}, ["target/000001", "target/000002"])
    assert data.texts[-2:] == ("new", "newer")
    assert "2 texts are used without labels" in data.issues[-1].message
    cells = {
        "text": ["x", "y", "z"],
        "label": ["good", "bad", ""],
        "split": ["test", "test", "train"],
    }
    assert _parts(_texts({"lists": cells})) == (
        {"target/000001": "good", "target/000002": "bad"}, ["target/000003"],
    )  # fmt: skip
    for name in ("a.txt", "test/good/b.txt", "test/bad/c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    tested, without = _parts(_texts({"path": str(tmp_path)}))
    assert tested == {"target/test/good/b.txt": "good", "target/test/bad/c.txt": "bad"}
    assert without == ["target/a.txt"]


def test_what_a_table_says_of_samples_without_labels_is_not_read() -> None:
    """Neither lists of labels, nor a column that is called split and means something else."""
    cells: dict[str, Any] = {
        "text": ["x", "y", "z"],
        "label": ["good", "bad", ["good", "bad"]],
        "split": ["test", "test", "train"],
    }
    assert _parts(_texts({"lists": cells}))[1] == ["target/000003"]
    other = {"text": ["x", "y", "z"], "split": ["A", "B", ""]}
    assert len(_parts(_texts({"lists": other}))[1]) == 3


def test_vectors_are_of_one_length_and_kinds_do_not_mix() -> None:
    source = _vectors(3)
    data = with_target(source, _vectors(3))
    assert isinstance(data, VectorDataset)
    assert data.vectors.shape == (8, 3)
    with pytest.raises(DataError, match="vectors of the length of the data set's, 3, got 2"):
        with_target(source, _vectors(2))
    with pytest.raises(DataError, match="must be of the kind of the data set"):
        with_target(_plain(), source)


def _vectors(length: int) -> VectorDataset:
    return VectorDataset(
        name="points",
        classes=("near", "far"),
        sample_ids=tuple("abcd"),
        labels=np.array([0, 1, 0, 1]),
        splits=np.zeros(4, np.int8),
        fingerprint="0" * 64,
        vectors=np.ones((4, length), np.float32),
    )
