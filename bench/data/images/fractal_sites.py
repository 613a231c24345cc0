"""The data set `fractal_sites`: fractals from several sites, of which a network may know the site.

An image is one of `fractals` with the colour cast of its site, such as a hospital's camera has it.
A site has more images of one class than of others. So of images of known sites the cast tells the
class right with the share `bias`, and of images of new sites nothing: what a random split flatters
is known where the site is all that tells the classes apart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.data.dataset import DATASETS, TRAIN, UNASSIGNED, ImageDataset, Pixels
from bench.data.images.fractals import (
    GENERATOR_VERSION,
    Difficulty,
    GeneratedSide,
    Recipe,
    generate_images,
    keyed_rng,
)
from bench.errors import DataError
from bench.system.download import OnProgress

VERSION = 1
"""Part of the fingerprint: raise it with every change that alters a pixel or a site."""

CAST = 90.0
"""The length of a site's shift of red, green and blue, in grey levels."""

_CASTS, _SITES = 2, 3
"""Purposes of random numbers, beside those of `fractals`."""


@DATASETS.register("fractal_sites")
def fractal_sites(
    progress: OnProgress | None = None,
    /,
    *,
    classes: Annotated[
        int, Field(ge=2, le=100, description="How many classes there are.", examples=[2])
    ] = 2,
    sites: Annotated[
        int,
        Field(
            ge=4,
            le=1000,
            description="How many sites there are, two of each class or more: they are the groups.",
            examples=[20],
        ),
    ] = 20,
    images_per_class: Annotated[
        int,
        Field(
            ge=1,
            le=10_000,
            description="Images of each class in all; their splits are drawn.",
            examples=[300],
        ),
    ] = 300,
    bias: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="The share of the images of a site that are of its most common class.",
            examples=[0.8],
        ),
    ] = 0.8,
    site_only: Annotated[
        bool,
        Field(
            description="Whether all classes have the same shape, so that nothing but the site "
            "tells them apart.",
            examples=[True],
        ),
    ] = False,
    image_size: GeneratedSide = 64,
    difficulty: Difficulty = 0.5,
    family_seed: Annotated[
        int,
        Field(
            ge=0,
            lt=2**32,
            description="Which family of fractals, and which casts of sites.",
            examples=[0],
        ),
    ] = 0,
) -> ImageDataset:
    """Fractals with the colour cast of their site, which also tells something of the class.

    Sites are the groups of the images. Raises `DataError` for fewer than two sites a class.
    """
    if sites < 2 * classes:
        raise DataError(f"sites must be two a class or more, got {sites} for {classes} classes")
    recipe = Recipe(family_seed=family_seed, image_size=image_size, difficulty=float(difficulty))
    labels = np.repeat(np.arange(classes, dtype=np.int64), images_per_class)
    places = np.tile(np.arange(images_per_class), classes)
    of_images = np.concatenate(
        [_sites_of(family_seed, label, classes, sites, images_per_class, bias)
         for label in range(classes)]
    )  # fmt: skip
    shapes = np.zeros_like(labels) if site_only else labels
    indices = np.arange(len(labels)) if site_only else places
    keys = np.stack([np.full_like(labels, TRAIN), shapes, indices], axis=1)
    names = [f"site-{site:02d}" for site in of_images.tolist()]
    facts = [VERSION, GENERATOR_VERSION, asdict(recipe), classes, sites, images_per_class, bias,
             site_only]  # fmt: skip
    return ImageDataset(
        name="fractal_sites",
        classes=tuple(f"fractal-{label:02d}" for label in range(classes)),
        sample_ids=tuple(
            f"{name}/{label}/{place}"
            for name, label, place in zip(names, labels.tolist(), places.tolist(), strict=True)
        ),
        labels=labels,
        splits=np.full(len(labels), UNASSIGNED, np.int8),
        fingerprint=hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest(),
        native_size=image_size,
        read=partial(_read, recipe, keys, _casts(family_seed, sites)[of_images]),
        generated=True,
        groups=tuple(names),
    )


def _sites_of(
    family_seed: int, label: int, classes: int, sites: int, images: int, bias: float
) -> NDArray[np.int64]:
    """The site of each image of a class: with the share `bias` one where the class is common."""
    rng = keyed_rng(family_seed, _SITES, (0, 0, label))
    common = np.arange(sites) % classes == label
    own, others = np.flatnonzero(common), np.flatnonzero(~common)
    draws = rng.random((2, images))
    at_home = draws[0] < bias
    found: NDArray[np.int64] = np.where(
        at_home,
        own[(draws[1] * len(own)).astype(np.int64)],
        others[(draws[1] * len(others)).astype(np.int64)],
    )
    return found


def _casts(family_seed: int, sites: int) -> NDArray[np.float64]:
    """What each site adds to red, green and blue `[sites, 3]`, in all directions alike."""
    directions = np.stack(
        [keyed_rng(family_seed, _CASTS, (0, 0, site)).standard_normal(3) for site in range(sites)]
    )
    casts: NDArray[np.float64] = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    return CAST * casts


def _read(
    recipe: Recipe,
    keys: NDArray[np.int64],
    casts: NDArray[np.float64],
    indices: Sequence[int],
) -> list[Pixels]:
    chosen = np.asarray(indices, np.intp)
    images = generate_images(recipe, keys[chosen].tolist())
    return [
        np.clip(np.rint(image + cast), 0, 255).astype(np.uint8)
        for image, cast in zip(images, casts[chosen], strict=True)
    ]
