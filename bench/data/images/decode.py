"""From an image file of any common kind to RGB pixels.

Transparency is laid on white, EXIF orientation applied, 16-bit values scaled to 8 bits, of an
animation the first frame taken. Colour profiles are ignored: pixel values count as sRGB.
"""

from __future__ import annotations

import io
import stat
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from bench.data.archives import Member, StoredFile
from bench.data.dataset import Converted, Decoded, DecodeFailure, Pixels
from bench.data.images.png_metadata import has_oversized_metadata, without_metadata

if TYPE_CHECKING:
    from PIL import Image

T = TypeVar("T")

HEIF_SUFFIXES = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})
IMAGE_SUFFIXES = HEIF_SUFFIXES | frozenset({
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg",
    ".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".sgi",
    ".tga", ".tif", ".tiff", ".webp",
})  # fmt: skip
FORMATS = (
    "JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "JPEG2000", "MPO", "ICO", "AVIF",
    "HEIF", "QOI", "PCX", "SGI", "TGA",
)  # fmt: skip
"""Raster formats only: Pillow would start other programs for some of the rest (EPS)."""
MARKED_FORMATS = frozenset({
    "JPEG", "PNG", "GIF", "WEBP", "TIFF", "JPEG2000", "MPO", "AVIF", "HEIF", "QOI",
})  # fmt: skip
"""Those whose first bytes no other file has: they are known without a suffix."""

READERS = (
    (HEIF_SUFFIXES, "HEIF", 'they need: pip install "bench[heif]"'),
    (frozenset({".avif"}), "AVIF", "they need a Pillow with AVIF: pip install -U pillow"),
)
"""Formats that an installation may lack: suffixes, what Pillow calls them, the mend."""

MAX_PIXELS = 178_956_970
"""Of one image, where a suite does not say otherwise: as many as Pillow itself decodes."""
IN_SUITE = "`limits: {megapixels: …}` in the suite allows more"
"""What lets larger images be read, where a suite says what is read."""
DEEP = 16
"""Bits of the values of a 16-bit file."""

LOW_BYTES = {
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
    "RGBA;16B": "RGBA;16L",
    "RGBA;16L": "RGBA;16B",
    "RGB;16N": "RGB;16B" if sys.byteorder == "little" else "RGB;16L",
}
"""Pillow takes the high byte of each value of 16-bit colour; read in the other byte order, the low
one."""

_large_images = Lock()
"""Held while Pillow's own limit, which is one for the process, is another; and so images that may
take gigabytes are decoded one at a time."""


class TooManyPixelsError(Exception):
    """An image has more pixels than are allowed: `most`."""

    def __init__(self, most: int) -> None:
        super().__init__(f"more than {most:,} pixels")


def decode_file(
    path: StoredFile, *, bits: int = DEEP, max_pixels: int = MAX_PIXELS, mend: str = IN_SUITE
) -> Decoded:
    """Decode one image file to uint8 [height, width, 3]; never raises on a bad file.

    So many `bits` of 16-bit values are used: 2^bits − 1 is white, and what lies above it too.
    `mend` says what to do with an image of more than `max_pixels`.
    """
    try:
        if isinstance(path, Member):
            return decode_bytes(
                path.content(), path.name, bits=bits, max_pixels=max_pixels, mend=mend
            )
        status = path.stat()
    except OSError as error:
        return DecodeFailure(error.strerror or str(error))
    if not stat.S_ISREG(status.st_mode):
        return DecodeFailure("not a file")
    if status.st_size == 0:
        return DecodeFailure("empty file")
    return _decode(path, path.name, bits=bits, max_pixels=max_pixels, mend=mend)


def decode_bytes(
    content: bytes,
    name: str = "",
    *,
    bits: int = DEEP,
    max_pixels: int = MAX_PIXELS,
    mend: str = IN_SUITE,
) -> Decoded:
    """Decode the content of an image file of that name, as `decode_file` does."""
    if not content:
        return DecodeFailure("empty file")
    return _decode(io.BytesIO(content), name, bits=bits, max_pixels=max_pixels, mend=mend)


def _decode(
    source: Path | io.BytesIO, name: str, *, bits: int, max_pixels: int, mend: str
) -> Decoded:
    from PIL import UnidentifiedImageError

    def decoded(source: Path | io.BytesIO) -> Decoded:
        def pixels(image: Image.Image) -> Pixels | Converted:
            if bits == DEEP or not is_deep_colour(image) or image.has_transparency_data:
                return decode_image(image, bits=bits)
            high = _loaded(image)
            return _deep_colour(high, with_image(source, low_bytes, max_pixels=max_pixels), bits)

        return with_image(source, pixels, max_pixels=max_pixels)

    try:
        try:
            return decoded(source)
        except ValueError:
            if not has_oversized_metadata(source):
                raise
            return decoded(without_metadata(source))
    except MemoryError:
        raise
    except TooManyPixelsError as error:
        return DecodeFailure(f"{error}; {mend}")
    except UnidentifiedImageError:
        return DecodeFailure(_why_unknown(Path(name)))
    except OSError as error:
        return DecodeFailure(error.strerror or str(error) or type(error).__name__)
    except Exception as error:  # Pillow's plugins raise almost anything on damaged files
        return DecodeFailure(str(error) or type(error).__name__)


def with_image(
    source: Path | io.BytesIO, use: Callable[[Image.Image], T], *, max_pixels: int = MAX_PIXELS
) -> T:
    """What `use` makes of the image that Pillow opens; raises what Pillow raises on a bad file.

    The limit is ours: Pillow's own, a global variable, is lifted where it is lower.
    """
    from PIL import Image

    def used() -> T:
        if isinstance(source, io.BytesIO):
            source.seek(0)
        with Image.open(source, formats=available_formats()) as image:
            if image.width * image.height > max_pixels:
                raise TooManyPixelsError(max_pixels)
            return use(image)

    try:
        return used()
    except Image.DecompressionBombError:
        try:
            with _large_images, _pillow_allows(max_pixels):
                return used()
        except Image.DecompressionBombError:
            raise TooManyPixelsError(max_pixels) from None


@contextmanager
def _pillow_allows(pixels: int) -> Iterator[None]:
    from PIL import Image

    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = pixels // 2 + 1  # it warns above, and refuses above twice as many
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def decode_image(image: Image.Image, *, bits: int = DEEP) -> Pixels | Converted:
    """The pixels of an image that Pillow has opened; raises what Pillow raises on damaged data."""
    scaled = bits if is_deep(image) else DEEP
    image.load()
    turned = upright(image)
    rgb, note = _to_rgb(turned, container=image.format, bits=scaled)
    pixels = np.asarray(rgb)
    if image.format != "MPO" and _is_animated(image):
        note = "first frame of an animation or stack"
    return pixels if note is None else Converted(pixels, note)


def is_deep(image: Image.Image) -> bool:
    """Whether it is 16-bit greyscale whose file does not say which value is white.

    PGM says it, and Pillow scales by it unless it is the largest that there is. To be asked before
    the image is loaded.
    """
    if image.format == "PPM":
        tiles = getattr(image, "tile", ())
        return image.mode == "I" and all(tile[0] == "raw" for tile in tiles)
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")


def is_deep_colour(image: Image.Image) -> bool:
    """Whether it is 16-bit colour; to be asked before the image is loaded."""
    tiles = getattr(image, "tile", ())
    return image.mode == "RGB" and bool(tiles) and all(raw_mode(t) in LOW_BYTES for t in tiles)


def raw_mode(tile: Any) -> str:
    """How the decoder of a part of an image is told to read values."""
    return str(tile.args if isinstance(tile.args, str) else (tile.args or ("",))[0])


def _loaded(image: Image.Image) -> Pixels:
    image.load()
    return np.asarray(upright(image))


def low_bytes(image: Image.Image) -> Pixels:
    """The low bytes of 16-bit colour that has been opened and not loaded."""
    swapped = []
    for tile in image.tile:  # type: ignore[attr-defined]
        mode = LOW_BYTES[raw_mode(tile)]
        args = mode if isinstance(tile.args, str) else (mode, *tile.args[1:])
        swapped.append(tile._replace(args=args))
    image.tile = swapped  # type: ignore[attr-defined]
    return _loaded(image)


def _deep_colour(high: Pixels, low: Pixels, bits: int) -> Pixels:
    """16-bit colour, of which so many bits are used, as 8 bits."""
    white = (1 << bits) - 1
    values = np.minimum(256 * high.astype(np.uint16) + low, white)
    scaled: Pixels = np.rint(values / (white / 255)).astype(np.uint8)
    return scaled


def missing_reader(path: Path) -> str | None:
    """What the reading of a file of this name needs and this installation lacks, if anything."""
    for suffixes, name, mend in READERS:
        if path.suffix.lower() in suffixes and name not in available_formats():
            return mend
    return None


def is_image_by_content(path: Path) -> bool:
    """Whether a regular file begins as an image does; nothing is decoded."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return with_image(path, lambda image: image.format in MARKED_FORMATS)
    except TooManyPixelsError:  # which is told when it is decoded
        return True
    except ValueError:
        return has_oversized_metadata(path)
    except Exception:  # Pillow's plugins raise almost anything on what is no image
        return False


def _why_unknown(path: Path) -> str:
    mend = missing_reader(path)
    if mend is None:
        return "not an image of a known format"
    return f"this installation does not read {path.suffix.lower()} files; {mend}"


@lru_cache(maxsize=1)
def available_formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this installation of Pillow, with its plug-in for HEIF, reads."""
    from PIL import Image

    Image.init()
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        pass
    else:
        register_heif_opener()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF block says that it should be seen."""
    from PIL import ExifTags, ImageOps

    try:
        if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
            return image  # and no copy, which may take a gigabyte
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block says nothing about the pixels
        return image


def _is_animated(image: Image.Image) -> bool:
    """Whether there is a second frame; counting all of them could take hours."""
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a damaged later frame; the first one is decoded already
        return True


def _to_rgb(
    image: Image.Image, *, container: str | None, bits: int
) -> tuple[Image.Image, str | None]:
    """The image in mode RGB, and a note if the user should know how it got there."""
    if image.mode.startswith("I;16") or (image.mode == "I" and container in ("PNG", "PPM")):
        white = (1 << bits) - 1
        return _grey(np.minimum(np.asarray(image).astype(np.float64), white) / (white / 255)), None
    if image.mode in ("I", "F"):
        return _from_open_range(np.asarray(image).astype(np.float64))
    if image.has_transparency_data:
        return on_white(image.convert("RGBA")), None
    return image if image.mode == "RGB" else image.convert("RGB"), None


def on_white(image: Image.Image) -> Image.Image:
    """An image in mode RGBA without transparency, in mode RGB."""
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
