"""Folders as users have them: laid out well or badly, with odd files among the images."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data import TEST, TRAIN, UNASSIGNED, VAL, ImageDataset, open_dataset
from bench.data.images import decode
from bench.errors import BenchError, DataError
from tests.data.pictures import photograph, write_folder

FLAT = {"ants": 3, "bees": 2}
FULL = {
    "train/ants": 3,
    "train/bees": 2,
    "val/ants": 1,
    "val/bees": 1,
    "test/ants": 1,
    "test/bees": 2,
}


def open_folder(root: Path, **options: object) -> ImageDataset:
    return open_dataset("folder", {"path": str(root), **options})


def message_for(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        open_folder(root)
    return str(caught.value)


def issues_of(dataset: ImageDataset) -> dict[str, tuple[int, str]]:
    return {issue.kind: (issue.count, issue.message) for issue in dataset.issues}


def test_flat_class_folders(tmp_path: Path) -> None:
    dataset = open_folder(write_folder(tmp_path / "insects", FLAT))
    assert dataset.name == "insects"
    assert dataset.classes == ("ants", "bees")
    assert dataset.sample_ids == (
        "ants/000.png", "ants/001.png", "ants/002.png", "bees/000.png", "bees/001.png",
    )  # fmt: skip
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1]
    assert set(dataset.splits) == {UNASSIGNED}
    assert dataset.issues == ()
    assert dataset.native_size is None
    assert not dataset.generated


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_split_folders(val: str, tmp_path: Path) -> None:
    layout = {folder.replace("val", val): count for folder, count in FULL.items()}
    dataset = open_folder(write_folder(tmp_path / "insects", layout))
    splits = {
        split: sorted(np.array(dataset.sample_ids)[dataset.splits == split])
        for split in (TRAIN, VAL, TEST)
    }
    assert [len(splits[split]) for split in (TRAIN, VAL, TEST)] == [5, 2, 3]
    assert splits[VAL] == [f"{val}/ants/000.png", f"{val}/bees/000.png"]
    assert dataset.issues == ()


def test_reading_gives_the_pixels_of_the_named_file(tmp_path: Path) -> None:
    dataset = open_folder(write_folder(tmp_path / "insects", FLAT))
    images = dataset.read([4, 0])
    assert np.array_equal(images[0], np.asarray(photograph(5)))
    assert np.array_equal(images[1], np.asarray(photograph(1)))


def test_val_without_test_is_told(tmp_path: Path) -> None:
    layout = {folder: count for folder, count in FULL.items() if "test" not in folder}
    dataset = open_folder(write_folder(tmp_path / "insects", layout))
    assert "val split is used as the test split" in issues_of(dataset)["split-note"][1]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    dataset = open_folder(write_folder(tmp_path / "vehicles", {"bus": 2, "car": 2, "train": 2}))
    assert dataset.classes == ("bus", "car", "train")


def test_folders_inside_class_folders_and_upper_case_suffixes(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects", FLAT)
    (root / "ants" / "2024" / "july").mkdir(parents=True)
    photograph(50).save(root / "ants" / "2024" / "july" / "A.JPG")
    assert "ants/2024/july/A.JPG" in open_folder(root).sample_ids


def test_files_that_are_no_images_are_left_out_and_told(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects", FULL)
    for index in range(7):
        (root / "train" / "ants" / f"note{index}.txt").write_text("x")
    photograph(60).save(root / "train" / "stray.png")
    (root / "notes" / "x").mkdir(parents=True)
    dataset = open_folder(root)
    assert len(dataset) == 10
    issues = issues_of(dataset)
    assert issues["not-an-image"] == (
        7,
        "7 files left out (not an image by the suffix): "
        + ", ".join(f"train/ants/note{index}.txt" for index in range(5))
        + " and 2 more.",
    )
    assert issues["outside-classes"][0] == 1
    assert "train/stray.png" in issues["outside-classes"][1]
    assert "notes" in issues["ignored-folder"][1]


def test_hidden_files_are_ignored_silently(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects", FLAT)
    for name in (".DS_Store", "Thumbs.db", "._000.png", "desktop.ini"):
        (root / "ants" / name).write_text("x")
    for name in (".git", "__MACOSX"):
        (root / name).mkdir()
    dataset = open_folder(root)
    assert len(dataset) == 5
    assert dataset.issues == ()


def test_a_missing_folder_names_the_nearest_one(tmp_path: Path) -> None:
    write_folder(tmp_path / "hymenoptera_data", FLAT)
    message = message_for(tmp_path / "hymenoptera-data")
    assert str(tmp_path / "hymenoptera-data") in message
    assert "did you mean 'hymenoptera_data'?" in message


def test_a_missing_folder_is_named_absolutely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "no" / "such"))):
        open_dataset("folder", {"path": "no/such"})


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("")
    assert "must be a folder" in message_for(tmp_path / "data.txt")


def test_images_without_class_folders(tmp_path: Path) -> None:
    write_folder(tmp_path, {"insects": 3})
    assert "3 images but no class folders" in message_for(tmp_path / "insects")


def test_splits_without_class_folders(tmp_path: Path) -> None:
    message = message_for(write_folder(tmp_path / "insects", {"train": 2, "test": 2}))
    assert "no train folder with class folders" in message


def test_splits_without_train(tmp_path: Path) -> None:
    layout = {"val/ants": 1, "val/bees": 1, "test/ants": 1, "test/bees": 1}
    message = message_for(write_folder(tmp_path / "insects", layout))
    assert "has the folders test, val, but no train folder" in message


def test_two_val_splits(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects", FULL | {"valid/ants": 1, "valid/bees": 1})
    assert "two val splits, val and valid" in message_for(root)


@pytest.mark.parametrize("emptied", ["train/ants", "val/bees"])
def test_an_empty_class_folder_names_class_and_split(emptied: str, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects", FULL)
    for path in (root / emptied).iterdir():
        path.unlink()
    split, class_name = emptied.split("/")
    assert f"class {class_name!r} has no image in the {split} split" in message_for(root)


def test_a_class_that_a_split_lacks_names_class_and_split(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects", FULL | {"test/wasps": 1})
    message = message_for(root)
    assert "class 'wasps' has no image in the train split" in message
    assert "class 'wasps' has no image in the val split" in message


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "downloaded", {"insects/ants": 2, "insects/bees": 2})
    message = message_for(root)
    assert "at least two classes" in message
    assert "'insects'" in message


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links and pipes")
def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects", FLAT)
    write_folder(tmp_path / "elsewhere", {"more": 2})
    (root / "ants" / "linked").symlink_to(tmp_path / "elsewhere" / "more")
    (root / "ants" / "loop").symlink_to(root / "ants")
    (root / "bees" / "up").symlink_to(root)
    (root / "self").symlink_to(root)
    (root / "ants" / "broken.png").symlink_to(tmp_path / "nothing.png")
    (root / "ants" / "turning.png").symlink_to(root / "ants" / "turning.png")
    os.mkfifo(root / "ants" / "pipe.png")
    dataset = open_folder(root)
    assert dataset.classes == ("ants", "bees")
    assert "ants/linked/000.png" in dataset.sample_ids
    assert not any("loop" in name for name in dataset.sample_ids)
    assert {"ants/broken.png", "ants/turning.png"} <= set(dataset.sample_ids)  # told when decoded
    assert issues_of(dataset)["not-an-image"][0] == 1


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_names_that_are_not_unicode(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects", FLAT)
    try:
        os.rename(root / "ants" / "000.png", os.fsencode(root / "ants") + b"/caf\xe9.png")
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    dataset = open_folder(root)
    assert "ants/caf\\xe9.png" in dataset.sample_ids
    assert isinstance(dataset.read([dataset.sample_ids.index("ants/caf\\xe9.png")])[0], np.ndarray)


def test_the_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects", FLAT)
    before = open_folder(root).fingerprint
    shutil.copytree(root, tmp_path / "copy")
    assert open_folder(tmp_path / "copy").fingerprint == before
    (root / "note.txt").write_text("x")
    assert open_folder(root).fingerprint == before
    (root / "ants" / "000.png").rename(root / "ants" / "zzz.png")
    renamed = open_folder(root).fingerprint
    photograph(99).save(root / "ants" / "zzz.png")
    assert len({before, renamed, open_folder(root).fingerprint}) == 3


def test_hashes_are_remembered_by_size_and_time(tmp_path: Path, cache: Path) -> None:
    root = write_folder(tmp_path / "insects", FLAT)
    file = root / "ants" / "000.png"
    an_hour_ago = time.time_ns() - 3600 * 10**9
    os.utime(file, ns=(an_hour_ago, an_hour_ago))
    before = open_folder(root).fingerprint
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(an_hour_ago, an_hour_ago))
    assert open_folder(root).fingerprint == before, "not read again"
    os.utime(file, ns=(an_hour_ago + 1, an_hour_ago + 1))
    assert open_folder(root).fingerprint != before, "read again"
    for memory in (cache / "file-hashes").iterdir():
        memory.write_text('{"damaged')
    assert open_folder(root).fingerprint != before


def test_class_map_is_checked(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects", FLAT)
    dataset = open_folder(root, class_map={"ants": [310], "bees": ["bee"]})
    assert dataset.class_map == {"ants": (310,), "bees": ("bee",)}
    assert open_folder(root).class_map is None
    with pytest.raises(DataError, match="did you mean 'ants'"):
        open_folder(root, class_map={"ant": [310]})


def test_an_unknown_data_set_names_the_nearest() -> None:
    with pytest.raises(BenchError, match="did you mean 'hymenoptera'"):
        open_dataset("hymenopterra", {})


def test_progress_counts_the_files(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int | None]] = []
    root = write_folder(tmp_path / "insects", FLAT)
    open_dataset("folder", {"path": str(root)}, progress=lambda *call: calls.append(call))
    assert ("hash insects", 5, 5) in calls
    assert calls[-1] == ("look at insects", 5, 5)


# Files that need a reader, or have no suffix ----------------------------------------------------


def without_reader(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an installation that does not read this format."""
    formats = tuple(name for name in decode.available_formats() if name != kind)
    monkeypatch.setattr(decode, "available_formats", lambda: formats)


def test_a_folder_of_files_without_their_reader_says_which_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_reader("HEIF", monkeypatch)
    root = tmp_path / "phone"
    for name in ("ants/1.HEIC", "ants/2.heic", "bees/1.HEIC"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"\0\0\0\x18ftypheic")
    message = message_for(root)
    assert "class 'ants' has no image" in message
    assert 'does not read .HEIC files; they need: pip install "bench[heif]"' in message
    photograph(1).save(root / "ants" / "3.jpg")
    photograph(2).save(root / "bees" / "3.jpg")
    dataset = open_folder(root)
    assert len(dataset) == 2
    assert {issue.count for issue in dataset.issues} == {1, 2}
    assert all('pip install "bench[heif]"' in issue.message for issue in dataset.issues)


def test_a_folder_of_other_files_says_what_they_are(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects", {"ants": 1, "bees": 0})
    for name in ("1.mp4", "2.mp4", "notes"):
        (root / "bees" / name).write_text("x")
    message = message_for(root)
    assert "2 files: not an image by the suffix (.mp4); 1 file: no suffix, and not" in message


@pytest.mark.parametrize(
    ("suffix", "kind"), [(".heic", "HEIF"), (".HIF", "HEIF"), (".avif", "AVIF")]
)
def test_pictures_of_phones_are_read(suffix: str, kind: str, tmp_path: Path) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif")
    if kind not in decode.available_formats():
        pytest.skip(f"Pillow was built without {kind}")
    root = tmp_path / "phone"
    upright = photograph(3, width=64, height=48)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("ants", "bees"):
        (root / name).mkdir(parents=True)
        turned = upright.transpose(Image.Transpose.ROTATE_90)
        turned.save(root / name / f"0{suffix}", kind, quality=95, exif=exif.tobytes())
    dataset = open_folder(root)
    (image,) = dataset.read([0])
    assert isinstance(image, np.ndarray)
    assert image.shape == (48, 64, 3)
    assert np.abs(image.astype(int) - np.asarray(upright)).mean() < 6
    assert dataset.issues == ()


def test_avif_without_its_reader_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_reader("AVIF", monkeypatch)
    root = write_folder(tmp_path / "insects", FLAT)
    (root / "ants" / "0.avif").write_bytes(b"x")
    ((count, message),) = issues_of(open_folder(root)).values()
    assert count == 1
    assert "they need a Pillow with AVIF" in message
    assert "they need a Pillow with AVIF" in decode.decode_file(root / "ants" / "0.avif").reason


def test_images_without_suffix_are_known_by_their_content(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects", FLAT)
    for path in [*root.glob("*/*.png")]:
        path.rename(path.with_suffix(""))
    (root / "ants" / "LICENSE").write_text("P3 is a licence")
    (root / "ants" / "empty").touch()
    dataset = open_folder(root)
    assert dataset.classes == ("ants", "bees")
    assert "ants/000" in dataset.sample_ids
    assert len(dataset) == 5
    assert "ants/LICENSE, ants/empty" in issues_of(dataset)["not-an-image"][1]
    assert np.array_equal(dataset.read([0])[0], np.asarray(photograph(1)))
