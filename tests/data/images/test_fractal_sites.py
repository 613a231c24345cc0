"""Generated sites: what they tell of the class is what they promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.data import UNASSIGNED, ImageDataset, open_dataset
from bench.data.images.fractal_sites import CAST
from bench.data.images.fractals import Recipe, generate_images
from bench.errors import DataError


def opened(**options: Any) -> ImageDataset:
    dataset = open_dataset("fractal_sites", {"image_size": 16, **options})
    assert isinstance(dataset, ImageDataset)
    return dataset


def test_a_site_has_its_share_of_its_common_class() -> None:
    dataset = opened(classes=3, sites=12, images_per_class=4000, bias=0.7)
    assert dataset.groups is not None
    sites = np.array([int(name.removeprefix("site-")) for name in dataset.groups])
    assert set(sites) == set(range(12))
    assert set(dataset.splits) == {UNASSIGNED}
    for site in range(12):
        share = (dataset.labels[sites == site] == site % 3).mean()
        assert share == pytest.approx(0.7, abs=0.05)


def test_an_image_is_a_fractal_with_the_cast_of_its_site() -> None:
    dataset = opened(images_per_class=20)
    assert dataset.groups is not None
    recipe = Recipe(family_seed=0, image_size=16, difficulty=0.5)
    plain = generate_images(recipe, [(0, 1, 3)])[0].astype(int)
    index = 23
    image = dataset.read([index])[0]
    assert isinstance(image, np.ndarray)
    inside = (plain > CAST) & (plain < 255 - CAST)
    shifts = [(image[..., c] - plain[..., c])[inside[..., c]] for c in range(3)]
    assert all(shift.min() == shift.max() for shift in shifts)
    assert np.linalg.norm([shift[0] for shift in shifts]) == pytest.approx(CAST, abs=1.5)


def test_without_shapes_of_their_own_classes_are_told_by_sites_alone() -> None:
    images = [opened(images_per_class=4, site_only=only).read([0, 4]) for only in (False, True)]
    assert not np.array_equal(images[0][1], images[1][1])
    fingerprints = {
        opened(images_per_class=4, **options).fingerprint
        for options in ({}, {"site_only": True}, {"bias": 0.9}, {"sites": 8})
    }
    assert len(fingerprints) == 4


def test_a_class_needs_two_sites() -> None:
    with pytest.raises(DataError, match="two a class or more, got 4 for 3 classes"):
        opened(classes=3, sites=4)
