"""Prepared images: the right pixels, written once, whole, by whoever comes first."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from bench.data import (
    Converted,
    DecodeFailure,
    ImageData,
    ImageDataset,
    data_fingerprint,
    open_dataset,
    prepare_images,
    preprocessing_of,
    resize_image,
)
from bench.data.images.prepared import stored_size
from bench.errors import DataError
from tests.damage import flip
from tests.data.pictures import photograph, prepare_when_all_are_ready, write_folder

LAYOUT = {"ants": 3, "bees": 2}


def open_folder(root: Path) -> ImageDataset:
    return open_dataset("folder", {"path": str(root)})


def prepared(dataset: ImageDataset, **changed: Any) -> ImageData:
    options = {"image_size": 14, "resize": "squash"}
    return ImageData.open(prepare_images(dataset, **{**options, **changed}))


def source_of(images: Sequence[Any], **changed: Any) -> ImageDataset:
    count = len(images)
    fields: dict[str, Any] = {
        "name": "made up",
        "classes": ("a", "b"),
        "sample_ids": tuple(f"all/{index}" for index in range(count)),
        "labels": np.arange(count, dtype=np.int64) % 2,
        "splits": np.full(count, -1, np.int8),
        "fingerprint": "f",
        "native_size": None,
        "read": lambda indices: [images[index] for index in indices],
    }
    return ImageDataset(**{**fields, **changed})


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# Resizing -------------------------------------------------------------------------------------


@given(width=st.integers(1, 120), height=st.integers(1, 120), side=st.sampled_from([8, 37, 64]))
@settings(max_examples=60, deadline=None)
def test_crop_is_torchvisions_resize_and_centre_crop(width: int, height: int, side: int) -> None:
    pixels = noise(height, width)
    reference = v2.Compose([v2.Resize(side), v2.CenterCrop(side)])(Image.fromarray(pixels))
    difference = resize_image(pixels, side, "crop").astype(int) - np.asarray(reference)
    assert np.abs(difference).max() <= 1, "Pillow rounds twice, at places that depend on the box"


def test_evaluation_sees_the_usual_256_to_224() -> None:
    image = photograph(1, width=500, height=333)
    stored = resize_image(np.asarray(image), stored_size(224, "crop"), "crop")
    centre = v2.functional.center_crop(torch.from_numpy(stored.copy()).permute(2, 0, 1), [224, 224])
    usual = v2.Compose([v2.Resize(256), v2.CenterCrop(224)])(image)
    difference = centre.permute(1, 2, 0).numpy().astype(int) - np.asarray(usual)
    assert np.abs(difference).max() <= 1


def test_squash_shows_the_whole_image() -> None:
    image = photograph(1, width=50, height=20)
    expected = np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR))
    assert np.array_equal(resize_image(np.asarray(image), 16, "squash"), expected)


@pytest.mark.parametrize(("width", "height"), [(40, 20), (20, 40)])
def test_pad_shows_the_whole_image_on_black(width: int, height: int) -> None:
    pixels = np.full((height, width, 3), 200, np.uint8)
    padded = resize_image(pixels, 20, "pad")
    bright = padded[:, :, 0] == 200
    assert bright.sum() == 20 * 10
    assert (padded[~bright] == 0).all()
    assert bright[10, 10]
    assert bright.any(axis=1 if width < height else 0).all()


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 5000), (5000, 1), (3, 2)])
def test_extreme_shapes_give_a_square(resize: Any, width: int, height: int) -> None:
    pixels = np.full((height, width, 3), 90, np.uint8)
    square = resize_image(pixels, 32, resize)
    assert square.shape == (32, 32, 3)
    assert square.max() == 90
    if resize != "pad":
        assert square.min() == 90


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
def test_a_square_of_the_right_size_is_unchanged(resize: Any) -> None:
    pixels = noise(32, 32)
    assert np.array_equal(resize_image(pixels, 32, resize), pixels)


def test_stored_size() -> None:
    assert stored_size(224, "crop") == 256
    assert stored_size(64, "crop") == 73
    assert stored_size(64, "squash") == stored_size(64, "pad") == 64


def test_auto_squashes_what_is_square_already() -> None:
    images = [noise(16, 16, seed) for seed in range(2)]
    assert prepared(source_of(images, native_size=16), resize="auto").resize == "squash"
    assert prepared(source_of(images, squares=True), resize="auto").resize == "squash"
    assert prepared(source_of(images), resize="auto").resize == "crop"


def photos(root: Path, *sizes: tuple[int, int]) -> Path:
    """Two classes of photographs of these sizes (width, height)."""
    for index, (width, height) in enumerate(sizes):
        folder = root / "ab"[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        photograph(index, width=width, height=height).save(folder / f"{index:03}.png")
    return root


def test_square_files_of_the_inputs_size_keep_every_pixel(tmp_path: Path) -> None:
    """What plain torchvision sees: enlarged and cropped, 23 % of the area was lost."""
    dataset = open_folder(photos(tmp_path, (64, 64), (64, 64), (64, 64)))
    assert (dataset.native_size, dataset.squares) == (64, True)
    data = prepared(dataset, image_size=64, resize="auto")
    assert (data.resize, data.images.shape[1:3]) == ("squash", (64, 64))
    for sample, pixels in zip(data.sample_ids, data.images, strict=True):
        assert np.array_equal(pixels, np.asarray(Image.open(tmp_path / sample)))


def test_squares_of_other_sizes_are_resized_whole(tmp_path: Path) -> None:
    dataset = open_folder(photos(tmp_path, (64, 64), (48, 48)))
    assert (dataset.native_size, dataset.squares) == (None, True)
    data = prepared(dataset, image_size=32, resize="auto")
    for sample, pixels in zip(data.sample_ids, data.images, strict=True):
        whole = Image.open(tmp_path / sample).resize((32, 32), Image.Resampling.BILINEAR)
        assert np.array_equal(pixels, np.asarray(whole))


def test_one_image_that_is_no_square_makes_auto_a_crop(tmp_path: Path) -> None:
    root = photos(tmp_path, (64, 64), (64, 64), (64, 60))
    (root / "a" / "broken.png").write_bytes(b"nothing")
    dataset = open_folder(root)
    assert (dataset.native_size, dataset.squares) == (None, False)
    assert prepared(dataset, image_size=64, resize="auto").resize == "crop"


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_interpolation_is_pillows(name: Any, tmp_path: Path) -> None:
    dataset = open_folder(photos(tmp_path, (50, 50), (50, 50)))
    data = prepared(dataset, image_size=32, resize="squash", interpolation=name)
    assert data.interpolation == data.preprocessing((0.5,), (0.5,)).interpolation == name
    resampling = Image.Resampling[name.upper()]
    for sample, pixels in zip(data.sample_ids, data.images, strict=True):
        whole = Image.open(tmp_path / sample).resize((32, 32), resampling)
        assert np.array_equal(pixels, np.asarray(whole))
    plain = prepared(dataset, image_size=32, resize="squash")
    assert (data.fingerprint == plain.fingerprint) is (name == "bilinear")


def test_what_is_said_before_preparing_is_what_is_prepared(tmp_path: Path) -> None:
    for index, sizes in enumerate([((40, 40), (40, 40)), ((40, 30), (30, 40))]):
        dataset = open_folder(photos(tmp_path / str(index), *sizes))
        data = prepared(dataset, image_size=24, resize="auto", interpolation="bicubic")
        mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
        told = preprocessing_of(
            dataset, size=24, resize="auto", interpolation="bicubic", mean=mean, std=std
        )
        assert told == data.preprocessing(mean, std)
        assert (
            data_fingerprint(dataset, size=24, resize="auto", interpolation="bicubic")
            == data.fingerprint
        )


# Preparing ------------------------------------------------------------------------------------


def test_what_is_stored(tmp_path: Path) -> None:
    dataset = open_folder(write_folder(tmp_path / "insects", LAYOUT))
    data = prepared(dataset, image_size=14, resize="crop")
    assert data.images.shape == (5, 16, 16, 3)
    assert data.images.dtype == np.uint8
    assert isinstance(data.images, np.memmap)
    assert not data.images.flags.writeable
    for index in range(5):
        expected = resize_image(np.asarray(photograph(index + 1)), 16, "crop")
        assert np.array_equal(data.images[index], expected)
    assert data.labels.tolist() == dataset.labels.tolist()
    assert data.labels.dtype == np.int64
    assert data.given_splits.dtype == np.int8
    assert data.sample_ids == dataset.sample_ids
    assert data.classes == dataset.classes
    assert (data.name, data.image_size, data.resize) == ("insects", 14, "crop")
    assert not data.generated
    assert data.issues == ()
    assert len(data) == 5


def test_any_reader_of_npy_opens_the_images(tmp_path: Path) -> None:
    folder = prepare_images(
        open_folder(write_folder(tmp_path / "insects", LAYOUT)), image_size=8, resize="pad"
    )
    assert np.load(folder / "images.npy").shape == (5, 8, 8, 3)


def test_images_are_decoded_once(tmp_path: Path) -> None:
    dataset = open_folder(write_folder(tmp_path / "insects", LAYOUT))
    folder = prepare_images(dataset, image_size=8, resize="crop")
    shutil.rmtree(tmp_path / "insects")
    assert prepare_images(dataset, image_size=8, resize="crop") == folder


def test_size_rule_and_content_have_folders_and_fingerprints_of_their_own() -> None:
    images = [noise(16, 16, seed) for seed in range(2)]
    made = [
        prepared(source_of(images)),
        prepared(source_of(images), image_size=15),
        prepared(source_of(images), resize="pad"),
        prepared(source_of(images, fingerprint="other")),
    ]
    assert len({data.folder for data in made}) == 4
    assert len({data.fingerprint for data in made}) == 4


def test_bad_files_are_left_out_and_told(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects", LAYOUT)
    (root / "ants" / "001.png").write_bytes(b"")
    (root / "ants" / "page.jpg").write_text("<html>")
    frames = [photograph(seed) for seed in range(3)]
    frames[0].save(root / "bees" / "moving.gif", save_all=True, append_images=frames[1:])
    data = prepared(open_folder(root))
    assert len(data) == len(data.images) == 5
    assert data.sample_ids == (
        "ants/000.png", "ants/002.png", "bees/000.png", "bees/001.png", "bees/moving.gif",
    )  # fmt: skip
    assert data.labels.tolist() == [0, 0, 1, 1, 1]
    expected = resize_image(np.asarray(photograph(3)), 14, "squash")
    assert np.array_equal(data.images[1], expected), "later images close the gap"
    issues = {issue.kind: issue for issue in data.issues}
    assert issues["unreadable"].count == 2
    assert issues["unreadable"].samples == ("ants/001.png", "ants/page.jpg")
    assert "ants/001.png (empty file)" in issues["unreadable"].message
    assert issues["converted"].count == 1
    assert "bees/moving.gif" in issues["converted"].message


@pytest.mark.parametrize("count", [1, 9, 10, 99, 101])
def test_the_header_has_room_for_any_number_of_failures(count: int) -> None:
    images: list[Any] = [DecodeFailure("broken")] * count + [noise(14, 14), noise(14, 14, 1)]
    data = prepared(source_of(images))
    assert np.array_equal(data.images, [noise(14, 14), noise(14, 14, 1)])


def test_nothing_to_decode_is_an_error(cache: Path) -> None:
    with pytest.raises(DataError, match=r"no image of made up can be decoded: all/0 \(broken\)"):
        prepared(source_of([DecodeFailure("broken")]))
    assert list((cache / "images").iterdir()) == []


def test_converted_pixels_are_resized_too() -> None:
    data = prepared(source_of([Converted(noise(30, 20), "first frame"), noise(14, 14)]))
    assert np.array_equal(data.images[0], resize_image(noise(30, 20), 14, "squash"))


def test_generated_sources_are_read_in_large_chunks_from_one_thread() -> None:
    calls: list[tuple[int, int]] = []

    def read(indices: Sequence[int]) -> list[np.ndarray]:
        calls.append((len(indices), threading.get_ident()))
        return [np.full((4, 4, 3), index % 256, np.uint8) for index in indices]

    images = [None] * 600
    data = prepared(
        source_of(images, read=read, generated=True, native_size=4), image_size=4, resize="auto"
    )
    assert [count for count, _ in calls] == [256, 256, 88]
    assert len({thread for _, thread in calls}) == 1
    assert data.generated
    assert data.images[:, 0, 0, 0].tolist() == [index % 256 for index in range(600)]


def test_progress_counts_the_images() -> None:
    calls: list[tuple[str, int, int | None]] = []
    dataset = source_of([noise(4, 4), noise(4, 4, 1)])
    prepare_images(dataset, image_size=4, resize="pad", progress=lambda *call: calls.append(call))
    assert calls == [("decode made up", 1, 2), ("decode made up", 2, 2)]


def test_a_disk_that_is_too_small_is_told_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(DataError, match="point BENCH_CACHE to another disk"):
        prepared(source_of([noise(14, 14)]))


# Damage and company ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage", ["truncated", "no images", "no metadata", "half metadata", "old", "a label"]
)
def test_a_damaged_folder_is_refused_and_made_anew(damage: str, tmp_path: Path) -> None:
    dataset = open_folder(write_folder(tmp_path / "insects", LAYOUT))
    folder = prepare_images(dataset, image_size=14, resize="squash")
    before = np.array(ImageData.open(folder).images)
    images, metadata = folder / "images.npy", folder / "metadata.json"
    if damage == "truncated":
        images.write_bytes(images.read_bytes()[:-1])
    elif damage == "no images":
        images.unlink()
    elif damage == "no metadata":
        metadata.unlink()
    elif damage == "half metadata":
        metadata.write_text(metadata.read_text()[:50])
    elif damage == "a label":
        metadata.write_text(metadata.read_text().replace("[0, 0, 0, 1, 1]", "[0, 0, 1, 1, 1]"))
    else:
        metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {"format": 0}))
    with pytest.raises(DataError, match="damaged"):
        ImageData.open(folder)
    assert np.array_equal(ImageData.open(prepare_images(dataset, image_size=14, resize="squash"))
                          .images, before)  # fmt: skip


def test_a_changed_pixel_is_found_and_made_anew(tmp_path: Path) -> None:
    dataset = open_folder(write_folder(tmp_path / "insects", LAYOUT))
    folder = prepare_images(dataset, image_size=14, resize="squash")
    before = np.array(ImageData.open(folder).images)
    flip(folder / "images.npy", -7)
    assert not np.array_equal(ImageData.open(folder).images, before)
    prepare_images(dataset, image_size=14, resize="squash")
    assert np.array_equal(ImageData.open(folder).images, before)


def test_images_that_an_earlier_version_prepared_get_their_checksum(tmp_path: Path) -> None:
    dataset = open_folder(write_folder(tmp_path / "insects", LAYOUT))
    folder = prepare_images(dataset, image_size=14, resize="squash")
    checksums = folder / "checksums.json"
    noted = checksums.read_text()
    checksums.unlink()
    written = (folder / "images.npy").stat().st_mtime_ns
    prepare_images(dataset, image_size=14, resize="squash")
    assert checksums.read_text() == noted
    assert (folder / "images.npy").stat().st_mtime_ns == written


def test_issues_of_the_source_are_kept_up_to_date(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects", LAYOUT)
    assert prepared(open_folder(root)).issues == ()
    (root / "ants" / "note.txt").write_text("x")
    later = prepared(open_folder(root))
    assert [issue.kind for issue in later.issues] == ["not-an-image"]
    assert later.issues[0].samples == ("ants/note.txt",)


def test_processes_that_prepare_at_once_agree(tmp_path: Path, cache: Path) -> None:
    root = write_folder(tmp_path / "insects", {"ants": 12, "bees": 12})
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    processes = [
        context.Process(target=prepare_when_all_are_ready, args=(str(root), barrier))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(list((cache / "images").iterdir())) == 1
    data = prepared(open_folder(root), image_size=96, resize="pad")
    for index, sample in enumerate(data.sample_ids):
        expected = resize_image(np.asarray(Image.open(root / sample)), 96, "pad")
        assert np.array_equal(data.images[index], expected)


def test_a_failing_reader_leaves_nothing_behind(cache: Path) -> None:
    def read(indices: Sequence[int]) -> list[np.ndarray]:
        raise RuntimeError("bug")

    with pytest.raises(RuntimeError, match="bug"):
        prepared(source_of([None, None], read=read))
    assert list((cache / "images").iterdir()) == []


def test_folder_sources_travel_to_other_processes(tmp_path: Path) -> None:
    dataset = open_folder(write_folder(tmp_path / "insects", LAYOUT))
    again = pickle.loads(pickle.dumps(dataset))
    assert np.array_equal(again.read([2])[0], dataset.read([2])[0])


def test_few_full_size_images_are_held_at_a_time(tmp_path: Path) -> None:
    """Reading runs ahead of writing by a few images, whatever the size of the data set."""
    started, written, furthest = 0, 0, 0
    lock = threading.Lock()

    def read(indices: Sequence[int]) -> list[np.ndarray]:
        nonlocal started, furthest
        with lock:
            started += len(indices)
            furthest = max(furthest, started - written)
        return [noise(8, 8)] * len(indices)

    def count(_: str, done: int, __: int | None) -> None:
        nonlocal written
        with lock:
            written = done

    prepare_images(source_of([None] * 300, read=read), image_size=8, resize="pad", progress=count)
    workers = os.cpu_count() or 1
    assert furthest <= 3 * workers + 2
