"""Metadata of safetensors files, read without torch."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bench.models.tensor_files import write_tensor_file
from bench.system.tensor_metadata import tensor_metadata


def test_metadata_are_those_that_were_written(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_tensor_file({"w": torch.ones(3)}, path, {"preprocessing": '{"size": 8}'})
    assert json.loads(tensor_metadata(path)["preprocessing"]) == {"size": 8}
    save_file({"w": torch.ones(3)}, path, {"format": "pt"})
    assert tensor_metadata(path) == {"format": "pt"}
    save_file({"w": torch.ones(3)}, path)
    assert tensor_metadata(path) == {}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04" + b"\0" * 99,
        (4).to_bytes(8, "little") + b"[[]]",
        (99).to_bytes(8, "little") + b"{}",
        (10**6).to_bytes(8, "little") + b"[" * 10**6,
        (30).to_bytes(8, "little") + b'{"__metadata__": {"bench": 3}}',
        (32).to_bytes(8, "little") + b'{"__metadata__": {"bench": "[]"}}'[:32],
    ],
)
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011  (json's own, or ours)
        tensor_metadata(path)


def test_nobody_waits_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="pipe"):
        tensor_metadata(tmp_path / "pipe")
