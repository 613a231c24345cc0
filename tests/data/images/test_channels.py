"""Images of other channels than red, green and blue, and of more than 8 bits."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.data import ImageDataset, open_data, open_dataset, prepare
from bench.data.dataset import Converted, DecodeFailure, PixelForm
from bench.data.images import channels
from bench.data.images.channels import decode_bytes_as, decode_file_as, in_form, shown
from bench.data.images.inputs import ImageInputs
from bench.data.images.prepared import for_channels, resize_image
from bench.data.inputs import Preprocessing
from bench.errors import DataError, MissingExtraError
from bench.suite import Entry
from tests.data.images.test_file_facts import write_colour
from tests.data.pictures import photograph, write_folder


def values(*shape: int, largest: int = 255, seed: int = 0) -> np.ndarray:
    kind = np.uint8 if largest <= 255 else np.uint16
    found = np.random.default_rng(seed).integers(0, largest + 1, shape).astype(kind)
    found.flat[0] = largest
    return found


def write_arrays(root: Path, *shape: int, largest: int = 255, count: int = 6) -> Path:
    for number in range(count):
        folder = root / ("a" if number % 2 else "b")
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{number}.npy", values(*shape, largest=largest, seed=number))
    return root


def opened(root: Path, **options: Any) -> ImageDataset:
    dataset = open_dataset("folder", {"path": str(root), **options})
    assert isinstance(dataset, ImageDataset)
    return dataset


def decoded(path: Path, count: int, **form: Any) -> np.ndarray:
    found = decode_file_as(path, PixelForm(channels=count, **form))
    assert not isinstance(found, DecodeFailure | Converted), found
    return found


def failure(path: Path, count: int = 4, **form: Any) -> str:
    found = decode_file_as(path, PixelForm(channels=count, **form))
    assert isinstance(found, DecodeFailure)
    return found.reason


# Files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 5, 12])
@pytest.mark.parametrize("largest", [255, 4000])
def test_arrays_are_what_they_are(tmp_path: Path, count: int, largest: int) -> None:
    array = values(7, 5, count, largest=largest)
    form = {"deep": largest > 255, "bits": 12}
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", image=array)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(array))
    np.save(tmp_path / "big.npy", array.astype(array.dtype.newbyteorder(">")))
    for name in ("a.npy", "a.npz", "fortran.npy", "big.npy"):
        assert np.array_equal(decoded(tmp_path / name, count, **form), array)
    if count == 1:
        np.save(tmp_path / "flat.npy", array[:, :, 0])
        assert np.array_equal(decoded(tmp_path / "flat.npy", 1, **form), array)


@pytest.mark.parametrize("count", [2, 4, 7])
@pytest.mark.parametrize("largest", [255, 65535])
@pytest.mark.parametrize("kind", ["pages", "bands", "planes", "packed"])
def test_pages_and_bands_of_a_tiff(tmp_path: Path, count: int, largest: int, kind: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    array = values(9, 6, count, largest=largest)
    planes = np.moveaxis(array, 2, 0).copy()
    path = tmp_path / "a.tif"
    if kind == "pages":
        tifffile.imwrite(path, planes, photometric="minisblack", metadata=None)
    elif kind == "packed":
        tifffile.imwrite(path, planes, photometric="minisblack", compression="zlib")
    else:
        layout = "contig" if kind == "bands" else "separate"
        tifffile.imwrite(path, array if kind == "bands" else planes, photometric="minisblack",
                         planarconfig=layout, metadata=None)  # fmt: skip
    assert np.array_equal(decoded(path, count, deep=largest > 255), array)
    assert f"it has {count} channels" in failure(path, count + 1)


def test_what_pillow_reads(tmp_path: Path) -> None:
    grey, colour = photograph(1).convert("L"), photograph(2)
    grey.save(tmp_path / "grey.png")
    assert np.array_equal(decoded(tmp_path / "grey.png", 1)[:, :, 0], np.asarray(grey))
    colour.save(tmp_path / "colour.png")
    assert np.array_equal(decoded(tmp_path / "colour.png", 3), np.asarray(colour))
    grey.convert("RGB").save(tmp_path / "as-colour.png")
    assert np.array_equal(decoded(tmp_path / "as-colour.png", 1)[:, :, 0], np.asarray(grey))
    assert failure(tmp_path / "colour.png", 1) == "it has 3 channels, 1 are expected"
    transparent = grey.convert("LA")
    transparent.putalpha(128)
    transparent.save(tmp_path / "alpha.png")
    assert np.array_equal(decoded(tmp_path / "alpha.png", 2), np.asarray(transparent))
    on_white = decoded(tmp_path / "alpha.png", 1)[:, :, 0].astype(int)
    assert np.abs(on_white - (np.asarray(grey) / 2 + 127.5)).max() <= 1
    colour.convert("CMYK").save(tmp_path / "print.jpg")
    assert decoded(tmp_path / "print.jpg", 4).shape == (30, 40, 4)
    colour.convert("P").save(tmp_path / "palette.gif")
    assert decoded(tmp_path / "palette.gif", 3).shape == (30, 40, 3)


@pytest.mark.parametrize("suffix", [".png", ".pgm"])
def test_sixteen_bits_of_grey_are_kept(tmp_path: Path, suffix: str) -> None:
    array = values(9, 8, largest=65535)
    Image.fromarray(array).save(tmp_path / f"a{suffix}")
    assert np.array_equal(decoded(tmp_path / f"a{suffix}", 1, deep=True)[:, :, 0], array)


def test_sixteen_bits_of_colour_are_kept(tmp_path: Path) -> None:
    array = values(9, 8, 3, largest=65535)
    write_colour(tmp_path / "a.png", array)
    assert np.array_equal(decoded(tmp_path / "a.png", 3, deep=True), array)


def test_depths_are_brought_to_one() -> None:
    eight, sixteen = values(4, 4, 2), values(4, 4, 2, largest=4095)
    deep, plain = PixelForm(channels=2, bits=12, deep=True), PixelForm(channels=2, bits=12)
    assert np.array_equal(in_form(sixteen, deep), sixteen)
    assert np.array_equal(in_form(eight, deep), np.rint(eight / 255 * 4095))
    assert np.array_equal(in_form(eight, plain), eight)
    assert np.array_equal(in_form(sixteen, plain), np.rint(sixteen / 4095 * 255))
    assert in_form(np.full((1, 1, 2), 60000, np.uint16), deep).max() == 4095
    assert (deep.white, plain.white, deep.pixel_bytes, plain.pixel_bytes) == (4095, 255, 4, 2)


def test_hostile_files_are_one_sentence_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.data.archives.SUSPICIOUS_MEMBER", 2**20)

    def array(name: str, content: Any, **options: Any) -> Path:
        np.save(tmp_path / f"{name}.npy", content, **options)
        return tmp_path / f"{name}.npy"

    assert "whole numbers from 0 to 65,535 (uint8 or uint16), got float64" in failure(
        array("float", np.zeros((4, 4, 4)))
    )
    assert "got -1 to 0" in failure(array("below", np.full((4, 4, 4), [-1, 0, 0, 0])))
    assert "got 0 to 70,000" in failure(array("above", np.full((4, 4, 4), [0, 0, 0, 70_000])))
    assert "[height, width, channels], got [4, 20, 30]" in failure(
        array("first", np.zeros((4, 20, 30), np.uint8))
    )
    assert "got [3]" in failure(array("line", np.zeros(3, np.uint8)))
    assert failure(array("none", np.zeros((0, 4, 4), np.uint8))) == "has no pixels"
    assert "got object" in failure(array("code", np.full((2, 2, 4), None), allow_pickle=True))
    whole = array("whole", np.zeros((8, 8, 4), np.uint8)).read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-1])
    assert failure(tmp_path / "cut.npy") == "the file ends too early"
    with (tmp_path / "claims.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (10_000, 10_000, 4)}
        np.lib.format.write_array_header_1_0(file, header)
    assert failure(tmp_path / "claims.npy") == "the file ends too early"
    np.savez(tmp_path / "two.npz", a=np.zeros((2, 2, 4)), b=np.zeros((2, 2, 4)))
    assert "one array, this one holds 2" in failure(tmp_path / "two.npz")
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.npy", b"\0" * 2**21)
    assert "unpacks from" in failure(tmp_path / "bomb.npz")
    for name, content in (("empty", b""), ("text", b"hello"), ("tiff", b"II*\0junk")):
        (tmp_path / f"{name}.tif").write_bytes(content)
        assert failure(tmp_path / f"{name}.tif")
    assert decode_bytes_as(b"", "a.npy", PixelForm(channels=2)) == DecodeFailure("empty file")
    large = PixelForm(channels=4)
    found = decode_file_as(tmp_path / "whole.npy", large, max_pixels=63)
    assert isinstance(found, DecodeFailure)
    assert "more than 63 pixels" in found.reason


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(values(4, 4)).save(tmp_path / "a.tif")
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    assert 'pip install "bench[tiff]"' in failure(tmp_path / "a.tif", 1)
    write_folder(tmp_path / "set", {"a": 1, "b": 1}, suffix=".tif")
    with pytest.raises(MissingExtraError, match="tifffile"):
        opened(tmp_path / "set", channels=3)


# Data sets ------------------------------------------------------------------------------------


def test_a_folder_of_arrays(tmp_path: Path) -> None:
    root = write_arrays(tmp_path / "set", 20, 20, 5, largest=4000)
    dataset = opened(root, channels=5)
    assert (dataset.channels, dataset.deep, dataset.bits, dataset.native_size) == (5, True, 12, 20)
    assert "4,095 is white" in next(i.message for i in dataset.issues if i.kind == "16-bit")
    data = open_data(prepare(dataset, size=16, resize="squash"))
    assert (data.images.shape, data.images.dtype) == ((6, 16, 16, 5), np.uint16)  # type: ignore[attr-defined]
    assert opened(root, channels=5, bits=14).fingerprint != dataset.fingerprint
    with pytest.raises(DataError, match=r"arrays \(.npy, .npz\), read with `channels: N`"):
        opened(root)
    with pytest.raises(DataError, match="it has 5 channels, 4 are expected"):
        prepare(opened(root, channels=4), size=16, resize="squash")


def test_arrays_in_an_archive_and_in_a_table(tmp_path: Path) -> None:
    root = write_arrays(tmp_path / "set", 6, 6, 2, largest=4000)
    shutil.make_archive(str(tmp_path / "packed"), "zip", root)
    plain, packed = opened(root, channels=2), opened(tmp_path / "packed.zip", channels=2)
    assert (packed.fingerprint, packed.deep) == (plain.fingerprint, True)
    assert np.array_equal(packed.read([3])[0], plain.read([3])[0])
    rows = [f"{path.relative_to(root).with_suffix('')},{path.parent.name}\n"
            for path in sorted(root.rglob("*.npy"))]  # fmt: skip
    (root / "labels.csv").write_text("".join(["path,label\n", *rows]))
    table = open_dataset("table", {"path": str(root / "labels.csv"), "channels": 2})
    assert table.sample_ids == plain.sample_ids
    assert np.array_equal(table.read([3])[0], plain.read([3])[0])  # type: ignore[attr-defined]


def test_one_deep_file_makes_the_set_deep(tmp_path: Path) -> None:
    root = write_arrays(tmp_path / "set", 6, 6, 2)
    assert not opened(root, channels=2).deep
    np.save(root / "a" / "deep.npy", values(6, 6, 2, largest=60000))
    dataset = opened(root, channels=2)
    assert dataset.deep
    assert {pixels.dtype for pixels in dataset.read(range(len(dataset)))} == {np.dtype(np.uint16)}


def test_rgb_data_know_nothing_of_it(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", {"a": 2, "b": 2})
    plain, given = opened(root), opened(root, channels=3)
    assert plain.fingerprint == opened(root, channels=None).fingerprint != given.fingerprint
    rule = open_data(prepare(plain, size=16, resize="crop")).preprocessing((0.5,) * 3, (0.2,) * 3)
    assert "channels" not in rule.to_json()
    one, other = (open_data(prepare(each, size=16, resize="crop")) for each in (plain, given))
    assert np.array_equal(one.images, other.images)  # type: ignore[attr-defined]


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_channels_are_resized_one_by_one(resize: Any, interpolation: Any) -> None:
    pixels = np.asarray(photograph(3))
    expected = resize_image(pixels, 16, resize, interpolation)
    four = np.concatenate([pixels, pixels[:, :, :1]], axis=2)
    found = resize_image(four, 16, resize, interpolation)
    assert np.array_equal(found, np.concatenate([expected, expected[:, :, :1]], axis=2))
    deep = resize_image(four.astype(np.uint16) * 257, 16, resize, interpolation)
    # Eight bits are rounded, and cut to their range, after each of two passes.
    assert np.abs(deep / 257 - found).max() <= (1.01 if interpolation == "bilinear" else 2.5)
    assert int(deep.max()) <= 257 * int(four.max())


@pytest.mark.parametrize("augmentation", ["none", "flip", "flip_crop"])
def test_geometric_views_of_deep_images(augmentation: str) -> None:
    import torch

    form = PixelForm(channels=5, bits=12, deep=True)
    stored = values(4, 18, 18, 5, largest=4095)
    rule = Preprocessing(
        kind="image", size=16, classes=("a", "b"), resize="crop", resized_to=18,
        interpolation="bilinear", mean=(0.5,) * 5, std=(0.25,) * 5, channels=5, deep=True, bits=12,
    )  # fmt: skip
    assert Preprocessing.from_json(rule.to_json()) == rule
    inputs = ImageInputs(stored, Entry(name=augmentation), rule, seed=0, device=torch.device("cpu"))
    batch = inputs.batch(np.arange(4), 0)
    assert batch.shape == (4, 5, 16, 16)
    if augmentation == "none":
        middle = stored[:, 1:17, 1:17].transpose(0, 3, 1, 2) / form.white
        assert np.allclose(batch.numpy(), (middle - 0.5) / 0.25, atol=1e-5)
    assert float(batch.max()) <= 2
    assert torch.equal(batch[2:3], inputs.batch(np.array([2]), 0))


def test_what_is_shown_and_normalised() -> None:
    for count, first in ((1, [0, 0, 0]), (2, [0, 0, 0]), (3, [0, 1, 2]), (5, [0, 1, 2])):
        pixels = values(4, 4, count)
        assert np.array_equal(shown(pixels, PixelForm(channels=count)), pixels[:, :, first])
    assert for_channels((0.1, 0.2, 0.6), 1) == pytest.approx((0.3,))
    assert for_channels((0.1, 0.2, 0.6), 5) == (0.1, 0.2, 0.6, 0.1, 0.2)
    assert for_channels((0.1, 0.2, 0.6), None) == (0.1, 0.2, 0.6)


def test_a_look_at_other_channels(tmp_path: Path) -> None:
    root = write_arrays(tmp_path / "set", 20, 20, 4)
    for path in root.rglob("*.npy"):
        array = np.load(path)
        array[:, :, 2] = 7
        np.save(path, array)
    data = open_data(prepare(opened(root, channels=4), size=16, resize="squash"))
    found = {issue.kind: issue.message for issue in data.issues}
    assert "without channel 3: its values are nearly constant" in found["dead-channel"]
    assert "grey" not in found


def test_suffixes() -> None:
    assert ".npy" not in channels.suffixes_of(None)
    assert {".npy", ".npz", ".png"} <= channels.suffixes_of(4)
