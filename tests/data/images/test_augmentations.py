"""Every augmentation and mix: shapes, types, and draws that depend on their key alone."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.data.images.augmentations import AUGMENTATIONS, MIXES, Augmenter
from bench.runs.catalogue import catalogue
from tests.tiny import entry

STORED, SIZE, CLASSES = 37, 32, 3

# One line an augmentation: whether it varies images.
AUGMENTATION_LINES = {
    "none": False,
    "flip": True,
    "flip_crop": True,
    "standard": True,
    "advanced": True,
    "trivial_augment": True,
    "rand_augment": True,
    "aug_mix": True,
}
# One line a mix: whether it blends whole images, pastes rectangles, or both.
MIX_LINES = {"mixup": "blend", "cutmix": "paste", "mixup_cutmix": "both"}


def images(count: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (count, STORED, STORED, 3)
    stored = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    return stored.permute(0, 3, 1, 2)


def augmenter(name: str, *, seed: int = 0, **options: Any) -> Augmenter:
    chosen = entry(catalogue().augmentation, name, **options)
    return Augmenter(chosen, size=SIZE, num_classes=CLASSES, seed=seed)


def test_every_entry_has_its_line() -> None:
    of_images = {each for each in AUGMENTATIONS if AUGMENTATIONS.get(each).traits.inputs == "image"}
    assert set(AUGMENTATION_LINES) == of_images
    assert set(MIX_LINES) == set(MIXES)


@pytest.mark.parametrize("name", AUGMENTATION_LINES)
def test_contract(name: str) -> None:
    varied = augmenter(name).images(images(), range(6), epoch=0)
    assert varied.shape == (6, 3, SIZE, SIZE)
    assert varied.dtype == torch.uint8
    central = augmenter("none").images(images(), range(6), epoch=0)
    assert torch.equal(varied, central) is not AUGMENTATION_LINES[name]


@pytest.mark.parametrize("name", AUGMENTATION_LINES)
def test_a_view_depends_on_seed_epoch_and_sample_alone(name: str) -> None:
    made = augmenter(name)
    expected = made.images(images(), range(6), epoch=3)
    for module in (torch.manual_seed, random.seed, np.random.seed):
        module(99)
    made.images(images(), range(6), epoch=1)
    again = augmenter(name).images(images()[[4, 1]], [4, 1], epoch=3)
    assert torch.equal(again, expected[[4, 1]])
    if AUGMENTATION_LINES[name]:
        assert not torch.equal(made.images(images(), range(6), epoch=4), expected)
        assert not torch.equal(
            augmenter(name, seed=1).images(images(), range(6), epoch=3), expected
        )
        same_pixels = images()[[0, 0, 0, 0, 0, 0]]
        views = made.images(same_pixels, range(6), epoch=0)
        assert len({view.numpy().tobytes() for view in views}) > 1


def test_flip_exchanges_left_and_right_of_half_of_the_views_and_does_nothing_else() -> None:
    central = augmenter("none").images(images(), range(6), epoch=0)
    mirrored = 0
    for epoch in range(40):
        for view, plain in zip(
            augmenter("flip").images(images(), range(6), epoch=epoch), central, strict=True
        ):
            turned = torch.equal(view, plain.flip(-1))
            assert turned or torch.equal(view, plain)
            mirrored += turned
    assert 90 <= mirrored <= 150


@pytest.mark.parametrize("name", MIXES)
def test_mixes_keep_the_mass_of_labels(name: str) -> None:
    made = augmenter("none", mix=name)
    assert made.mixes
    inputs = torch.rand(8, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    kinds = set()
    for step in range(12):
        mixed, soft = made.mix(inputs, labels, epoch=0, step=step)
        assert mixed.shape == inputs.shape
        assert soft.shape == (8, CLASSES)
        assert torch.allclose(soft.sum(dim=1), torch.ones(8))
        kept = (mixed == inputs).float().mean()
        kinds.add("paste" if kept > 0.02 else "blend")
    assert kinds == ({"paste", "blend"} if MIX_LINES[name] == "both" else {MIX_LINES[name]})


@pytest.mark.parametrize("name", MIXES)
def test_a_mix_depends_on_seed_epoch_and_step_alone(name: str) -> None:
    inputs, labels = torch.rand(4, 3, SIZE, SIZE), torch.tensor([0, 1, 2, 0])
    first = augmenter("none", mix=name).mix(inputs, labels, epoch=1, step=2)
    torch.rand(7)
    second = augmenter("standard", mix=name).mix(inputs, labels, epoch=1, step=2)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    other = augmenter("none", mix=name).mix(inputs, labels, epoch=1, step=3)
    assert not torch.equal(first[0], other[0])


def test_the_global_generator_is_left_as_it_was() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    augmenter("advanced").images(images(), range(6), epoch=0)
    augmenter("none", mix="mixup").mix(
        torch.rand(2, 3, 8, 8, generator=torch.Generator()), torch.tensor([0, 1]), epoch=0, step=0
    )
    assert torch.equal(torch.rand(2), expected)
