"""What a safetensors file of ours must hold, checked without torch: its size and its checksum."""

from __future__ import annotations

import json
import mmap
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench.system.tensor_metadata import unpacked

CHECKSUM = "crc32"
WRONG = "it has changed since it was written: its checksum is wrong"
MAX_HEADER_BYTES = 100_000_000
"""As the format has it."""

_TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
    "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
"""Names of types in the format, and those that torch has for them."""


def tensor_checksum(
    shapes: Sequence[tuple[str, str, Sequence[int]]],
    said: Mapping[str, str],
    values: Iterable[Any],
) -> str:
    """CRC-32 over (name, type, shape) of all tensors, what the file says, and the bytes of each.

    Tensors are in the order of their names.
    """
    others = sorted((key, value) for key, value in said.items() if key != CHECKSUM)
    sum_ = zlib.crc32(json.dumps([shapes, others]).encode())
    for value in values:
        sum_ = zlib.crc32(value, sum_)
    return f"{sum_:08x}"


def tensor_file_problem(path: Path, *, content: bool = True) -> str | None:
    """What is wrong with the file, if anything is; not `content`: at a look at its size alone.

    A file without a checksum may hold anything.
    """
    try:
        status = path.stat()
        return _problem(path, content, status.st_ino, status.st_mtime_ns, status.st_size)
    except OSError as error:
        return error.strerror or str(error)


@lru_cache(maxsize=4096)
def _problem(path: Path, content: bool, _file: int, _modified: int, size: int) -> str | None:
    if path.is_dir():
        return "it is a folder"
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= min(MAX_HEADER_BYTES, size):
                return "it is cut short, or not a file of tensors"
            header = json.loads(file.read(length))
            tensors = {name: each for name, each in header.items() if name != "__metadata__"}
            end = 0
            for low, high in sorted(each["data_offsets"] for each in tensors.values()):
                if not low == end <= high:
                    return "its tensors do not follow upon each other"
                end = high
            if size != 8 + length + end:
                return "it is cut short, or longer than it was"
            said = unpacked(header.get("__metadata__") or {})
            if not content or CHECKSUM not in said:
                return None
            found = _checksum(file.fileno(), 8 + length, tensors, said)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        return f"it is not a file of tensors ({error})"
    return None if found == said[CHECKSUM] else WRONG


def _checksum(
    file: int, start: int, tensors: Mapping[str, Mapping[str, Any]], said: Mapping[str, str]
) -> str:
    named = sorted(tensors.items())
    shapes = [(name, f"torch.{_TYPES[each['dtype']]}", each["shape"]) for name, each in named]
    places = [tuple(start + offset for offset in each["data_offsets"]) for _, each in named]
    with mmap.mmap(file, 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
        return tensor_checksum(shapes, said, (view[low:high] for low, high in places))
