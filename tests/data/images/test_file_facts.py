"""How files are read as one set: bits of 16-bit values, limits, metadata that is cut off."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from bench.data import DecodeFailure, ImageDataset, open_dataset
from bench.data.images import decode
from bench.data.images.file_facts import usual_bits
from bench.suite import Limits
from tests.data.pictures import photograph, write_folder


def opened(root: Path, limits: Limits | None = None, **options: object) -> ImageDataset:
    return open_dataset("folder", {"path": str(root), **options}, limits=limits)


def deep_folder(root: Path, largest: int, *, suffix: str = ".png") -> Path:
    """Two classes of 16-bit grey images, one of which holds the largest value."""
    for index, name in enumerate(("a", "b")):
        (root / name).mkdir(parents=True)
        values = np.linspace(0, largest // (index + 1), 64, dtype=np.uint16).reshape(8, 8)
        Image.fromarray(values).save(root / name / f"0{suffix}")
    return root


def notes(dataset: ImageDataset) -> dict[str, str]:
    return {issue.kind: issue.message for issue in dataset.issues}


# Bits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("largest", "bits"), [(1, 8), (255, 8), (256, 10), (1023, 10), (1024, 12), (4095, 12),
                          (4096, 14), (16383, 14), (16384, 16), (65535, 16)],
)  # fmt: skip
def test_the_usual_bits_that_hold_a_value(largest: int, bits: int) -> None:
    assert usual_bits(largest) == bits


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
@pytest.mark.parametrize(("largest", "bits"), [(4095, 12), (1000, 10), (15000, 14), (60000, 16)])
def test_values_are_scaled_by_the_bits_that_all_files_use(
    suffix: str, largest: int, bits: int, tmp_path: Path
) -> None:
    root = deep_folder(tmp_path / "x-rays", largest, suffix=suffix)
    dataset = opened(root)
    for index, name in enumerate(("a", "b")):
        values = np.linspace(0, largest // (index + 1), 64).astype(np.uint16).astype(float)
        expected = np.rint(values * 255 / (2**bits - 1)).reshape(8, 8)
        assert np.array_equal(dataset.read([index])[0][:, :, 0], expected), name
    if bits == 16:
        assert dataset.issues == ()
    else:
        assert (
            f"have no value above {largest:,}: they are read as {bits}-bit"
            in notes(dataset)["16-bit"]
        )


def write_colour(path: Path, values: np.ndarray) -> None:
    """A PNG or TIFF of 16-bit colour, which Pillow does not write."""
    height, width = values.shape[:2]
    if path.suffix == ".png":
        rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
        header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
        packed = (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
        return
    tags = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, 0), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, 0), (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, 6 * width * height),
    ]  # fmt: skip
    end = 8 + 2 + 12 * len(tags) + 4
    places = {258: end, 273: end + 6}
    entries = (
        struct.pack("<HHII", tag, kind, count, places.get(tag, value))
        for tag, kind, count, value in tags
    )
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(entries)
    data = struct.pack("<HHH", 16, 16, 16) + values.astype("<u2").tobytes()
    path.write_bytes(head + struct.pack("<I", 0) + data)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("largest", "bits"), [(4095, 12), (15000, 14), (200, 8), (60000, 16)])
def test_16_bit_colour_is_scaled_by_its_bits_too(
    suffix: str, largest: int, bits: int, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).integers(0, largest + 1, (9, 7, 3))
    values[0, 0, 1] = largest
    for name in ("a", "b"):
        (tmp_path / "scans" / name).mkdir(parents=True)
        write_colour(tmp_path / "scans" / name / f"0{suffix}", values)
    dataset = opened(tmp_path / "scans")
    (image, _) = dataset.read([0, 1])
    if bits == 16:
        assert np.array_equal(image, values >> 8), "as Pillow does"
        assert dataset.issues == ()
    else:
        assert np.array_equal(image, np.rint(values * 255 / (2**bits - 1)))
        assert f"they are read as {bits}-bit" in notes(dataset)["16-bit"]


def test_a_portable_grey_map_says_itself_which_value_is_white(tmp_path: Path) -> None:
    root = deep_folder(tmp_path / "x-rays", 60000)
    (root / "a" / "1.pgm").write_bytes(b"P5 2 1 4095\n" + np.array([0, 4095], ">u2").tobytes())
    assert opened(root).read([1])[0][0, :, 0].tolist() == [0, 255]


def test_bits_that_a_suite_gives(tmp_path: Path) -> None:
    root = deep_folder(tmp_path / "x-rays", 5000)
    assert opened(root, bits=16).read([0])[0].max() == round(5000 / 257)
    assert opened(root, bits=16).issues == ()
    clipped = opened(root, bits=12)
    assert clipped.read([0])[0].max() == 255
    assert "the largest value of 2 images with 16 bits is 5,000" in notes(clipped)["16-bit"]
    assert pickle.loads(pickle.dumps(clipped)).read([0])[0].max() == 255
    fingerprints = {opened(root, bits=bits).fingerprint for bits in (12, 14, 16)}
    assert len(fingerprints) == 3
    assert opened(root).fingerprint == opened(root, bits=14).fingerprint


def test_bits_without_16_bit_files_have_no_effect(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects", {"ants": 1, "bees": 1})
    dataset = opened(root, bits=12)
    assert "bits: 12 has no effect" in notes(dataset)["16-bit"]
    assert dataset.fingerprint == opened(root).fingerprint


def test_facts_are_remembered_and_damage_is_looked_up_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = deep_folder(tmp_path / "x-rays", 4095)
    before = opened(root).fingerprint
    (memory,) = (cache / "file-facts").iterdir()
    kept = json.loads(memory.read_text())
    assert sorted(largest for _, largest, _ in kept.values()) == [2047, 4095]
    for damaged in ("", '{"damaged', "[]", '{"x": 3}', '{"x": [1, "y", 0]}'):
        memory.write_text(damaged)
        assert opened(root).fingerprint == before
    with monkeypatch.context() as patched:
        patched.setattr("bench.data.images.file_facts._look", None)
        assert opened(root).fingerprint == before, "remembered"
    memory.unlink()
    memory.mkdir()
    assert opened(root).fingerprint == before


# Limits ---------------------------------------------------------------------------------------


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if 1,500 pixels were the most that Pillow decodes."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 750)
    monkeypatch.setattr(decode, "MAX_PIXELS", 1500)
    for module in ("files", "file_facts"):
        monkeypatch.setattr(f"bench.data.images.{module}.MAX_PIXELS", 1500)


@pytest.fixture
def one_large(tmp_path: Path) -> Path:
    root = write_folder(tmp_path / "insects", {"ants": 2, "bees": 2})
    photograph(9, width=60, height=50).save(root / "ants" / "large.png")
    return root


@pytest.mark.usefixtures("small_limit")
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_larger_images_are_read_where_the_suite_allows_them(one_large: Path) -> None:
    plain, allowed = opened(one_large), opened(one_large, Limits(megapixels=0.003))
    index = plain.sample_ids.index("ants/large.png")
    (refused,) = plain.read([index])
    assert isinstance(refused, DecodeFailure)
    assert refused.reason.startswith("more than 1,500 pixels; `limits: {megapixels:")
    assert allowed.read([index])[0].shape == (50, 60, 3)
    assert Image.MAX_IMAGE_PIXELS == 750
    assert plain.fingerprint != allowed.fingerprint
    assert pickle.loads(pickle.dumps(allowed)).read([index])[0].shape == (50, 60, 3)
    assert allowed.current is not None
    assert allowed.current() == allowed.fingerprint


@pytest.mark.usefixtures("small_limit")
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_limit_is_in_the_fingerprint_where_it_decides_alone(one_large: Path) -> None:
    plain = opened(one_large).fingerprint
    found = {
        pixels: opened(one_large, Limits(megapixels=pixels / 1e6)).fingerprint
        for pixels in (1199, 1200, 1400, 2999, 3000, 9000)
    }
    assert found[1200] == found[1400] == found[2999] == plain
    assert found[3000] == found[9000]
    assert len({plain, found[3000], found[1199]}) == 3


def test_a_lower_limit_leaves_images_out(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects", {"ants": 1, "bees": 1})
    (image,) = opened(root, Limits(megapixels=0.001)).read([0])
    assert isinstance(image, DecodeFailure)
    assert "more than 1,000 pixels" in image.reason


# Metadata -------------------------------------------------------------------------------------


def oversized(kind: str, path: Path) -> None:
    """A good PNG with a text or a profile that inflates to more than Pillow takes."""
    options: dict[str, Any] = {}
    if kind == "profile":
        options["icc_profile"] = bytes(PngImagePlugin.MAX_TEXT_CHUNK + 1)
    else:
        text = PngImagePlugin.PngInfo()
        value = "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1)
        if kind == "zTXt":
            text.add_text("comment", value, zip=True)
        elif kind == "iTXt":
            text.add_itxt("comment", value, zip=True)
        else:  # many that are too large together
            for index in range(66):
                text.add_text(f"comment {index}", value[: 1 << 20], zip=True)
        options["pnginfo"] = text
    photograph(5).save(path, **options)


@pytest.mark.parametrize("kind", ["zTXt", "iTXt", "many", "profile"])
def test_good_images_with_large_metadata_are_read(kind: str, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects", {"ants": 1, "bees": 1})
    path = root / "ants" / "000.png"
    before = opened(root).fingerprint
    oversized(kind, path)
    with pytest.raises(ValueError, match=r"too large|Too much memory"), Image.open(path) as image:
        image.load()
    dataset = opened(root)
    assert np.array_equal(dataset.read([0])[0], np.asarray(photograph(5)))
    assert dataset.fingerprint != before


def test_a_text_of_usual_size_still_turns_the_image(tmp_path: Path) -> None:
    """Of a file with a profile that is too large, texts stay: this one has its orientation."""
    text = PngImagePlugin.PngInfo()
    xmp = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'
    text.add_itxt("XML:com.adobe.xmp", xmp)
    photograph(5).save(tmp_path / "plain.png", pnginfo=text)
    profile = bytes(PngImagePlugin.MAX_TEXT_CHUNK + 1)
    photograph(5).save(tmp_path / "profile.png", pnginfo=text, icc_profile=profile)
    expected = decode.decode_file(tmp_path / "plain.png")
    decoded = decode.decode_file(tmp_path / "profile.png")
    assert isinstance(expected, np.ndarray)
    assert expected.shape == (40, 30, 3)
    assert isinstance(decoded, np.ndarray)
    assert np.array_equal(decoded, expected)


def test_metadata_behind_the_pixels_and_a_turned_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
    written = io.BytesIO()
    photograph(5).save(written, "PNG", exif=exif)
    plain = written.getvalue()
    end = plain.index(b"IEND") - 4
    written = io.BytesIO()
    photograph(5).save(written, "PNG", pnginfo=text)
    texts = written.getvalue()
    start = texts.index(b"zTXt") - 4
    chunk = texts[start : start + int.from_bytes(texts[start : start + 4], "big") + 12]
    (tmp_path / "a.png").write_bytes(plain[:end] + chunk + plain[end:])
    (tmp_path / "plain.png").write_bytes(plain)
    expected = decode.decode_file(tmp_path / "plain.png")
    decoded = decode.decode_file(tmp_path / "a.png")
    assert isinstance(decoded, np.ndarray)
    assert np.array_equal(decoded, expected)
    assert decoded.shape == (40, 30, 3)
