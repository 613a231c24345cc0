"""PNG files whose texts or colour profile are larger than Pillow reads: the pixels are as good.

Pillow refuses such a file as a whole, since texts may inflate to any size. Pixels need none of
them, so they are cut off before it looks.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
METADATA = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})
"""Chunks that pixels do not depend on; but a text of usual size may say how an image is turned."""


def has_oversized_metadata(source: Path | io.BytesIO) -> bool:
    """Whether Pillow refuses the file because of the size of its texts or of its profile."""
    with _opened(source) as file:
        return any(not fits for _, fits in _sized_chunks(file))


def without_metadata(source: Path | io.BytesIO) -> io.BytesIO:
    """The file without the texts and the profile that Pillow finds too large."""
    kept = io.BytesIO()
    kept.write(SIGNATURE)
    with _opened(source) as file:
        for length, fits in _sized_chunks(file):
            if fits:
                file.seek(-8, io.SEEK_CUR)
                kept.write(file.read(8 + length + 4))
    kept.seek(0)
    return kept


@contextmanager
def _opened(source: Path | io.BytesIO) -> Iterator[BinaryIO]:
    if isinstance(source, io.BytesIO):
        source.seek(0)
        yield source
    else:
        with source.open("rb") as file:
            yield file


def _sized_chunks(file: BinaryIO) -> Iterator[tuple[int, bool]]:
    """The length of each chunk and whether Pillow takes it; the file is at the chunk's data."""
    from PIL import PngImagePlugin

    largest, memory = PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
    total = inflated = 0
    for kind, length in _chunks(file):
        fits = True
        if kind in METADATA:
            start = file.tell()
            fits = inflated <= 2 * memory  # of a file with millions of texts the rest is dropped
            size = _inflated(file.read(length), kind, largest + 1) if fits else 0
            inflated += size
            text = 0 if kind == b"iCCP" else size
            fits = fits and (kind == b"tEXt" or size <= largest) and total + text <= memory
            total += text if fits else 0
            file.seek(start)
        yield length, fits


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Kind and length of each chunk, with the file at its data; none if this is no PNG."""
    if file.read(len(SIGNATURE)) != SIGNATURE:
        return
    while len(header := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        start = file.tell()
        yield kind, length
        if kind == b"IEND":
            return
        file.seek(start + length + 4)


def _inflated(data: bytes, kind: bytes, at_most: int) -> int:
    """How many bytes a text or profile has, inflated no further than `at_most`."""
    packed = data
    if kind in (b"zTXt", b"iCCP"):
        packed = data[data.find(b"\0") + 2 :]
    elif kind == b"iTXt":
        flags = data.find(b"\0") + 1
        if data[flags : flags + 1] != b"\1":
            return len(data)
        packed = data[flags + 2 :].split(b"\0", 2)[-1]
    else:
        return len(data)
    try:
        return len(zlib.decompressobj().decompress(packed, at_most))
    except zlib.error:
        return 0
