"""Sealed files: whatever a disk changes is found, and every reader of safetensors opens them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.models.tensor_files import (
    DamagedFileError,
    read_if_whole,
    read_tensor_file,
    write_tensor_file,
)
from tests.damage import flip


def _tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "weight": torch.randn(2, 3, 2, 2, generator=generator).to(
            memory_format=torch.channels_last
        ),
        "half": torch.randn(5, generator=generator).bfloat16(),
        "steps": torch.tensor(7),
        "nothing": torch.zeros(0, 4),
        "mask": torch.tensor([True, False]),
    }


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    write_tensor_file(_tensors(), path, {"records": "[0.5]"})
    tensors, metadata = read_tensor_file(path)
    assert metadata["records"] == "[0.5]"
    for found in (tensors, read_if_whole(path), load_file(path)):
        assert found.keys() == _tensors().keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in _tensors().items())


def test_any_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    write_tensor_file(_tensors(), path, {"records": "[0.5]"})
    content = path.read_bytes()
    for at in range(len(content)):
        flip(path, at)
        with pytest.raises(DamagedFileError):
            read_tensor_file(path)
        path.write_bytes(content)
    read_tensor_file(path)


def test_a_changed_value_is_found_in_files_of_unknown_origin_too(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    write_tensor_file(_tensors(), path)
    flip(path, -3)
    with pytest.raises(DamagedFileError, match="changed since it was written"):
        read_if_whole(path)
    save_file({"a": torch.ones(2)}, path)
    assert torch.equal(read_if_whole(path)["a"], torch.ones(2))
    with pytest.raises(DamagedFileError, match="no checksum"):
        read_tensor_file(path)


def test_equal_files_have_equal_bytes_whatever_they_say(tmp_path: Path) -> None:
    said = {f"key {number}": str(number) for number in range(20)}
    contents = set()
    for turn in range(5):
        path = tmp_path / f"{turn}.safetensors"
        write_tensor_file({"a": torch.ones(3)}, path, said)
        contents.add(path.read_bytes())
        _, metadata = read_tensor_file(path)
        assert {name: metadata[name] for name in said} == said
    assert len(contents) == 1
