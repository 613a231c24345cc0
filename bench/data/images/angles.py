"""The data set `angles`: pictures of one fractal whose angle is to be told, generated on demand.

The shape, its jitter, colour and noise are those of the data set `fractals` (its class 0 of a
family), without quarter turns and mirror images, and turned by any angle. An augmentation that
mirrors or turns images changes the answer: `none` is the one for this data set.

Image `index` of split `s` depends on (family seed, s, index) and the recipe only: asking for more
images changes none of the earlier ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.data.dataset import DATASETS, TEST, TRAIN, VAL, ImageDataset, Pixels
from bench.data.images.drawn import drawn_dataset, keys_of
from bench.data.images.fractals import (
    Difficulty,
    GeneratedSide,
    ImageKey,
    Recipe,
    coloured,
    draw_shapes,
    draw_system,
    keyed_rng,
    on_noise,
)
from bench.data.targets import regression_targets
from bench.suite.rules import Count
from bench.system.download import OnProgress

GENERATOR_VERSION = 1
"""Part of the fingerprint: raise it with every change that alters a pixel or an angle."""

SHAPE = 0
_ANGLE_KEY, _IMAGE_KEY = 2, 3


@DATASETS.register("angles")
def angles(
    progress: OnProgress | None = None,
    /,
    *,
    train: Annotated[Count, Field(description="Training images.", examples=[200])] = 200,
    val: Annotated[Count, Field(description="Validation images.", examples=[100])] = 100,
    test: Annotated[Count, Field(description="Test images.", examples=[300])] = 300,
    image_size: GeneratedSide = 64,
    difficulty: Difficulty = 0.5,
    span: Annotated[
        float,
        Field(
            gt=0,
            le=360,
            description="Angles are drawn from −span / 2 to span / 2, in degrees.",
            examples=[120],
        ),
    ] = 120.0,
    target: Annotated[
        Literal["degrees", "sin_cos"],
        Field(
            description="What is to be predicted: the angle in degrees, or its sine and its "
            "cosine, which have no jump where a turn is complete.",
            examples=["sin_cos"],
        ),
    ] = "degrees",
    family_seed: Annotated[
        int,
        Field(ge=0, lt=2**32, description="Which family the fractal is of.", examples=[0]),
    ] = 0,
) -> ImageDataset:
    """Generated pictures of one fractal, to predict its angle (`task: regression`).

    Nothing is read from disk, so `progress` has nothing to tell.
    """
    recipe = Recipe(family_seed=family_seed, image_size=image_size, difficulty=float(difficulty))
    counts = {TRAIN: train, VAL: val, TEST: test}
    keys = keys_of(counts)
    degrees = np.array([_angle(family_seed, key, span) for key in keys])
    columns = {"angle": degrees}
    if target == "sin_cos":
        columns = {"sin": np.sin(np.deg2rad(degrees)), "cos": np.cos(np.deg2rad(degrees))}
    names = tuple(columns)
    values = np.stack(list(columns.values()), axis=1).astype(np.float32)
    return drawn_dataset(
        "angles",
        recipe,
        keys,
        names,
        regression_targets(values, names),
        known=degrees,
        make=_generate,
        facts=[GENERATOR_VERSION, sorted(counts.items()), span, target],
    )


def _angle(family_seed: int, key: ImageKey, span: float) -> float:
    return float(keyed_rng(family_seed, _ANGLE_KEY, key).uniform(-span / 2, span / 2))


def _generate(
    recipe: Recipe, degrees: NDArray[np.float64], keys: Sequence[ImageKey]
) -> list[Pixels]:
    rngs = [keyed_rng(recipe.family_seed, _IMAGE_KEY, key[:-1]) for key in keys]
    system = draw_system(recipe.family_seed, SHAPE)
    turned = np.deg2rad(degrees[[key[-1] for key in keys]]).astype(np.float32)
    shapes = draw_shapes(recipe, np.stack([system] * len(keys)), rngs, angles=turned)
    images = []
    for (density, finish), rng in zip(shapes, rngs, strict=True):
        upright = replace(finish, quarter_turns=0, mirrored=False)
        images.append(on_noise(recipe, coloured(density, upright), finish.noise_exponent, rng))
    return images
