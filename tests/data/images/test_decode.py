"""Decoding: every kind of image file gives the RGB pixels that a viewer would show, or a reason."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, features

from bench.data import Converted, DecodeFailure
from bench.data.images.decode import decode_file
from tests.data.pictures import photograph

RED, WHITE = (255, 0, 0), (255, 255, 255)


def save(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def pixels_of(path: Path) -> np.ndarray:
    decoded = decode_file(path)
    assert isinstance(decoded, np.ndarray), decoded
    assert decoded.dtype == np.uint8
    assert decoded.ndim == 3
    assert decoded.shape[2] == 3
    return decoded


def reason_of(path: Path) -> str:
    decoded = decode_file(path)
    assert isinstance(decoded, DecodeFailure), decoded
    return decoded.reason


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".bmp", ".tif", ".ppm", ".tga"])
def test_lossless_rgb_is_unchanged(suffix: str, tmp_path: Path) -> None:
    image = photograph(1)
    assert np.array_equal(pixels_of(save(image, tmp_path / f"a{suffix}")), np.asarray(image))


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".jp2"])
def test_lossy_rgb_is_what_pillow_decodes(suffix: str, tmp_path: Path) -> None:
    path = save(photograph(1), tmp_path / f"a{suffix}")
    with Image.open(path) as opened:
        assert np.array_equal(pixels_of(path), np.asarray(opened.convert("RGB")))


def test_the_content_decides_not_the_suffix(tmp_path: Path) -> None:
    image = photograph(1)
    path = save(image, tmp_path / "really-a-png.jpg", format="PNG")
    assert np.array_equal(pixels_of(path), np.asarray(image))


def test_grey_and_bilevel(tmp_path: Path) -> None:
    grey = photograph(1).convert("L")
    assert np.array_equal(
        pixels_of(save(grey, tmp_path / "grey.png")), np.stack([np.asarray(grey)] * 3, -1)
    )
    bilevel = Image.fromarray(np.eye(9, dtype=bool))
    expected = np.stack([np.eye(9, dtype=np.uint8) * 255] * 3, -1)
    assert np.array_equal(pixels_of(save(bilevel, tmp_path / "bilevel.png")), expected)


def test_palette(tmp_path: Path) -> None:
    image = photograph(1).quantize(16)
    expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(pixels_of(save(image, tmp_path / "palette.png")), expected)
    assert np.array_equal(pixels_of(save(image, tmp_path / "palette.gif")), expected)


@pytest.mark.parametrize(
    ("transparency", "suffix"), [(0, ".png"), (bytes([0, 255]), ".png"), (0, ".gif")]
)
def test_transparent_palette_entries_become_white(
    transparency: int | bytes, suffix: str, tmp_path: Path
) -> None:
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8)).convert("P")
    image.putpalette([0, 0, 0, *RED])
    path = save(image, tmp_path / f"palette{suffix}", transparency=transparency)
    assert pixels_of(path).tolist() == [[[*WHITE], [*RED]], [[*RED], [*WHITE]]]


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    rgba = Image.fromarray(np.array([[[0, 0, 0, 0], [255, 0, 0, 255], [0, 0, 0, 51]]], np.uint8))
    assert pixels_of(save(rgba, tmp_path / "a.png")).tolist() == [[[*WHITE], [*RED], [204] * 3]]
    decoded = pixels_of(save(rgba.convert("LA"), tmp_path / "la.png"))
    assert decoded[0, 0].tolist() == [*WHITE]
    assert decoded[0, 2].tolist() == [204] * 3


def test_one_transparent_colour(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[[1, 2, 3], RED]], np.uint8))
    path = save(image, tmp_path / "key.png", transparency=(1, 2, 3))
    assert pixels_of(path).tolist() == [[[*WHITE], [*RED]]]
    grey = Image.fromarray(np.array([[5, 90]], np.uint8))
    path = save(grey, tmp_path / "grey-key.png", transparency=5)
    assert pixels_of(path).tolist() == [[[*WHITE], [90] * 3]]


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_shows_its_inks(suffix: str, tmp_path: Path) -> None:
    """Cyan ink alone looks cyan, no ink white, black ink black: also in Adobe's inverted JPEG."""
    inks = np.zeros((16, 48, 4), np.uint8)
    inks[:, :16, 0] = 255
    inks[:, 32:, 3] = 255
    image = Image.frombytes("CMYK", (48, 16), inks.tobytes())
    path = save(image, tmp_path / f"cmyk{suffix}", quality=100)
    if suffix == ".jpg":
        assert b"Adobe" in path.read_bytes()
    decoded = pixels_of(path).astype(int)
    for column, colour in ((8, (0, 255, 255)), (24, WHITE), (40, (0, 0, 0))):
        assert np.abs(decoded[8, column] - colour).max() <= 3


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_16_bit_grey_is_scaled_and_not_clipped(suffix: str, tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 256, dtype=np.uint16)[None]
    path = save(Image.fromarray(values), tmp_path / f"deep{suffix}")
    assert np.array_equal(pixels_of(path)[0, :, 0], np.arange(256))


def test_big_endian_16_bit_tiff(tmp_path: Path) -> None:
    values = np.array([[0, 257, 25700, 65535]], np.uint16)
    image = Image.frombytes("I;16B", (4, 1), values.astype(">u2").tobytes())
    assert pixels_of(save(image, tmp_path / "big.tif"))[0, :, 0].tolist() == [0, 1, 100, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([-10.0, 0.0, 10.0], [0, 128, 255]),
        ([0.0, 100.0, 200.0], [0, 128, 255]),
        ([7.0, 7.0, 7.0], [0, 0, 0]),
    ],
)
def test_float_tiff_is_scaled_and_says_so(
    values: list[float], expected: list[int], tmp_path: Path
) -> None:
    path = save(Image.fromarray(np.array([values], np.float32)), tmp_path / "float.tif")
    decoded = decode_file(path)
    assert isinstance(decoded, Converted)
    assert "scaled to 8 bits" in decoded.note
    assert decoded.pixels[0, :, 0].tolist() == expected


def test_32_bit_integer_tiff_is_scaled_and_says_so(tmp_path: Path) -> None:
    path = save(Image.fromarray(np.array([[0, 10**6, 2 * 10**6]], np.int32)), tmp_path / "i.tif")
    decoded = decode_file(path)
    assert isinstance(decoded, Converted)
    assert decoded.pixels[0, :, 0].tolist() == [0, 128, 255]


def test_float_tiff_with_holes_is_left_out(tmp_path: Path) -> None:
    path = save(Image.fromarray(np.array([[0, np.nan]], np.float32)), tmp_path / "float.tif")
    assert "not finite" in reason_of(path)


def test_lab_tiff_shows_its_colours(tmp_path: Path) -> None:
    image = photograph(1)
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    path = save(ImageCms.applyTransform(image, to_lab), tmp_path / "lab.tif")
    assert np.abs(pixels_of(path).astype(int) - np.asarray(image)).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_exif_orientation_is_applied_once(orientation: int, suffix: str, tmp_path: Path) -> None:
    """The corner that is bright upright must be bright in the decoded image (EXIF 2.3, 4.6.4)."""
    upright = np.zeros((32, 48), np.uint8)
    upright[:16, :16] = 255
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored)).convert("RGB")
    decoded = pixels_of(save(image, tmp_path / f"turned{suffix}", exif=exif, quality=95))
    assert decoded.shape == (32, 48, 3)
    assert np.abs(decoded[:, :, 0].astype(int) - upright).mean() < 5


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_lose_the_image(tmp_path: Path) -> None:
    image = photograph(1)
    path = save(image, tmp_path / "a.jpg", exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff garbage")
    assert pixels_of(path).shape == (30, 40, 3)


@pytest.mark.parametrize("suffix", [".gif", ".png", ".tif", ".webp"])
def test_of_an_animation_the_first_frame_is_taken(suffix: str, tmp_path: Path) -> None:
    if suffix == ".webp" and not features.check("webp"):
        pytest.skip("Pillow was built without WebP")
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if suffix == ".webp" else {}
    path = tmp_path / f"moving{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    decoded = decode_file(path)
    assert isinstance(decoded, Converted)
    assert "first frame" in decoded.note
    assert (decoded.pixels == RED).all()


def test_a_phones_second_picture_is_not_an_animation(tmp_path: Path) -> None:
    path = tmp_path / "phone.jpg"
    photograph(1).save(path, format="MPO", save_all=True, append_images=[photograph(2)])
    assert pixels_of(path).shape == (30, 40, 3)


def test_files_that_are_no_images_give_reasons(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    assert reason_of(tmp_path / "empty.jpg") == "empty file"
    (tmp_path / "page.jpg").write_text("<html>404 not found</html>")
    assert reason_of(tmp_path / "page.jpg") == "not an image of a known format"
    assert reason_of(tmp_path / "missing.jpg") == "No such file or directory"
    (tmp_path / "folder.jpg").mkdir()
    assert reason_of(tmp_path / "folder.jpg")


def test_postscript_in_disguise_is_not_run(tmp_path: Path) -> None:
    photograph(1).save(tmp_path / "a.jpg", format="EPS")
    assert reason_of(tmp_path / "a.jpg") == "not an image of a known format"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp", ".webp"])
def test_truncated_files_give_a_reason(suffix: str, tmp_path: Path) -> None:
    path = save(photograph(1, width=200, height=150), tmp_path / f"a{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert reason_of(path)


def test_decompression_bombs_are_left_out(tmp_path: Path) -> None:
    path = save(Image.new("1", (14_000, 14_000)), tmp_path / "bomb.png")
    assert path.stat().st_size < 100_000
    assert reason_of(path) == (
        "more than 178,956,970 pixels; `limits: {megapixels: …}` in the suite allows more"
    )


FUZZED = {"JPEG": {}, "PNG": {}, "GIF": {}, "TIFF": {"compression": "tiff_deflate"}, "BMP": {}}


@pytest.mark.parametrize("kind", FUZZED)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    position=st.floats(0.2, 1, exclude_max=True),
    replacement=st.binary(max_size=8),
    length=st.floats(0.1, 1),
)
def test_damage_never_raises(
    kind: str, position: float, replacement: bytes, length: float, tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    photograph(1).save(buffer, kind, **FUZZED[kind])
    content = bytearray(buffer.getvalue())
    start = int(position * len(content))
    content[start : start + len(replacement)] = replacement
    path = tmp_path / "damaged"
    path.write_bytes(content[: int(length * len(content))])
    assert isinstance(decode_file(path), np.ndarray | Converted | DecodeFailure)
