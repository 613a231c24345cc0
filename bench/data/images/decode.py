"""From an image file of any common kind to RGB pixels.

Transparency is laid on white, EXIF orientation applied, 16-bit greyscale scaled to 8 bits, of an
animation the first frame taken. Colour profiles are ignored: pixel values count as sRGB.
"""

from __future__ import annotations

import io
import stat
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.data.dataset import Converted, Decoded, DecodeFailure, Pixels

if TYPE_CHECKING:
    from PIL import Image

IMAGE_SUFFIXES = frozenset({
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg",
    ".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".sgi",
    ".tga", ".tif", ".tiff", ".webp",
})  # fmt: skip
FORMATS = (
    "JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "JPEG2000", "MPO", "ICO", "AVIF",
    "QOI", "PCX", "SGI", "TGA",
)  # fmt: skip
"""Raster formats only: Pillow would start other programs for some of the rest (EPS)."""


def read_files(paths: Sequence[Path], indices: Sequence[int]) -> list[Decoded]:
    """Decode `paths[i]` for each i of `indices`: an `ImageDataset.read` once `paths` is bound."""
    return [decode_file(paths[index]) for index in indices]


def decode_file(path: Path) -> Decoded:
    """Decode one image file to uint8 [height, width, 3]; never raises on a bad file."""
    try:
        status = path.stat()
    except OSError as error:
        return DecodeFailure(error.strerror or str(error))
    if not stat.S_ISREG(status.st_mode):
        return DecodeFailure("not a file")
    if status.st_size == 0:
        return DecodeFailure("empty file")
    return _decode(path)


def decode_bytes(content: bytes) -> Decoded:
    """Decode the content of an image file, as `decode_file` does."""
    return _decode(io.BytesIO(content)) if content else DecodeFailure("empty file")


def _decode(source: Path | io.BytesIO) -> Decoded:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(source, formats=available_formats()) as image:
            return decode_image(image)
    except MemoryError:
        raise
    except Image.DecompressionBombError:
        return DecodeFailure(f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels")
    except UnidentifiedImageError:
        return DecodeFailure("not an image of a known format")
    except OSError as error:
        return DecodeFailure(error.strerror or str(error) or type(error).__name__)
    except Exception as error:  # Pillow's plugins raise almost anything on damaged files
        return DecodeFailure(str(error) or type(error).__name__)


def decode_image(image: Image.Image) -> Pixels | Converted:
    """The pixels of an image that Pillow has opened; raises what Pillow raises on damaged data."""
    image.load()
    upright = _upright(image)
    rgb, note = _to_rgb(upright, container=image.format)
    pixels = np.asarray(rgb)
    if image.format != "MPO" and _is_animated(image):
        note = "first frame of an animation or stack"
    return pixels if note is None else Converted(pixels, note)


@lru_cache(maxsize=1)
def available_formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this installation of Pillow reads."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _upright(image: Image.Image) -> Image.Image:
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block says nothing about the pixels
        return image


def _is_animated(image: Image.Image) -> bool:
    """Whether there is a second frame; counting all of them could take hours."""
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a damaged later frame; the first one is decoded already
        return True


def _to_rgb(image: Image.Image, *, container: str | None) -> tuple[Image.Image, str | None]:
    """The image in mode RGB, and a note if the user should know how it got there."""
    if image.mode.startswith("I;16") or (image.mode == "I" and container in ("PNG", "PPM")):
        return _grey(np.asarray(image).astype(np.float64) / 257), None
    if image.mode in ("I", "F"):
        return _from_open_range(np.asarray(image).astype(np.float64))
    if image.has_transparency_data:
        return _on_white(image.convert("RGBA")), None
    return image.convert("RGB"), None


def _on_white(image: Image.Image) -> Image.Image:
    from PIL import Image

    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _from_open_range(values: np.ndarray) -> tuple[Image.Image, str]:
    """Pixel types without an agreed white: [0, 1] by convention, else the image's own range."""
    if not np.isfinite(values).all():
        raise ValueError("pixel values that are not finite")
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        return _grey(values * 255), "values in [0, 1] scaled to 8 bits"
    span = high - low or 1.0
    return _grey((values - low) / span * 255), "own range scaled to 8 bits"


def _grey(values: np.ndarray) -> Image.Image:
    from PIL import Image

    return Image.fromarray(np.rint(values).astype(np.uint8)).convert("RGB")
