"""Changes of colour: the draws and pixels of torchvision, to the last bit."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from bench.data.images.colour_jitter import ColourJitter, adjusted_hue

FACTORS = (-0.5, -0.05, -1e-9, 0.0, 1 / 6, 0.0377, 0.5)


def random_pixels(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def edge_pixels() -> Tensor:
    """All greys; and all triples of values at both ends, in the middle and beside them."""
    greys = torch.arange(256, dtype=torch.uint8).expand(3, 256)
    values = (0, 1, 2, 63, 64, 127, 128, 129, 253, 254, 255)
    triples = torch.tensor(list(itertools.product(values, repeat=3)), dtype=torch.uint8).T
    return torch.cat([greys, triples], dim=1)[:, None]


@pytest.mark.parametrize("factor", FACTORS)
def test_hues_are_those_of_torchvision(factor: float) -> None:
    for image in (random_pixels(97, 113), edge_pixels(), random_pixels(31, 33).flip(-1)):
        assert torch.equal(adjusted_hue(image, factor), functional.adjust_hue(image, factor))


@pytest.mark.campaign
def test_every_colour_is_that_of_torchvision() -> None:
    numbers = torch.arange(256, dtype=torch.uint8)
    colours = torch.stack(torch.meshgrid(numbers, numbers, numbers, indexing="ij"))
    for part in colours.view(3, 16, -1, 256).unbind(dim=1):
        assert torch.equal(adjusted_hue(part, 0.0377), functional.adjust_hue(part, 0.0377))


def test_draws_and_their_order_are_those_of_torchvision() -> None:
    options = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.05}
    own, expected, image = ColourJitter(**options), v2.ColorJitter(**options), random_pixels(24, 25)
    for seed in range(30):  # all places of the hue among the changes
        views = []
        for transform in (own, expected):
            torch.manual_seed(seed)
            views.append(transform(image))
        assert torch.equal(*views)


def test_the_image_stays_as_it_was() -> None:
    image = random_pixels(16, 16)
    before = image.clone()
    ColourJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05)(image)
    assert torch.equal(image, before)
