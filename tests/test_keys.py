"""Digests of files: those of the standard tool, and remembered only while a file stays."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from bench import keys
from bench.keys import file_digest, known_digest


def test_a_digest_is_the_sha_256_of_the_content(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    path = tmp_path / "file"
    path.write_bytes(content)
    assert file_digest(path) == known_digest(path) == hashlib.sha256(content).hexdigest()


def test_a_file_is_read_again_once_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def counting(path: Path) -> str:
        read.append(path)
        return file_digest(path)

    monkeypatch.setattr(keys, "file_digest", counting)
    path = tmp_path / "file"
    path.write_bytes(b"one")
    os.utime(path, ns=(1, 1))
    assert known_digest(path) == known_digest(path) == file_digest(path)
    assert len(read) == 1
    path.write_bytes(b"two")
    os.utime(path, ns=(2, 2))
    assert known_digest(path) == file_digest(path)
    path.write_bytes(b"three")
    os.utime(path, ns=(2, 2))
    assert known_digest(path) == file_digest(path)
    assert len(read) == 3
