"""PNG files whose texts or colour profile are larger than Pillow reads: the pixels are as good.

Pillow refuses such a file as a whole, since texts may inflate to any size. Pixels need none of
them, so they are cut off before it looks.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
METADATA = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})
"""Chunks that no decoded pixel depends on; EXIF is none of them, it turns images."""


def has_oversized_metadata(path: Path) -> bool:
    """Whether Pillow refuses the file because of the size of its texts or of its profile."""
    from PIL import PngImagePlugin

    largest, total = PngImagePlugin.MAX_TEXT_CHUNK, 0
    with path.open("rb") as file:
        for kind, length in _chunks(file):
            if kind not in METADATA:
                continue
            size = _inflated(file.read(length), kind, largest + 1)
            total += 0 if kind == b"iCCP" else size
            if total > PngImagePlugin.MAX_TEXT_MEMORY or (kind != b"tEXt" and size > largest):
                return True
    return False


def without_metadata(path: Path) -> io.BytesIO:
    """The file without its texts and its colour profile."""
    kept = io.BytesIO()
    kept.write(SIGNATURE)
    with path.open("rb") as file:
        for kind, length in _chunks(file):
            if kind not in METADATA:
                kept.write(struct.pack(">I", length) + kind + file.read(length + 4))
    kept.seek(0)
    return kept


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
