"""What a safetensors file says beside its tensors, read without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

PACKED = "bench"
"""The entry of the metadata in which `bench` puts all that it has to say, as JSON."""

MAX_HEADER_BYTES = 1 << 26


def tensor_metadata(path: Path) -> dict[str, str]:
    """The metadata of the file; raises `OSError`, or `ValueError` where it has no such header."""
    if not path.is_file():  # a pipe may never end
        raise FileNotFoundError(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= MAX_HEADER_BYTES:
            raise ValueError("it does not begin as safetensors do")
        text = file.read(length)
    if len(text) < length:
        raise ValueError("it ends before its header does")
    try:
        header = json.loads(text)
        metadata = header.get("__metadata__") or {}
        return unpacked({str(name): str(value) for name, value in metadata.items()})
    except (AttributeError, RecursionError) as error:
        raise ValueError(f"its header holds no mapping ({error})") from None


def unpacked(metadata: Mapping[str, str]) -> dict[str, str]:
    """The entries that `bench` has put into one; raises `ValueError` where that holds none."""
    if PACKED not in metadata:
        return dict(metadata)
    try:
        content = json.loads(metadata[PACKED])
        return {str(name): str(value) for name, value in content.items()}
    except (AttributeError, RecursionError) as error:
        raise ValueError(str(error)) from None
