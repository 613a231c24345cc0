"""Images with other channels than red, green and blue, or more than 8 bits, as files have them.

Arrays of NumPy (`.npy`, `.npz`) are [height, width] or [height, width, channels]; of a TIFF the
bands or the pages are channels; everything else is what Pillow makes of it, transparency being a
channel where the number then fits, and laid on white where it does not.
"""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from bench.data.archives import Member, StoredFile, bomb_text, is_bomb
from bench.data.dataset import MAX_CHANNELS, Decoded, DecodeFailure, PixelForm, Pixels
from bench.data.images.decode import (
    IMAGE_SUFFIXES,
    IN_SUITE,
    LOW_BYTES,
    MAX_PIXELS,
    TooManyPixelsError,
    decode_bytes,
    decode_file,
    decode_image,
    low_bytes,
    on_white,
    raw_mode,
    upright,
    with_image,
)
from bench.errors import MissingExtraError, counted

if TYPE_CHECKING:
    from PIL import Image

ARRAY_SUFFIXES = frozenset({".npy", ".npz"})

LARGEST = (1 << 16) - 1
"""Of the values that are kept."""

_ARRAY, _ZIP = b"\x93NUMPY", b"PK\x03\x04"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


ChannelNumber = Annotated[
    Annotated[int, Field(ge=1, le=MAX_CHANNELS)] | None,
    Field(
        description="How many channels the images have, of `.npy` and `.npz` arrays [height, "
        "width, channels], of TIFF bands or pages, or of any other file; 16-bit values stay what "
        "they are. The first layer of networks is adapted, as timm does it. null: all images are "
        "made RGB of 8 bits.",
        examples=[4],
    ),
]
"""The option `channels` of data sets of image files."""


def suffixes_of(channels: int | None) -> frozenset[str]:
    """The suffixes of image files where a data set has so many channels, or does not say."""
    return IMAGE_SUFFIXES if channels is None else IMAGE_SUFFIXES | ARRAY_SUFFIXES


# Decoding -------------------------------------------------------------------------------------


def read_as(
    files: Sequence[StoredFile],
    indices: Sequence[int],
    *,
    form: PixelForm,
    max_pixels: int = MAX_PIXELS,
) -> list[Decoded]:
    """Decode `files[i]` for each i of `indices`: an `ImageDataset.read` once the rest is bound."""
    return [decode_file_as(files[index], form, max_pixels=max_pixels) for index in indices]


def decode_file_as(
    file: StoredFile, form: PixelForm, *, max_pixels: int = MAX_PIXELS, mend: str = IN_SUITE
) -> Decoded:
    """Decode one image file to pixels of that form; never raises on a bad file.

    `mend` says what to do with an image of more than `max_pixels`.
    """
    if form.channels is None:
        return decode_file(file, bits=form.bits, max_pixels=max_pixels, mend=mend)
    return _told(lambda: _as_form(_source(file), form, max_pixels), mend)


def decode_bytes_as(
    content: bytes,
    name: str,
    form: PixelForm,
    *,
    max_pixels: int = MAX_PIXELS,
    mend: str = IN_SUITE,
) -> Decoded:
    """Decode the content of an image file of that name, as `decode_file_as` does."""
    if form.channels is None:
        return decode_bytes(content, name, bits=form.bits, max_pixels=max_pixels, mend=mend)
    if not content:
        return DecodeFailure("empty file")
    return _told(lambda: _as_form(io.BytesIO(content), form, max_pixels), mend)


def decode_image_as(image: Image.Image, form: PixelForm) -> Decoded:
    """The pixels of an image that Pillow has opened, as `decode_file_as` gives them."""
    if form.channels is None:
        return decode_image(image, bits=form.bits)
    channels = form.channels

    def decode() -> Pixels:
        image.load()
        return in_form(_bands(upright(image), channels), form)

    return _told(decode)


def in_form(values: Pixels, form: PixelForm) -> Pixels:
    """Values of files (uint8, or uint16 of which so many bits are used) as they are kept."""
    if form.deep:
        if values.dtype == np.uint8:
            scaled: Pixels = np.rint(values * (form.white / 255)).astype(np.uint16)
            return scaled
        return np.minimum(values, np.uint16(form.white))
    if values.dtype == np.uint8:
        return values
    white = (1 << form.bits) - 1
    return np.rint(np.minimum(values, white) / (white / 255)).astype(np.uint8)


def as_bytes(pixels: Pixels, form: PixelForm) -> npt.NDArray[np.uint8]:
    """Pixels of the form in 8 bits, with all of their channels."""
    plain = PixelForm(channels=form.channels, bits=form.bits)
    return in_form(pixels, plain).astype(np.uint8, copy=False)


def shown(pixels: Pixels, form: PixelForm) -> npt.NDArray[np.uint8]:
    """What of pixels [..., channels] is shown in RGB: the first three channels, or the first."""
    few = pixels[..., :3] if form.depth >= 3 else pixels[..., :1].repeat(3, axis=-1)
    return as_bytes(few, form)


def compared(pixels: Pixels, form: PixelForm) -> npt.NDArray[np.uint8]:
    """What of pixels is compared by eye, as RGB: colours, or else the mean of all channels."""
    if form.depth == 3:
        return as_bytes(pixels, form)
    mean = as_bytes(pixels, form).mean(axis=-1, keepdims=True)
    grey: npt.NDArray[np.uint8] = np.rint(mean).astype(np.uint8)
    return grey.repeat(3, axis=-1)


def _told(decode: Callable[[], Pixels], mend: str = IN_SUITE) -> Decoded:
    try:
        return decode()
    except MemoryError:
        raise
    except TooManyPixelsError as error:
        return DecodeFailure(f"{error}; {mend}")
    except OSError as error:
        return DecodeFailure(error.strerror or str(error) or type(error).__name__)
    except Exception as error:  # Pillow, tifffile and NumPy raise almost anything on damaged files
        return DecodeFailure(str(error).partition("\n")[0] or type(error).__name__)


def _source(file: StoredFile) -> Path | io.BytesIO:
    if isinstance(file, Member):
        return io.BytesIO(file.content())
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, "not a file")
    if status.st_size == 0:
        raise OSError(0, "empty file")
    return file


def _as_form(source: Path | io.BytesIO, form: PixelForm, max_pixels: int) -> Pixels:
    assert form.channels is not None
    with _stored(source, form.channels, max_pixels) as stored:
        return in_form(stored.read(), form)


# Files ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """What a file says of itself: its size, whether it has more than 8 bits, and its values.

    `read` gives uint8 or uint16 [height, width, channels], with as many channels as asked for, or
    raises `ValueError`.
    """

    width: int
    height: int
    deep: bool
    read: Callable[[], Pixels]


def size_as(file: StoredFile, channels: int) -> tuple[int, int] | None:
    """Width and height in pixels, by what the file says of itself; None where it says nothing."""
    with suppress(Exception), _stored(_source(file), channels, 1 << 40) as stored:
        return stored.width, stored.height
    return None


def look_as(file: StoredFile, channels: int) -> tuple[int, int]:
    """How many pixels a file has, and its largest value if it has more than 8 bits (else 0).

    Both 0 where it is no image.
    """
    try:
        with _stored(_source(file), channels, 1 << 40) as stored:
            pixels = stored.width * stored.height
            if not stored.deep:
                return pixels, 0
            if pixels > MAX_PIXELS:  # what claims to be so large is not decoded for a look
                return pixels, LARGEST
            return pixels, max(1, int(stored.read().max()))
    except (MemoryError, MissingExtraError):
        raise
    except Exception:  # decoding tells of it
        return 0, 0


@contextmanager
def _stored(source: Path | io.BytesIO, channels: int, max_pixels: int) -> Iterator[_Stored]:
    """The content of a file, closed at the end of the block; raises almost anything."""
    with source.open("rb") if isinstance(source, Path) else _rewound(source) as file:
        start = file.read(8)
        file.seek(0)
        if start.startswith(_ARRAY):
            yield _array(file, channels, max_pixels)
        elif start.startswith(_ZIP):
            yield _array(io.BytesIO(_only_member(file)), channels, max_pixels)
        elif start.startswith(_TIFF):
            with _tiff(file) as series:
                yield _pages(series, channels, max_pixels)
        else:
            yield _pillow(source, channels, max_pixels)


@contextmanager
def _rewound(source: io.BytesIO) -> Iterator[IO[bytes]]:
    source.seek(0)
    yield source


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if not (width and height):
        raise ValueError("has no pixels")
    if width * height > max_pixels:
        raise TooManyPixelsError(max_pixels)


def check_channels(count: int, channels: int) -> None:
    """Raise `ValueError` where a file has another number of channels than the data set."""
    if count != channels:
        raise ValueError(f"it has {counted(count, 'channel')}, {channels} are expected")


def _check_kind(dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "iu":
        raise ValueError(
            f"values must be whole numbers from 0 to {LARGEST:,} (uint8 or uint16), got {dtype}"
        )


def _whole(values: npt.NDArray[Any]) -> Pixels:
    """Values as they are kept; raises `ValueError` for what these cannot hold."""
    _check_kind(values.dtype)
    if values.dtype == np.uint8:
        return values
    if values.size and (values.min() < 0 or values.max() > LARGEST):
        raise ValueError(
            f"values must be whole numbers from 0 to {LARGEST:,}, got {values.min():,} to "
            f"{values.max():,}"
        )
    return values.astype(np.uint16)


# Arrays ---------------------------------------------------------------------------------------


def _array(file: IO[bytes], channels: int, max_pixels: int) -> _Stored:
    """An array of NumPy; nothing is read that its file does not hold, and no code runs."""
    version = np.lib.format.read_magic(file)
    header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if header is None:
        raise ValueError(f"the format of the array ({version[0]}.{version[1]}) is not known")
    shape, _, dtype = header(file)
    begin, end = file.tell(), file.seek(0, io.SEEK_END)
    if len(shape) not in (2, 3):
        raise ValueError(f"an array must be [height, width, channels], got {list(shape)}")
    height, width, count = (*shape, 1)[:3]
    _check_size(width, height, max_pixels)
    if count != channels and channels == height:
        raise ValueError(f"an array must be [height, width, channels], got {list(shape)}")
    check_channels(count, channels)
    _check_kind(dtype)
    if end - begin < height * width * count * dtype.itemsize:
        raise ValueError("the file ends too early")

    def read() -> Pixels:
        file.seek(0)
        values = np.lib.format.read_array(file, allow_pickle=False)
        return _whole(values).reshape(height, width, count)

    return _Stored(width=width, height=height, deep=dtype != np.uint8, read=read)


def _only_member(file: IO[bytes]) -> bytes:
    """The content of the only array in an `.npz`."""
    with zipfile.ZipFile(file) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        if len(members) != 1:
            raise ValueError(f"a file must hold one array, this one holds {len(members)}")
        if is_bomb(members[0].file_size, members[0].compress_size):
            raise ValueError(bomb_text(members[0].file_size, members[0].compress_size))
        return archive.read(members[0])


# TIFF -----------------------------------------------------------------------------------------


@contextmanager
def _tiff(file: IO[bytes]) -> Iterator[Any]:
    """What the first pages of a TIFF make together, as tifffile sees it."""
    try:
        import tifffile
    except ImportError:
        raise _missing("tifffile") from None
    with tifffile.TiffFile(file) as tiff:
        yield tiff.series[0]


def _missing(package: str) -> MissingExtraError:
    return MissingExtraError(needed_for="channels of TIFF files", package=package, extra="tiff")


def _pages(series: Any, channels: int, max_pixels: int) -> _Stored:
    """Pages or bands as channels: the only axis beside height and width."""
    axes, shape = series.axes, series.shape
    height, width = shape[axes.index("Y")], shape[axes.index("X")]
    others = [at for at, name in enumerate(axes) if name not in "YX" and shape[at] > 1]
    if len(others) > 1:
        raise ValueError(f"pages of bands are no channels, got the shape {list(shape)} ({axes})")
    _check_size(width, height, max_pixels)
    check_channels(shape[others[0]] if others else 1, channels)

    def read() -> Pixels:
        try:
            values = series.asarray()
        except ValueError as error:
            if "imagecodecs" in str(error):
                raise _missing("imagecodecs") from error
            raise
        last = [*others, axes.index("Y"), axes.index("X")]
        flat = values.transpose([*(at for at in range(values.ndim) if at not in last), *last])
        stacked = flat.reshape(channels, height, width)
        return _whole(np.ascontiguousarray(np.moveaxis(stacked, 0, 2)))

    return _Stored(width=width, height=height, deep=series.dtype != np.uint8, read=read)


# Everything else ------------------------------------------------------------------------------


def _pillow(source: Path | io.BytesIO, channels: int, max_pixels: int) -> _Stored:
    from PIL import UnidentifiedImageError

    def facts(image: Image.Image) -> tuple[int, int, bool]:
        deep = image.mode.startswith("I") or any(";16" in mode for mode in _raw_modes(image))
        return image.width, image.height, deep

    def values(image: Image.Image) -> Pixels:
        modes = _raw_modes(image)
        in_halves = bool(modes) and modes <= LOW_BYTES.keys()
        image.load()
        high = _bands(upright(image), channels)
        if not in_halves:
            if any(mode.startswith("LA;16") for mode in modes):
                raise ValueError("16-bit grey with transparency is not read; save it as .npy")
            return high
        check_channels(len(image.getbands()), channels)
        if "transparency" in image.info:
            raise ValueError("16-bit colour with a transparent value is not read; save it without")
        low = with_image(source, low_bytes, max_pixels=max_pixels)
        return np.asarray(256 * high.astype(np.uint16) + low, np.uint16)

    try:
        width, height, deep = with_image(source, facts, max_pixels=max_pixels)
    except UnidentifiedImageError:
        raise ValueError("not an image of a known format") from None
    return _Stored(
        width=width,
        height=height,
        deep=deep,
        read=lambda: with_image(source, values, max_pixels=max_pixels),
    )


def _raw_modes(image: Image.Image) -> set[str]:
    return {raw_mode(tile) for tile in getattr(image, "tile", ())}


def _bands(image: Image.Image, channels: int) -> Pixels:
    """What has been loaded, [height, width, channels]; raises `ValueError` for another number."""
    if image.mode == "F" or image.mode.startswith("I"):
        values = _whole(np.asarray(image))[:, :, None]
    elif image.has_transparency_data and (image.mode, channels) != ("LA", 2):
        coloured = image.convert("RGBA")
        values = np.asarray(coloured if channels == 4 else on_white(coloured))
    elif image.mode == "1":
        values = np.asarray(image.convert("L"))[:, :, None]
    else:
        plain = image.mode in ("L", "LA", "RGB", "CMYK")
        found = np.asarray(image if plain else image.convert("RGB"))
        values = found[:, :, None] if found.ndim == 2 else found
    if channels == 1 and values.shape[2] == 3 and (values == values[:, :, :1]).all():
        values = values[:, :, :1]  # grey that is written as colour
    check_channels(values.shape[2], channels)
    return values
