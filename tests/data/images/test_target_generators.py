"""The generated sets of numbers and of several labels: keyed, and true to what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.data import ImageDataset, open_dataset
from bench.data.dataset import TEST, TRAIN

SMALL: dict[str, dict[str, Any]] = {
    "angles": {"train": 12, "val": 4, "test": 6, "image_size": 32},
    "scenes": {"train": 12, "val": 4, "test": 6, "image_size": 32, "labels": 3},
}


def opened(name: str, **options: Any) -> ImageDataset:
    dataset = open_dataset(name, {**SMALL[name], **options})
    assert isinstance(dataset, ImageDataset)
    return dataset


def values(dataset: ImageDataset) -> NDArray[np.float32]:
    assert dataset.targets is not None
    return dataset.targets.values


@pytest.mark.parametrize("name", SMALL)
def test_an_image_depends_on_its_key_alone(name: str) -> None:
    dataset, more = opened(name), opened(name, train=20)
    images, others = dataset.read(range(12)), more.read([0, 5, 11])
    for index, image in zip([0, 5, 11], others, strict=True):
        np.testing.assert_array_equal(images[index], image)
        assert np.array_equal(values(dataset)[index], values(more)[index])
    assert len({np.asarray(image).tobytes() for image in images}) == 12
    assert dataset.fingerprint != more.fingerprint
    assert dataset.fingerprint != opened(name, family_seed=1).fingerprint
    assert np.bincount(dataset.splits).tolist() == [12, 4, 6]
    assert dataset.splits[0] == TRAIN
    assert dataset.splits[-1] == TEST


def test_angles_are_those_by_which_the_shape_is_turned() -> None:
    quiet: dict[str, Any] = {"difficulty": 0.0, "train": 40, "span": 360.0, "image_size": 64}
    dataset = opened("angles", **quiet)
    degrees = values(dataset)[:40, 0]
    axes = np.array([_axis(np.asarray(image)) for image in dataset.read(range(40))])
    # The long axis of the shape turns with it, up to half turns.
    apart = np.exp(2j * np.deg2rad(axes - degrees))
    assert abs(apart.mean()) > 0.95
    assert abs(degrees).max() > 150


def _axis(image: NDArray[np.uint8]) -> float:
    """The direction in degrees, counterclockwise, in which the picture is widest."""
    weights = np.abs(image.astype(float) - 128).sum(axis=2)
    rows, columns = np.indices(weights.shape)
    x, y = columns - np.average(columns, weights=weights), np.average(rows, weights=weights) - rows
    xx, xy, yy = (np.average(a * b, weights=weights) for a, b in ((x, x), (x, y), (y, y)))
    return float(np.rad2deg(0.5 * np.arctan2(2 * xy, xx - yy)))


def test_an_angle_as_sine_and_cosine() -> None:
    degrees, both = values(opened("angles")), values(opened("angles", target="sin_cos"))
    turned = np.rad2deg(np.arctan2(both[:, 0], both[:, 1]))
    np.testing.assert_allclose(turned, degrees[:, 0], atol=1e-4)


def test_a_scene_shows_what_it_says() -> None:
    dataset = opened("scenes", difficulty=0.0, train=60, share=0.3)
    images = [np.asarray(image) for image in dataset.read(range(60))]
    shown = np.array([(image != 128).any() for image in images])
    assert np.array_equal(shown, values(dataset)[:60].any(axis=1))
    assert 0.2 < values(dataset).mean() < 0.4
