"""Sizes of images from the headers of their files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from bench.data.images.sizes import TOO_LARGE, image_size, square_sides


def written(path: Path, width: int, height: int) -> Path:
    Image.new("L", (width, height)).save(path)
    return path


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "tif", "webp"])
def test_sizes_are_read(suffix: str, tmp_path: Path) -> None:
    assert image_size(written(tmp_path / f"a.{suffix}", 31, 17)) == (31, 17)


def test_what_nobody_can_read_has_no_size(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("text")
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("text.png", "empty.png", "pipe.png", "missing.png"):
        assert image_size(tmp_path / name) is None


def test_squares(tmp_path: Path) -> None:
    small = written(tmp_path / "small.png", 8, 8)
    large = written(tmp_path / "large.png", 9, 9)
    wide = written(tmp_path / "wide.png", 9, 8)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"x")
    assert square_sides([small, broken, small], image_size) == {8}
    assert square_sides([small, large], image_size) == {8, 9}
    assert square_sides([small, wide, large], image_size) == frozenset()
    assert square_sides([broken], image_size) == frozenset()


def test_an_image_that_is_too_large_to_be_opened_is_no_square(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is known of it, and limits may let it in later."""
    path = written(tmp_path / "a.png", 8, 8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert image_size(path) == TOO_LARGE
    assert square_sides([path], image_size) == frozenset()
