"""What is noticed of decoded pixels, and what is not."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data import ImageData, open_dataset, prepare_images
from bench.data.images.noticed import look_at, noticed
from tests.data.pictures import photograph, write_folder

FLAT = {"ants": 3, "bees": 2}


def picture(seed: int = 1) -> np.ndarray:
    return np.asarray(photograph(seed)).copy()


def told(images: list[np.ndarray], labels: list[int] | None = None) -> dict[str, str]:
    names = [f"{index}.png" for index in range(len(images))]
    issues = noticed(
        [look_at(image) for image in images],
        names,
        np.array(labels or [0] * len(images), np.int64),
        ("ants", "bees"),
    )
    return {issue.kind: issue.message for issue in issues}


def test_of_photographs_nothing_is_noticed() -> None:
    assert told([picture(seed) for seed in range(5)]) == {}


@pytest.mark.parametrize("level", [0, 128, 255])
def test_images_of_one_colour(level: int) -> None:
    still = np.full((30, 40, 3), level, np.uint8)
    still[::7, ::5] ^= 1  # a scanner's noise
    message = "1 image is nearly of one colour, with values that hardly vary: 1.png."
    assert told([picture(), still]) == {"uniform": message}


def test_a_sheet_with_a_few_strokes_is_no_blank_one() -> None:
    sheet = np.full((300, 400, 3), 255, np.uint8)
    sheet[100:110, 50:350] = (20, 30, 200)
    assert told([sheet]) == {}


def test_12_bit_values_scaled_by_16_bits_are_dull() -> None:
    dark = (picture().astype(int) * 15 // 255).astype(np.uint8)
    dark[0, 0] = 255  # a hot pixel among 1,200 is no outlier yet
    assert "narrow-range" not in told([dark])
    large = np.asarray(Image.fromarray(picture() // 17).resize((400, 300))).copy()
    large[0, 0] = 255
    assert told([large])["narrow-range"].endswith("0.png (0 to 15).")


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_channel_that_is_lost(channel: int) -> None:
    image = picture()
    image[:, :, channel] = 7
    name = ("red", "green", "blue")[channel]
    assert told([image]) == {
        "dead-channel": f"1 image is without a {name} channel: its values are nearly constant: "
        "0.png."
    }


def lossy(image: np.ndarray) -> np.ndarray:
    written = io.BytesIO()
    Image.fromarray(image).save(written, "JPEG", quality=60)
    with Image.open(written) as opened:
        return np.asarray(opened)


def test_lossy_files_leave_something_of_a_lost_channel() -> None:
    grain = np.random.default_rng(0).integers(0, 40, (150, 200, 3), dtype=np.uint8)
    image = np.asarray(photograph(1, width=200, height=150)) // 2 + grain
    image[:, :, 2] = 0
    faint = lossy(image)
    assert 2 < faint[:, :, 2].std() < 5
    assert "dead-channel" not in told([faint, picture(1), picture(2)])
    assert told([faint, faint, picture(2)])["dead-channel"].startswith(
        "2 images are without a blue"
    )


def test_grey_stays_grey_in_a_lossy_file() -> None:
    assert "grey" in told([picture(), lossy(np.asarray(photograph(2).convert("L").convert("RGB")))])


def test_grey_images_among_coloured_ones_and_what_they_give_away() -> None:
    grey = [np.asarray(photograph(seed).convert("L").convert("RGB")) for seed in range(3)]
    coloured = [picture(seed) for seed in range(3, 6)]
    assert told(grey) == {"grey": "All 3 images are grey: their three channels are equal."}
    mixed = told([*grey, *coloured], [0, 0, 0, 0, 1, 1])["grey"]
    assert mixed == "3 images are grey, the other 3 in colour: 0.png, 1.png, 2.png."
    parted = told([*grey, *coloured], [0, 0, 0, 1, 1, 1])["grey"]
    assert parted.endswith(
        "They are 3 of 3 images of ants and 0 of 3 images of bees: a network can tell these "
        "classes by that alone."
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (2000, 2000)])
def test_images_of_any_shape(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    look = look_at(rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
    assert look.uniform == (shape == (1, 1))
    assert (look.lowest <= 5 and look.highest >= 250) or shape == (1, 1)


# In prepared images -----------------------------------------------------------------------------


def prepared(root: Path) -> Path:
    return prepare_images(
        open_dataset("folder", {"path": str(root)}), image_size=14, resize="squash"
    )


def test_what_is_noticed_is_kept_with_the_images(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects", FLAT)
    Image.new("RGB", (40, 30), "black").save(root / "ants" / "black.png")
    (root / "ants" / "broken.png").write_bytes(b"x")
    folder = prepared(root)
    for _ in range(2):
        issues = {issue.kind: issue for issue in ImageData.open(folder).issues}
        assert issues.keys() == {"unreadable", "uniform"}
        assert issues["uniform"].samples == ("ants/black.png",)
        assert prepared(root) == folder


def test_images_that_nobody_looked_at_are_prepared_again(tmp_path: Path) -> None:
    """As an earlier version left them: the same pixels, and nothing said of them."""
    root = write_folder(tmp_path / "insects", FLAT)
    Image.new("RGB", (40, 30), "black").save(root / "ants" / "black.png")
    folder = prepared(root)
    pixels = (folder / "images.npy").read_bytes()
    metadata = json.loads((folder / "metadata.json").read_text())
    del metadata["looked"]
    metadata["decode_issues"] = []
    (folder / "metadata.json").write_text(json.dumps(metadata))
    (folder / "checksums.json").unlink()
    assert ImageData.open(folder).issues == ()
    assert prepared(root) == folder
    assert [issue.kind for issue in ImageData.open(folder).issues] == ["uniform"]
    assert (folder / "images.npy").read_bytes() == pixels
