"""What is said of a file that cannot be classified."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

from PIL import Image

from bench.data.dataset import RGB, DecodeFailure
from bench.prediction.samples import SMALLER, samples_at


def test_too_many_pixels_are_told_with_what_helps_without_a_suite(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("1", (14_000, 14_000)).save(path)
    with ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.write(path, path.name)
    for place in (path, tmp_path / "images.zip"):
        (sample,) = samples_at(str(place))
        found = sample.read(RGB)
        assert isinstance(found, DecodeFailure)
        assert found.reason == f"more than 178,956,970 pixels; {SMALLER}"
