"""What is read without torch agrees with what torch reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.models.tensor_files import is_whole, write_tensor_file
from bench.system.tensor_checksum import tensor_file_problem
from tests.damage import LOSSES, flip, lose


@pytest.fixture
def file(tmp_path: Path) -> Path:
    tensors = {
        "b.weight": torch.arange(12, dtype=torch.float32).reshape(3, 4),
        "a.count": torch.tensor(7),
        "c.half": torch.ones(2, 0, 3, dtype=torch.bfloat16),
        "d.mask": torch.tensor([True, False]),
    }
    path = tmp_path / "x.safetensors"
    write_tensor_file(tensors, path, {"made": "by hand"})
    return path


def test_a_whole_file_has_no_problem(file: Path) -> None:
    assert tensor_file_problem(file) is None


@pytest.mark.parametrize("how", LOSSES)
def test_every_damage_is_found(file: Path, how: str) -> None:
    lose(file, how)
    assert tensor_file_problem(file) is not None
    assert not is_whole(file)


def test_every_flipped_byte_is_found_where_torch_finds_it(file: Path) -> None:
    content = file.read_bytes()
    missed = []
    for at in range(len(content)):
        flip(file, at)
        if tensor_file_problem(file) is None and not is_whole(file):
            missed.append((at, content[max(0, at - 10) : at + 10]))
        file.write_bytes(content)
    assert missed == []


def test_a_look_at_the_size_alone(file: Path) -> None:
    flip(file, -1)
    assert tensor_file_problem(file, content=False) is None
    file.write_bytes(file.read_bytes()[:-1])
    assert tensor_file_problem(file, content=False) == "it is cut short, or longer than it was"
