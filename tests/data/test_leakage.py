"""Leakage: the copies that are there are found, and the ones that are not are not."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from bench.data import ImageData, Splits, leakage, open_dataset, prepare_images
from bench.data.leakage import (
    MAX_NEAR_PAIRS,
    NEAR_BITS,
    NEAR_CORRELATION,
    near_pairs,
    perceptual_hash,
)
from tests.data.pictures import photograph, write_folder


def prepared(root: Path) -> ImageData:
    dataset = open_dataset("folder", {"path": str(root)})
    return ImageData.open(prepare_images(dataset, image_size=64, resize="squash"))


def splits_by_name(data: ImageData) -> Splits:
    """The splits that the folders say."""
    return Splits(
        *(
            np.array([i for i, name in enumerate(data.sample_ids) if name.startswith(split)])
            for split in ("train", "val", "test")
        )
    )


def issues_of(data: ImageData, splits: list[Splits] | None = None) -> dict[str, Any]:
    found = leakage(data, splits if splits is not None else [splits_by_name(data)])
    return {issue.kind: issue for issue in found}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    layout = {f"{split}/{name}": 4 for split in ("train", "val", "test") for name in ("a", "b")}
    return write_folder(tmp_path / "set", layout)


def big(seed: int) -> Image.Image:
    return photograph(seed, width=200, height=150)


def test_unrelated_images_give_no_issue(root: Path) -> None:
    assert issues_of(prepared(root)) == {}


def test_exact_copies_across_splits_are_named(root: Path) -> None:
    big(100).save(root / "train" / "a" / "original.png")
    big(100).save(root / "test" / "a" / "copy.png")
    big(100).save(root / "test" / "a" / "copy.bmp")
    big(100).save(root / "train" / "a" / "second.png")
    issue = issues_of(prepared(root))["leakage-exact"]
    assert issue.count == 4, "two training images times two test images"
    assert "4 pairs of identical images" in issue.message
    assert "test/a/copy.bmp (test) and train/a/original.png (train)" in issue.message
    assert len(issue.samples) == 8


def test_copies_within_a_split_are_no_leakage(root: Path) -> None:
    for name in ("one", "two"):
        big(100).save(root / "train" / "a" / f"{name}.png")
    assert issues_of(prepared(root)) == {}


def test_copies_of_what_is_tested_are_leakage_without_their_labels_too(root: Path) -> None:
    for name in ("train/a/one.png", "train/b/two.png", "test/a/tested.png"):
        big(100).save(root / name)
    data = prepared(root)
    splits = splits_by_name(data)
    without = data.sample_ids.index("train/b/two.png")
    train = splits.train[splits.train != without]
    splits = replace(splits, train=train, unlabelled=np.array([without]))
    issue = issues_of(data, [splits])["leakage-exact"]
    assert issue.count == 2
    assert "test/a/tested.png (test) and train/b/two.png (without labels)" in issue.message


def recompressed(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30)
    return Image.open(buffer)


CHANGES = {
    "recompressed": recompressed,
    "halved": lambda image: image.resize((image.width // 2, image.height // 2)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "grey": lambda image: image.convert("L"),
    "cropped": lambda image: image.crop((2, 2, image.width - 2, image.height - 2)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_near_copies_across_splits_are_named(change: str, root: Path) -> None:
    big(100).save(root / "train" / "a" / "original.png")
    CHANGES[change](big(100)).save(root / "val" / "a" / "changed.png")
    found = issues_of(prepared(root))
    assert set(found) == {"leakage-near"}
    assert found["leakage-near"].count == 1
    assert set(found["leakage-near"].samples) == {"train/a/original.png", "val/a/changed.png"}


def test_near_copies_of_copies_are_all_counted(root: Path) -> None:
    for name in ("train/a/one", "train/a/two", "train/b/three"):
        big(100).save(root / f"{name}.png")
    recompressed(big(100)).save(root / "test" / "a" / "near.png")
    assert issues_of(prepared(root))["leakage-near"].count == 3


def test_one_picture_under_two_labels(root: Path) -> None:
    big(100).save(root / "train" / "a" / "one.png")
    big(100).save(root / "train" / "b" / "other.png")
    found = issues_of(prepared(root))
    assert set(found) == {"label-conflict"}
    assert found["label-conflict"].count == 1
    assert "train/a/one.png (a) and train/b/other.png (b)" in found["label-conflict"].message


def test_near_copies_under_two_labels_are_told_wherever_they_lie(root: Path) -> None:
    big(100).save(root / "train" / "a" / "one.png")
    big(100).save(root / "train" / "a" / "same.png")
    recompressed(big(100)).save(root / "train" / "b" / "other.png")
    found = issues_of(prepared(root))
    assert set(found) == {"label-conflict-near"}
    issue = found["label-conflict-near"]
    assert issue.count == 2
    assert "2 pairs of nearly identical images under different labels" in issue.message
    assert "train/a/one.png (a) and train/b/other.png (b)" in issue.message
    assert issue.samples[::2] == ("train/a/one.png", "train/a/same.png")
    assert issue.samples[1::2] == ("train/b/other.png",) * 2


def test_what_has_no_label_is_of_no_class(root: Path) -> None:
    picture = big(100)
    for name in ("a", "b"):
        picture.save(root / "train" / name / "copy.png")
        picture.save(root / "train" / name / "near.jpg", quality=60)
    data = prepared(root)
    whole = splits_by_name(data)
    assert {"label-conflict", "label-conflict-near"} <= set(issues_of(data))
    of_b = np.array([i for i in whole.train if data.sample_ids[i].startswith("train/b")])
    train = np.setdiff1d(whole.train, of_b)
    assert issues_of(data, [Splits(train, whole.val, whole.test, of_b)]) == {}


def test_a_pair_counts_once_however_many_trials_split_it(root: Path) -> None:
    big(100).save(root / "train" / "a" / "original.png")
    big(100).save(root / "train" / "a" / "copy.png")
    data = prepared(root)
    own = splits_by_name(data)
    copy = data.sample_ids.index("train/a/copy.png")
    moved = Splits(own.train[own.train != copy], np.sort([*own.val, copy]), own.test)
    unused = Splits(own.train[own.train != copy], own.val, own.test)
    assert issues_of(data, [own, unused]) == {}
    assert issues_of(data, [own, moved, moved])["leakage-exact"].count == 1


def test_only_five_pairs_are_named(root: Path) -> None:
    for index in range(8):
        big(200 + index).save(root / "train" / "a" / f"x{index}.png")
        big(200 + index).save(root / "test" / "a" / f"x{index}.png")
    issue = issues_of(prepared(root))["leakage-exact"]
    assert issue.count == 8
    assert len(issue.samples) == 10


def test_many_copies_of_one_picture(root: Path) -> None:
    for index in range(40):
        Image.new("RGB", (64, 64)).save(root / "train" / "a" / f"black{index}.png")
        Image.new("RGB", (64, 64)).save(root / "test" / "b" / f"black{index}.png")
    found = issues_of(prepared(root))
    assert found["leakage-exact"].count == 1600
    assert found["label-conflict"].count == 1
    assert "leakage-near" not in found


def test_uniform_images_are_not_near_each_other(root: Path) -> None:
    for index in range(10):
        Image.new("RGB", (64, 64), (index * 20,) * 3).save(root / "train" / "a" / f"g{index}.png")
        Image.new("RGB", (64, 64), (index * 20 + 9,) * 3).save(
            root / "test" / "a" / f"g{index}.png"
        )
    assert issues_of(prepared(root)) == {}


def test_the_search_is_made_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big(100).save(root / "train" / "a" / "original.png")
    recompressed(big(100)).save(root / "test" / "a" / "near.png")
    data = prepared(root)
    calls: list[tuple[str, int, int | None]] = []
    first = leakage(data, [splits_by_name(data)], progress=lambda *call: calls.append(call))
    assert calls[-1] == ("compare set", 26, 26)
    again = leakage(data, [splits_by_name(data)], progress=lambda *call: calls.append(call))
    assert len(calls) == 26
    assert again == first
    (stored,) = data.folder.glob("copies-*.npz")
    stored.write_bytes(stored.read_bytes()[:100])
    assert leakage(data, [splits_by_name(data)]) == first


def test_generated_data_is_not_searched() -> None:
    dataset = open_dataset("fractals", {"train_per_class": 2, "val_per_class": 2,
                                      "test_per_class": 2, "image_size": 16})  # fmt: skip
    data = ImageData.open(prepare_images(dataset, image_size=16, resize="auto"))
    everything = np.arange(len(data))
    assert leakage(data, [Splits(everything[:4], everything[4:8], everything[8:])]) == []
    assert not list(data.folder.glob("copies-*"))


def test_the_hash_is_that_of_the_library() -> None:
    for seed in range(10):
        image = big(seed)
        value, thumbnail = perceptual_hash(np.asarray(image))
        expected = imagehash.phash(image)
        assert f"{int.from_bytes(value.tobytes(), 'big'):016x}" == str(expected)
        assert thumbnail.shape == (32, 32)


def test_the_search_agrees_with_the_plain_double_loop() -> None:
    """Blocks, borders and both conditions, against every pair one by one."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 700, dtype=np.uint64)
    thumbnails = rng.integers(0, 256, (700, 32, 32), dtype=np.uint8)
    for copy in range(300, 700, 3):  # copies of earlier ones with 0 to 11 bits and noise changed
        original = int(rng.integers(0, 300))
        flipped = rng.choice(64, size=copy % 12, replace=False).astype(np.uint64)
        hashes[copy] = hashes[original] ^ np.bitwise_or.reduce(np.uint64(1) << flipped, initial=0)
        mixed = thumbnails[original] + rng.normal(0, 10 * (copy % 7), (32, 32))
        thumbnails[copy] = mixed.clip(0, 255).astype(np.uint8)
    expected = [
        (i, j)
        for i in range(700)
        for j in range(i + 1, 700)
        if (int(hashes[i]) ^ int(hashes[j])).bit_count() <= NEAR_BITS
        and np.corrcoef(thumbnails[i].ravel(), thumbnails[j].ravel())[0, 1] >= NEAR_CORRELATION
    ]
    assert len(expected) > 30
    assert [tuple(pair) for pair in sorted(near_pairs(hashes, thumbnails).tolist())] == expected


def test_the_search_stops_at_the_largest_number_of_pairs() -> None:
    thumbnail = np.random.default_rng(0).integers(0, 256, (1, 32, 32), dtype=np.uint8)
    pairs = near_pairs(np.zeros(600, np.uint64), np.repeat(thumbnail, 600, axis=0))
    assert pairs.shape == (MAX_NEAR_PAIRS, 2)
