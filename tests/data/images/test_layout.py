"""Layouts as data sets really come: which folders are splits, which classes, and which unknown."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from bench.data import TEST, TRAIN, UNASSIGNED, VAL, ImageDataset, open_dataset
from bench.data.layout import (
    UNLABELLED,
    SeveralTestSetsError,
    is_plain_split_name,
    split_of_name,
)
from bench.errors import DataError
from tests.data.pictures import write_folder

AB = ("a", "b")


def opened(root: Path, **options: object) -> ImageDataset:
    return open_dataset("folder", {"path": str(root), **options})


def message_for(root: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        opened(root, **options)
    return str(caught.value)


def made(root: Path, *folders: str, classes: tuple[str, ...] = AB) -> Path:
    """Each of the folders with a folder of one picture for each class."""
    return write_folder(root / "data", {f"{f}/{c}": 1 for f in folders for c in classes})


def splits(dataset: ImageDataset) -> dict[int, int]:
    return dict(Counter(dataset.splits.tolist()))


def notes(dataset: ImageDataset) -> dict[str, str]:
    return {issue.kind: issue.message for issue in dataset.issues}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", TRAIN), ("Training", TRAIN), ("TRAIN", TRAIN), ("train_set", TRAIN),
        ("trainset", TRAIN), ("TrainSet", TRAIN), ("TRAINset", TRAIN), ("01-train", TRAIN),
        ("train2017", TRAIN), ("seg_train", TRAIN), ("Training Data", TRAIN), ("trn", TRAIN),
        ("train_val", TRAIN), ("x_train", TRAIN), ("Training_Images", TRAIN),
        ("val", VAL), ("valid", VAL), ("Validation", VAL), ("dev", VAL), ("validation_set", VAL),
        ("valid2017", VAL), ("evaluation", VAL),
        ("test", TEST), ("Testing", TEST), ("test_set", TEST), ("testset", TEST),
        ("holdout", TEST), ("Hold-out", TEST), ("held_out_data", TEST),
        ("TestData", TEST), ("seg_test", TEST),
        ("pred", UNLABELLED), ("seg_pred", UNLABELLED), ("test_unlabeled", UNLABELLED),
        ("ants", None), ("trainers", None), ("valley", None), ("device", None), ("contest", None),
        ("latest", None), ("train_test", None), ("invalid", None), ("火车", None),
    ],
)  # fmt: skip
def test_names_in_any_usual_spelling(name: str, split: int | None) -> None:
    assert split_of_name(name) == split


def test_a_name_that_speaks_of_more_than_a_split() -> None:
    plain = ["Test", "my_test_set", "01_train", "TRAINING DATA", "val2017"]
    assert all(map(is_plain_split_name, plain))
    assert not any(map(is_plain_split_name, ["bullet_train", "test_tube", "seg_test", "ants"]))


# Splits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("Training", "Testing"), {TRAIN: 2, TEST: 2}),
        (("train_set", "dev_set"), {TRAIN: 2, VAL: 2}),
        (("seg_train/seg_train", "seg_test/seg_test"), {TRAIN: 2, TEST: 2}),
        (("dataset_train", "dataset_holdout"), {TRAIN: 2, TEST: 2}),
        (("train2017", "val2017"), {TRAIN: 2, VAL: 2}),
        (("entrenamiento", "test"), {TRAIN: 2, TEST: 2}),
        (("photos", "validation", "test"), {TRAIN: 2, VAL: 2, TEST: 2}),
        (("01_training", "02_validation", "03_testing"), {TRAIN: 2, VAL: 2, TEST: 2}),
    ],
)
def test_split_folders_are_recognised_and_told(
    folders: tuple[str, ...], expected: dict[int, int], tmp_path: Path
) -> None:
    dataset = opened(made(tmp_path, *folders))
    assert dataset.classes == AB
    assert splits(dataset) == expected
    (taken, *_) = (i.message for i in dataset.issues if i.message.startswith("Recognised by"))
    assert all(folder in taken for folder in folders)


def test_what_was_taken_for_what(tmp_path: Path) -> None:
    dataset = opened(made(tmp_path, "Training", "Testing"))
    assert notes(dataset) == {
        "split-note": "Recognised by structure and name: Training as the train split, Testing as "
        "the test split."
    }


def test_plain_names_need_no_word(tmp_path: Path) -> None:
    dataset = opened(made(tmp_path, "TRAIN", "Valid", "test"))
    assert splits(dataset) == {TRAIN: 2, VAL: 2, TEST: 2}
    assert dataset.issues == ()


def test_a_test_folder_beside_the_classes_it_has(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", {"a": 2, "b": 2, "test/a": 1, "test/b": 1})
    dataset = opened(root)
    assert dataset.classes == AB
    assert splits(dataset) == {TRAIN: 4, TEST: 2}
    assert "the class folders as the train split" in notes(dataset)["split-note"]


def test_splits_inside_the_class_folders(tmp_path: Path) -> None:
    dataset = opened(made(tmp_path, "ants", "bees", classes=("train", "test")))
    assert dataset.classes == ("ants", "bees")
    assert splits(dataset) == {TRAIN: 2, TEST: 2}
    assert notes(dataset)["split-note"] == (
        "Recognised by structure and name: ants/train as the train split, ants/test as the test "
        "split, and so in every class folder."
    )
    assert "ants/train/000.png" in dataset.sample_ids


@pytest.mark.parametrize(
    ("layout", "without_labels"),
    [
        # Names of splits in what is none, in sets that many people have.
        ({"Training": AB, "Test": AB, "test-multiple_fruits": ()}, "test-multiple_fruits"),
        ({"alphabet_train/alphabet_train": AB, "alphabet_test/alphabet_test": ()}, "alphabet_test"),
        ({"train/images": AB, "test/images": AB, "unlabeled": ()}, "unlabeled"),
        ({"train": AB, "train2": (), "test": AB}, "train2"),
    ],
)
def test_folders_without_classes_are_left_out(
    layout: dict[str, tuple[str, ...]], without_labels: str, tmp_path: Path
) -> None:
    folders = {
        f"{folder}/{name}" if name else folder: 1
        for folder, names in layout.items()
        for name in names or ("",)
    }
    dataset = opened(write_folder(tmp_path / "data", folders))
    assert dataset.classes == AB
    assert UNASSIGNED not in dataset.splits
    assert f"in {without_labels}" in notes(dataset)["unlabelled"]


def test_folders_of_labels_are_no_splits(tmp_path: Path) -> None:
    root = made(tmp_path, "images_train", "images_val")
    (root / "labels_train" / "a").mkdir(parents=True)
    (root / "labels_train" / "a" / "0.txt").write_text("0 0.5 0.5 1 1")
    dataset = opened(root)
    assert splits(dataset) == {TRAIN: 2, VAL: 2}
    assert "labels_train" in notes(dataset)["ignored-folder"]


def test_two_folders_for_one_split_are_refused(tmp_path: Path) -> None:
    message = message_for(made(tmp_path, "train", "train_augmented", "test"))
    assert "holds two train splits, train and train_augmented" in message
    assert "splits: {train: FOLDER" in message


def test_a_folder_around_the_whole_is_named(tmp_path: Path) -> None:
    root = made(tmp_path, "faces/real_vs_fake/train", "faces/real_vs_fake/test")
    assert f"did you mean path: {root / 'faces' / 'real_vs_fake'}?" in message_for(root)


def test_a_copy_of_the_whole_in_itself_is_left_out(tmp_path: Path) -> None:
    dataset = opened(made(tmp_path, "train", "test", "xray/train", "xray/test"))
    assert splits(dataset) == {TRAIN: 2, TEST: 2}
    assert "xray" in notes(dataset)["ignored-folder"]


# Images without labels ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "folder", ["test", "test/unknown", "test/test", "Testing/images", "seg_pred/seg_pred", "pred"]
)
def test_images_without_labels_beside_train_are_left_out(folder: str, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", {"train/a": 2, "train/b": 2, folder: 3})
    dataset = opened(root)
    assert dataset.classes == AB
    assert splits(dataset) == {TRAIN: 4}
    unlabelled = notes(dataset)["unlabelled"]
    assert unlabelled.startswith("3 images left out (without labels")
    assert f"{folder}/000.png" in unlabelled


def test_other_class_names_in_a_test_split_are_no_lack_of_labels(tmp_path: Path) -> None:
    root = made(tmp_path, "train")
    write_folder(root / "test", {"A1": 1, "B1": 1})
    message = message_for(root)
    assert "the classes of" in message
    assert "A1, B1" in message
    assert "train has a, b" in message


@pytest.mark.parametrize(
    "name", ["@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found", "__MACOSX", "@Recycle",
             "System Volume Information", ".Trash-1000", ".ipynb_checkpoints"],
)  # fmt: skip
def test_system_folders_are_neither_classes_nor_images(name: str, tmp_path: Path) -> None:
    layout = {"a": 1, "b": 1, name: 2, f"a/{name}": 2, f"b/{name}/a.jpg": 1}
    dataset = opened(write_folder(tmp_path / "data", layout))
    assert dataset.classes == AB
    assert len(dataset) == 2
    assert dataset.issues == ()


# Two readings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "folders",
    [
        ("fold1", "fold2", "fold3"),
        ("color", "grayscale", "segmented"),
        ("2023", "2024"),
        ("entrenamiento", "prueba"),
        ("train", "extra"),
        ("beaker", "test_tube"),
    ],
)
def test_folders_with_the_same_folders_inside_are_refused(
    folders: tuple[str, ...], tmp_path: Path
) -> None:
    root = made(tmp_path, *folders)
    message = message_for(root)
    assert "can be read in more than one way" in message
    assert "splits: {}" in message
    dataset = opened(root, splits={})
    assert dataset.classes == tuple(sorted(folders))
    assert set(dataset.splits) == {UNASSIGNED}
    dataset = opened(root, splits={"train": folders[0], "test": folders[1]})
    assert dataset.classes == AB
    assert splits(dataset) == {TRAIN: 2, TEST: 2}


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ({"bus": 1, "car": 1, "train/old": 1, "train/new": 1}, "bus, car beside it"),
        ({"a": 1, "b": 1, "test": 3}, "test may be a class, or hold images without labels"),
        (
            {"a": 1, "b": 1, "cells/a": 1, "cells/b": 1},
            "cells contains folders with the same names",
        ),
        ({"ant_train": 1, "ant_test": 1, "bee_train": 1, "bee_test": 1}, "one in two splits"),
        (
            {"a/train": 1, "a/test": 1, "b/train": 1, "b/test": 1, "c": 1},
            "c does not have this layout",
        ),
        ({"a/train": 1, "b/train": 1, "b/test": 1}, "a does not have this layout"),
        ({"faces/train": 1, "faces/test": 1, "others": 1}, "others does not have this layout"),
    ],
)
def test_other_layouts_with_two_readings(layout: dict[str, int], said: str, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", layout)
    assert said in message_for(root)
    assert set(opened(root, splits={}).splits) == {UNASSIGNED}


@pytest.mark.parametrize(
    "classes",
    [
        ("bus", "car", "train"),
        ("bullet_train/old", "bullet_train/new", "bus", "car"),
        ("test_tube/x", "beaker", "flask"),
        ("bullet_train/old", "bullet_train/new", "test_tube"),
        ("valid", "invalid", "damaged"),
        ("cats/2023", "cats/2024", "dogs/2021", "dogs/2022"),
        ("a/images", "b/images", "c/images"),
    ],
)
def test_classes_that_only_look_like_splits(classes: tuple[str, ...], tmp_path: Path) -> None:
    dataset = opened(write_folder(tmp_path / "data", dict.fromkeys(classes, 1)))
    assert dataset.classes == tuple(sorted({name.split("/")[0] for name in classes}))
    assert set(dataset.splits) == {UNASSIGNED}
    assert dataset.issues == ()


# Splits that a suite names ----------------------------------------------------------------------


def test_the_root_itself_may_be_the_train_split(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", {"a": 1, "b": 1, "test": 3})
    dataset = opened(root, splits={"train": "."})
    assert dataset.classes == AB
    assert splits(dataset) == {TRAIN: 2}
    assert "test" in notes(dataset)["ignored-folder"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"train": "fold9"}, "got train: fold9; did you mean 'fold"),
        ({"train": "../elsewhere"}, "splits must name folders of"),
        ({"test": "fold1"}, "splits must name the folder of train"),
        ({"train": "fold1", "test": "fold1"}, "got train: fold1 and test: fold1"),
        ({"train": "fold1", "test": "fold1/a"}, "without images in common"),
    ],
)
def test_splits_that_cannot_be(given: dict[str, str], said: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "elsewhere", {"a": 1})
    assert said in message_for(made(tmp_path, "fold1", "fold2"), splits=given)


def test_ids_without_the_option_are_those_of_before(tmp_path: Path) -> None:
    root = made(tmp_path, "train", "test")
    named = opened(root, splits={"train": "train", "test": "test"})
    assert named.fingerprint == opened(root).fingerprint


# Names in several Unicode forms -----------------------------------------------------------------

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def is_one_folder(root: Path) -> bool:
    """Whether the file system takes both forms for one name, as that of a Mac does."""
    (root / NFC).mkdir(parents=True)
    return (root / NFD).exists()


def test_one_class_in_two_unicode_forms_across_splits(tmp_path: Path) -> None:
    root = write_folder(
        tmp_path / "data", {f"train/{NFD}": 1, "train/tea": 1, f"test/{NFC}": 1, "test/tea": 1}
    )
    dataset = opened(root, class_map={NFC: [1]})
    assert dataset.classes == (NFD, "tea")
    assert dataset.class_map == {NFD: (1,)}
    assert splits(dataset) == {TRAIN: 2, TEST: 2}
    assert f"test/{NFC}/000.png" in dataset.sample_ids


@pytest.mark.parametrize("other", [NFD, "café ", "cafe\u0301", "\u200bcafé", "caf\u00e9\u00a0"])
def test_two_classes_that_read_the_same_are_refused(other: str, tmp_path: Path) -> None:
    if is_one_folder(tmp_path / "probe"):
        pytest.skip("this file system knows one form only")
    root = write_folder(tmp_path / "data", {NFC: 1, other: 1, "tea": 1})
    message = message_for(root)
    assert "two classes whose names look the same" in message
    assert "'caf\\xe9'" in message


def test_a_path_in_another_unicode_form_is_found(tmp_path: Path) -> None:
    write_folder(tmp_path / NFD, {"a": 1, "b": 1})
    assert opened(tmp_path / NFC).classes == AB


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
def test_links_back_end(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", {"train/a": 1, "train/b": 1, "test/a": 1})
    (root / "test" / "b").symlink_to(root / "test")
    (root / "dev").mkdir()
    (root / "dev" / "dev").symlink_to(root / "dev")
    assert "class 'a' has no image in the val split" in message_for(root)


def test_a_class_that_lacks_a_split_inside_is_named(tmp_path: Path) -> None:
    root = made(tmp_path, "ants", "bees", classes=("train", "test"))
    (root / "bees" / "test" / "000.png").unlink()
    place = root / "bees" / "test"
    assert f"class 'bees' has no image in the test split ({place})" in message_for(root)


# Several test sets ----------------------------------------------------------------------------

NAMED = {"train": "train", "test": {"near": "test_a", "far": "test_b"}}


def test_test_sets_have_names(tmp_path: Path) -> None:
    root = made(tmp_path, "train", "test_a", "test_b")
    dataset = opened(root, splits=NAMED)
    assert splits(dataset) == {TRAIN: 2, TEST: 4}
    assert dataset.test_sets is not None
    assert dict(zip(dataset.sample_ids, dataset.test_sets, strict=True)) == {
        f"{folder}/{name}/000.png": own
        for folder, own in (("train", ""), ("test_a", "near"), ("test_b", "far"))
        for name in AB
    }
    assert "test-set" not in notes(dataset)


def test_a_class_that_a_test_set_lacks_is_told(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", {"train/a": 1, "train/b": 1, "x/a": 1, "y/b": 1})
    dataset = opened(root, splits={"train": "train", "test": {"x": "x", "y": "y"}})
    told = [issue.message for issue in dataset.issues if issue.kind == "test-set"]
    assert [text.partition(":")[0] for text in told] == [
        "The test set x has no image of b", "The test set y has no image of a",
    ]  # fmt: skip
    missing = message_for(root, splits={"train": "train", "test": {"x": "x"}})
    assert "class 'b' has no image in the test split" in missing


@pytest.mark.parametrize("folders", [("test_a", "test_b"), ("val", "test", "test_external")])
def test_several_test_folders_are_proposed_as_test_sets(
    tmp_path: Path, folders: tuple[str, ...]
) -> None:
    root = made(tmp_path, "train", *folders)
    with pytest.raises(SeveralTestSetsError, match="two test splits") as caught:
        opened(root)
    tests = {name: name for name in folders if name.startswith("test")}
    rest = {name: name for name in ("train", *folders) if name not in tests}
    assert caught.value.splits == {**rest, "test": tests}
    found = opened(root, splits=caught.value.splits)
    assert set(found.test_sets or ()) == {"", *tests}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train": {"a": "train"}, "test": "test_a"}, "splits must name one folder of train"),
        ({"train": "train", "test": {}}, "splits must name one folder of test"),
        ({"train": "train", "test": {" ": "test_a"}}, "must give each test set a name"),
        ({"train": "train", "test": {"a": "test_a", "b": "test_a"}}, "without images in common"),
        ({"train": "train", "test": {"a": "tset_a"}}, "did you mean"),
        ({"train": "train", "test": {"a": "test_a/a"}}, "must have folders of the classes"),
    ],
)
def test_test_sets_that_cannot_be(tmp_path: Path, given: dict[str, object], message: str) -> None:
    assert message in message_for(made(tmp_path, "train", "test_a", "test_b"), splits=given)
