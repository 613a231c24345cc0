"""What becomes of pixels: sizes and shapes, ranges of values, the limits of the decoder."""

from __future__ import annotations

import re
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, PngImagePlugin

import bench
from tests.odd_inputs.conftest import (
    fill,
    look,
    photograph,
    plan_text,
    save_array,
    save_photograph,
    suite_of,
)

Array = npt.NDArray[np.uint8]
RED = (255, 0, 0)
DARK = r"dark|black|range|uniform|bright|contrast|constant|\bbits?\b|values|levels"
"""Words of whoever has looked at the values of images."""
CUT = r"crop|\bcut|central|middle"


def scene(number: int, *, side: int = 48) -> npt.NDArray[np.float64]:
    """A grey picture with values from 0 to 1, all of them used."""
    values = np.asarray(photograph(number, width=side, height=side).convert("L"), np.float64)
    return (values - values.min()) / (values.max() - values.min())


def middle(images: Array, side: int) -> Array:
    """The central squares: what a network sees of stored images that are larger."""
    margin = (images.shape[1] - side) // 2
    return images[:, margin : margin + side, margin : margin + side]


# How an image becomes an input ----------------------------------------------------------------


def test_images_of_the_input_s_size_are_taken_as_they_are(tmp_path: Path) -> None:
    """Digits of 28 pixels at image_size 28: the pixels of the files."""

    def save(path: Path, number: int) -> None:
        photograph(number, width=28, height=28).convert("L").save(path)

    root = fill(tmp_path / "digits", {"one": 6, "two": 6}, save=save)
    seen = look(root, size=28, resize="auto")
    files = [np.asarray(Image.open(root / name).convert("RGB")) for name in seen.samples]
    assert np.array_equal(middle(seen.images, 28), np.stack(files))


def test_nothing_is_cut_off_larger_squares_of_one_size(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", {"a": 6, "b": 6}, save=framed(96))
    assert frame_is_seen(look(root, size=64, resize="auto").images, 64).all()


def test_squares_of_several_sizes_are_seen_whole_or_it_is_said(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", {"a": 4, "b": 4}, save=framed(48, 64, 96))
    seen = look(root, size=64, resize="auto")
    if not frame_is_seen(seen.images, 64).all():
        said = plan_text(suite_of(root, image_size=64), out=tmp_path)
        assert re.search(CUT, said.replace("flip_crop", ""))


@pytest.mark.campaign
def test_the_plan_says_how_wide_frames_become_inputs(tmp_path: Path) -> None:
    def save(path: Path, number: int) -> None:
        photograph(number, width=160, height=90).save(path)

    root = fill(tmp_path / "frames", {"a": 8, "b": 8}, save=save)
    said = plan_text(suite_of(root, image_size=64), out=tmp_path).replace("flip_crop", "")
    for what in (r"\b64\b", CUT, r"bilinear", r"mean", r"\bstd\b|standard deviation"):
        assert re.search(what, said), what


@pytest.mark.campaign
def test_a_report_says_and_shows_how_images_become_inputs(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", {"a": 10, "b": 10})
    run = bench.run(suite_of(root), out=tmp_path / "out", device="cpu", workers=1)
    report = (run.folder / "report.md").read_text().replace("flip_crop", "")
    for what in (r"bilinear", r"\bmean\b", r"\bstd\b|standard deviation", r"\b32\b"):
        assert re.search(what, report), what
    pictures = re.findall(r"!\[([^]]*)\]\(([^)]*)\)", report)
    inputs = "input|network|model sees"
    shown = [file for text, file in pictures if re.search(inputs, f"{text} {file}")]
    assert shown
    assert all((run.folder / file).is_file() for file in shown)


def framed(*sides: int) -> Callable[[Path, int], None]:
    """A photograph with a red frame of a twenty-fourth of its side."""

    def save(path: Path, number: int) -> None:
        side = sides[number % len(sides)]
        image = Image.new("RGB", (side, side), RED)
        inner = side - 2 * (side // 24)
        image.paste(photograph(number, width=inner, height=inner), (side // 24, side // 24))
        image.save(path)

    return save


def frame_is_seen(images: Array, side: int) -> npt.NDArray[np.bool_]:
    """Of each image, whether all four edges are red in what a network sees."""
    seen = middle(np.asarray(images), side)
    edges = np.stack([seen[:, 0], seen[:, -1], seen[:, :, 0], seen[:, :, -1]], axis=1)
    distance = np.abs(edges.astype(int) - RED).mean(axis=(2, 3))
    return (distance < 40).all(axis=1)


# Ranges of values -----------------------------------------------------------------------------


def test_10_bits_in_16_are_not_black_in_silence(tmp_path: Path) -> None:
    def save(path: Path, number: int) -> None:
        save_array(path, (scene(number) * 1023).astype(np.uint16))

    seen = look(fill(tmp_path / "cells", {"a": 8, "b": 8}, save=save))
    assert seen.images.mean() > 40 or seen.tells(DARK)


def test_fractions_in_a_tiff_are_not_black_in_silence(tmp_path: Path) -> None:
    def save(path: Path, number: int) -> None:
        save_array(path, scene(number).astype(np.float32))

    seen = look(fill(tmp_path / "x", {"a": 8, "b": 8}, suffix=".tif", save=save))
    assert seen.images.mean() > 40 or seen.tells(DARK)


def test_black_frames_among_good_ones_are_named(tmp_path: Path) -> None:
    """A camera trap at night: noise of the sensor alone."""
    root = fill(tmp_path / "trap", {"deer": 12, "none": 8})
    for number in range(4):
        noise = np.random.default_rng(number).integers(0, 3, (30, 40, 3), np.uint8)
        save_array(root / "none" / f"night-{number}.png", noise)
    assert look(root).tells("night-0")


def test_masks_of_0_and_1_are_told(tmp_path: Path) -> None:
    def save(path: Path, number: int) -> None:
        save_array(path, (scene(number) > 0.5).astype(np.uint8))

    seen = look(fill(tmp_path / "masks", {"round": 8, "long": 8}, save=save))
    assert seen.tells(DARK)


def test_dead_channels_are_told(tmp_path: Path) -> None:
    """Fluorescence: green alone."""

    def save(path: Path, number: int) -> None:
        pixels = np.zeros((48, 48, 3), np.uint8)
        pixels[..., 1] = scene(number) * 255
        save_array(path, pixels)

    assert look(fill(tmp_path / "gfp", {"a": 8, "b": 8}, save=save)).tells("channel")


# Limits of the decoder ------------------------------------------------------------------------


def test_a_workflow_in_the_metadata_costs_no_image(tmp_path: Path) -> None:
    """Generators of images put 3 MB of JSON into a PNG."""
    root = fill(tmp_path / "x", {"a": 5, "b": 5})
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", '{"node": 1}' * 300_000, zip=True)
    photograph(1).save(root / "a" / "generated.png", pnginfo=text)
    assert_read(root, "a/generated.png")


def test_many_texts_cost_no_image(tmp_path: Path) -> None:
    """70 texts of 1 MB, which take little room on disk."""
    root = fill(tmp_path / "x", {"a": 5, "b": 5})
    text = PngImagePlugin.PngInfo()
    for number in range(70):
        text.add_text(f"note-{number}", "." * 1_000_000, zip=True)
    photograph(1).save(root / "a" / "noted.png", pnginfo=text)
    assert_read(root, "a/noted.png")


def test_broken_exif_costs_no_image(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", {"a": 5, "b": 5})
    exif = b"Exif\0\0II*\0\xff\xff\xff\x7f" + bytes(range(200))
    photograph(1).save(root / "a" / "camera.jpg", exif=exif)
    assert_read(root, "a/camera.jpg")


@pytest.mark.campaign
def test_a_scan_of_91_megapixels_is_read(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", {"a": 5, "b": 5})
    write_scan(root / "a" / "map.png", 10_000, 9_100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_read(root, "a/map.png")


def test_a_scan_of_190_megapixels_is_named_with_what_allows_it(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", {"a": 5, "b": 5})
    write_scan(root / "a" / "map.png", 20_000, 9_500)
    seen = look(root)
    assert seen.tells("map.png")
    assert seen.tells("limits")


def assert_read(root: Path, name: str) -> None:
    seen = look(root)
    assert name in seen.samples, seen.issues or seen.refusal


def write_scan(path: Path, width: int, height: int) -> None:
    """A white 1-bit PNG of any size, written in no time."""
    rows = zlib.compressobj()
    row = b"\0" + b"\xff" * (-(-width // 8))
    data = b"".join(rows.compress(row) for _ in range(height)) + rows.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, content in chunks:
            file.write(struct.pack(">I", len(content)) + kind + content)
            file.write(struct.pack(">I", zlib.crc32(kind + content)))


@pytest.fixture(autouse=True)
def _no_cache_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large images must not fill the session's cache."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))


def test_an_ordinary_folder_is_read_without_a_word(tmp_path: Path) -> None:
    seen = look(fill(tmp_path / "x", {"a": 8, "b": 8}, save=save_photograph))
    assert not seen.tells(rf"{DARK}|channel|limits|night")
