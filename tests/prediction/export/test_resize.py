"""The resize that is exported gives Pillow's own pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.data import resize_image
from bench.prediction.export.resize import PillowResize

SIZES = [
    (1, 1), (1, 90), (90, 1), (2, 3), (31, 32), (32, 32), (33, 32), (47, 200), (200, 47), (64, 32),
    (300, 299), (299, 301), (121, 77), (480, 90), (16, 16), (500, 20),
]  # fmt: skip


@pytest.mark.parametrize("rule", ["crop", "squash", "pad"])
@pytest.mark.parametrize("side", [32, 73])
def test_every_pixel_is_pillows(rule: str, side: int) -> None:
    draw = np.random.default_rng(0)
    resize = PillowResize(side, rule)
    for height, width in SIZES:
        images = draw.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        found = resize(torch.from_numpy(images)).permute(0, 2, 3, 1).numpy()
        expected = np.stack([resize_image(image, side, rule) for image in images])  # type: ignore[arg-type]
        assert np.array_equal(found, expected), (height, width)


def test_the_order_of_the_passes_is_that_of_the_pillow_here() -> None:
    """Either order gives the same picture within a level, and one of them the same pixels."""
    tall = np.random.default_rng(1).integers(0, 256, (400, 40, 3), dtype=np.uint8)
    expected = resize_image(tall, 32, "squash")
    orders = [
        PillowResize(32, "squash", tall_first=first)(torch.from_numpy(tall)[None])[0]
        for first in (False, True)
    ]
    found = [order.permute(1, 2, 0).numpy() for order in orders]
    assert [np.array_equal(each, expected) for each in found].count(True) == 1
    assert max(np.abs(each - expected).max() for each in found) == 1
