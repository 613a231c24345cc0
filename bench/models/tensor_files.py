"""Safetensors files with a checksum over all that they say: what a disk has changed is found.

The format itself guards its structure only. The checksum stands in the file's metadata, which other
readers of safetensors ignore.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from bench.system.tensor_checksum import CHECKSUM, WRONG, tensor_checksum
from bench.system.tensor_metadata import PACKED, unpacked


class DamagedFileError(ValueError):
    """The content of a file is not what was written, or it has no checksum and should have one."""


def write_tensor_file(
    tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write `tensors` and `metadata`; raises `OSError` where the disk is full or read-only.

    A tensor that several names share is written under each of them, so that any loader finds it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    plain: dict[str, Tensor] = {}
    memory: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()  # safetensors refuses channels_last
        storage = own.untyped_storage().data_ptr()
        # And tensors that share memory.
        plain[name] = own.clone() if storage in memory else own
        memory.add(storage)
    said = dict(metadata or {})
    try:
        save_file(plain, path, metadata=_packed({**said, CHECKSUM: _checksum(plain, said)}))
    except SafetensorError as error:
        raise OSError(str(error)) from error


def read_tensor_file(
    path: Path, *, verify: bool = True
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, mapped from the file, and the metadata.

    Raises `DamagedFileError` unless they are what was written (not `verify`: that is known).
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = _unpacked(dict(file.metadata() or {}))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise DamagedFileError(str(error)) from error
    if verify and metadata.get(CHECKSUM) != _checksum(tensors, metadata):
        raise DamagedFileError(WRONG if CHECKSUM in metadata else "it has no checksum")
    return tensors, metadata


def _packed(metadata: dict[str, str]) -> dict[str, str]:
    """As one entry: safetensors writes several in any order, and equal files have equal bytes."""
    if len(metadata) == 1:
        return metadata
    return {PACKED: json.dumps(metadata, sort_keys=True)}


def _unpacked(metadata: dict[str, str]) -> dict[str, str]:
    try:
        return unpacked(metadata)
    except ValueError as error:
        raise DamagedFileError(f"its metadata cannot be read ({error})") from error


def read_if_whole(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that may have been written by anybody: without a checksum, as they are.

    Raises `DamagedFileError`.
    """
    tensors, metadata = read_tensor_file(path, verify=False)
    checksum = metadata.get(CHECKSUM)
    if checksum is not None and checksum != _checksum(tensors, metadata):
        raise DamagedFileError(WRONG)
    return tensors


def is_whole(path: Path) -> bool:
    """Whether there is a file that `read_if_whole` would read."""
    try:
        status = path.stat()
        return _is_whole(path, status.st_ino, status.st_mtime_ns)
    except OSError:
        return False


@lru_cache(maxsize=64)
def _is_whole(path: Path, _file: int, _modified: int) -> bool:
    try:
        read_if_whole(path)
    except DamagedFileError:
        return False
    return True


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    named = sorted(tensors.items())
    return tensor_checksum(
        [(name, str(tensor.dtype), list(tensor.shape)) for name, tensor in named],
        metadata,
        (tensor.reshape(-1).view(torch.uint8).numpy().data for _, tensor in named),
    )
