"""Layouts of folders, what lies beside images, names that read the same, files of other kinds."""

from __future__ import annotations

import io
import unicodedata
import zipfile
from pathlib import Path

import numpy as np

from tests.odd_inputs.conftest import fill, look, photograph, save_photograph, touch

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
CAT = unicodedata.normalize("NFC", "고양이")


def plain(names: tuple[str, ...]) -> list[str]:
    """Names as they read, in order."""
    return sorted(unicodedata.normalize("NFC", name).strip().lower() for name in names)


# Split folders are not classes ----------------------------------------------------------------


def test_an_ordinary_folder_needs_no_word(ordinary: Path) -> None:
    seen = look(ordinary)
    assert (seen.classes, seen.total, seen.issues) == (("ants", "bees"), 20, "")


def test_train_set_and_test_set_are_splits(tmp_path: Path) -> None:
    layout = {
        f"{split}/{name}": 6 for split in ("Train_Set", "Test_Set") for name in ("oak", "elm")
    }
    seen = look(fill(tmp_path / "DATA", layout))
    assert seen.classes == ("elm", "oak")
    assert seen.count("train", "oak") == seen.count("test", "oak") == 6


def test_folders_of_folds_are_not_classes(tmp_path: Path) -> None:
    layout = {f"fold_{k}/{name}": 3 for k in range(1, 6) for name in ("benign", "malignant")}
    seen = look(fill(tmp_path / "skin", layout))
    if seen.refusal is None:
        assert seen.classes == ("benign", "malignant")
        assert seen.total == 30
        assert seen.tells("fold")
    else:
        assert seen.refused_for("fold_1|folds")


def test_images_above_the_splits(tmp_path: Path) -> None:
    """As detectors want it: images/train/CLASS beside labels/train/*.txt."""
    root = fill(
        tmp_path / "pets",
        {f"images/{split}/{name}": 6 for split in ("train", "val") for name in ("cat", "dog")},
    )
    for split in ("train", "val"):
        touch(root / "labels" / split / "000.txt", b"0 0.5 0.5 1 1\n")
    seen = look(root)
    if seen.refusal is None:
        assert seen.classes == ("cat", "dog")
    else:
        assert seen.refused_for(r"images.*train|path must be .*images")


def test_numbered_splits_and_a_class_that_was_never_tested(tmp_path: Path) -> None:
    layout = {f"{split}/{name}": 6 for split in ("01_train", "02_valid") for name in "abc"}
    seen = look(fill(tmp_path / "leaves", {**layout, "03_test/a": 6, "03_test/b": 6}))
    if seen.refusal is None:
        assert seen.classes == ("a", "b", "c")
        assert (seen.count("train", "c"), seen.count("test", "b")) == (6, 6)
    assert seen.tells(r"\bc\b.*test|test.*\bc\b")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    seen = look(fill(tmp_path / "vehicles", {"bus": 6, "train": 6, "tram": 6}))
    if seen.refusal is None:
        assert seen.classes == ("bus", "train", "tram")
    else:
        assert seen.refused_for("train")


# Neither classes nor images -------------------------------------------------------------------


def test_what_a_mac_leaves_in_archives(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", {f"{split}/{n}": 5 for split in ("train", "test") for n in "ab"})
    for split in ("train", "test"):
        for name in "ab":
            touch(root / "__MACOSX" / split / name / "._000.png", b"\0\5\x16\7")
            touch(root / split / name / "._000.png", b"\0\5\x16\7")
            touch(root / split / name / ".DS_Store")
    touch(root / ".DS_Store")
    seen = look(root)
    assert (seen.classes, seen.total) == (("a", "b"), 20)
    assert "could not be" not in seen.issues
    assert "decoding failed" not in seen.issues


def test_what_notebooks_and_git_leave(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", {"a": 6, "b": 6, ".ipynb_checkpoints": 1, ".git/objects/aa": 1})
    (root / "a" / ".ipynb_checkpoints").mkdir()
    save_photograph(root / "a" / ".ipynb_checkpoints" / "000-checkpoint.png", 7)
    seen = look(root)
    assert (seen.classes, seen.total) == (("a", "b"), 12)


def test_what_windows_and_servers_leave(tmp_path: Path) -> None:
    system = ("$RECYCLE.BIN/S-1-5-21", "System Volume Information", "#recycle/a", "lost+found")
    root = fill(tmp_path / "x", {"a": 6, "b": 6, **dict.fromkeys(system, 2)})
    for name in ("Thumbs.db", "desktop.ini"):
        touch(root / "a" / name)
    seen = look(root)
    assert (seen.classes, seen.total) == (("a", "b"), 12)


def test_the_images_of_a_contest_that_have_no_label(tmp_path: Path) -> None:
    """Kaggle's dogs and cats: train with classes, test1 without, and a table."""
    root = fill(tmp_path / "dogs-vs-cats", {"train/cats": 8, "train/dogs": 8, "test1": 9})
    touch(root / "sampleSubmission.csv", b"id,label\n1,0\n")
    seen = look(root)
    assert (seen.refusal, seen.classes, seen.total) == (None, ("cats", "dogs"), 16)
    assert seen.count("test", "cats") == 0
    assert seen.tells("test1")


def test_images_that_are_in_a_cloud_only(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", {"a": 6, "b": 6})
    for number in range(4):
        touch(root / "a" / f".IMG_{number}.png.icloud", b"bplist00")
    seen = look(root)
    assert (seen.classes, seen.total) == (("a", "b"), 12)
    assert seen.tells("icloud|cloud|placeholder|not downloaded")


# Names that read the same ---------------------------------------------------------------------


def test_two_forms_of_a_name_in_two_splits(tmp_path: Path) -> None:
    layout = {f"train/{NFC}": 6, "train/bar": 6, f"test/{NFD}": 6, "test/bar": 6}
    seen = look(fill(tmp_path / "x", layout))
    assert plain(seen.classes) == ["bar", NFC]
    assert seen.total == 24


def test_capitals_in_one_split(tmp_path: Path) -> None:
    layout = {"train/Cats": 6, "train/Dogs": 6, "test/cats": 6, "test/dogs": 6}
    seen = look(fill(tmp_path / "x", layout))
    if seen.refusal is None:
        assert plain(seen.classes) == ["cats", "dogs"]
        assert seen.total == 24
    else:
        assert seen.refused_for(r"capital|case|spell|differ|read|Cats.{0,20}cats|cats.{0,20}Cats")


def test_a_blank_at_the_end_of_a_name(tmp_path: Path) -> None:
    seen = look(fill(tmp_path / "x", {"cats": 6, "cats ": 6, "dogs": 6}))
    if seen.refusal is None:
        assert len(seen.classes) == 2 or seen.tells("blank|space|same|alike|read")
    else:
        assert seen.refused_for("cats")


def test_two_forms_of_hangul(tmp_path: Path) -> None:
    layout = {CAT: 6, unicodedata.normalize("NFD", CAT): 5, "dog": 6}
    seen = look(fill(tmp_path / "x", layout))
    if seen.refusal is None:
        assert plain(seen.classes) == sorted(["dog", CAT])
        assert seen.total == 17
    else:
        assert CAT in unicodedata.normalize("NFC", seen.refusal)


def test_a_class_map_in_the_other_form(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", {NFD: 6, "bee": 6})
    seen = look(root, class_map={NFC: [504], "bee": ["bee"]})
    assert seen.refusal is None
    assert len(seen.classes) == 2


# Files of other kinds -------------------------------------------------------------------------


def test_other_names_of_jpeg(tmp_path: Path) -> None:
    root = tmp_path / "x"
    for name, suffix in (("a", ".jfif"), ("b", ".JPE"), ("c", ".JPEG")):
        fill(root, {name: 6}, suffix=suffix, save=_save_jpeg)
    assert look(root).total == 18


def test_raw_files_of_cameras(tmp_path: Path) -> None:
    root = tmp_path / "x"
    for name in ("owl", "elk"):
        for number in range(6):
            touch(root / name / f"IMG_{number}.{'CR2' if number % 2 else 'NEF'}", b"II*\0" * 9)
    assert look(root).refused_for(r"\.?(cr2|nef)")


def test_arrays_of_numpy(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "x" / name).mkdir(parents=True)
        for number in range(4):
            np.save(tmp_path / "x" / name / f"{number}.npy", np.zeros((8, 8, 3), np.uint8))
    assert look(tmp_path / "x").refused_for(r"npy")


def test_classes_in_archives(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    for name in ("cats", "dogs"):
        with zipfile.ZipFile(tmp_path / "x" / f"{name}.zip", "w") as archive:
            archive.writestr(f"{name}/1.jpg", _jpeg(1))
    assert look(tmp_path / "x").refused_for("zip|archive|unpack")


def test_numbers_in_the_place_of_a_suffix(tmp_path: Path) -> None:
    """A scanner's scan.001, scan.002: whole PNGs."""
    root = tmp_path / "x"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for number in range(6):
            image = photograph(number + 10 * (name == "b"))
            image.save(root / name / f"scan.{number:03}", format="PNG")
    seen = look(root)
    if seen.refusal is None:
        assert seen.total == 12
    else:
        assert seen.refused_for(r"scan\.00|\.00\d|suffix")


def _save_jpeg(path: Path, number: int) -> None:
    path.write_bytes(_jpeg(number))


def _jpeg(number: int) -> bytes:
    buffer = io.BytesIO()
    photograph(number).save(buffer, format="JPEG")
    return buffer.getvalue()
