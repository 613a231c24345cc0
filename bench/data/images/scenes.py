"""The data set `scenes`: pictures of several fractals at once, generated on demand.

A picture holds any of a few fractals, each with the same probability whatever the others are, in
its own colour, size and place; which of them are there is to be told. Shapes, jitter and noise are
those of the data set `fractals`.

Picture `index` of split `s` depends on (family seed, s, index) and the recipe only: asking for more
pictures changes none of the earlier ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.data.dataset import DATASETS, TEST, TRAIN, VAL, ImageDataset, Pixels
from bench.data.images.drawn import drawn_dataset, keys_of
from bench.data.images.fractals import (
    NOISE_EXPONENT_RANGE,
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
from bench.data.targets import multi_label_targets
from bench.suite.rules import Count
from bench.system.download import OnProgress

GENERATOR_VERSION = 1
"""Part of the fingerprint: raise it with every change that alters a pixel or a label."""

SCALE_RANGE = (0.35, 0.6)
"""Of the side of a picture that one of several shapes takes."""
_LABEL_KEY, _SHAPE_KEY, _NOISE_KEY = 4, 5, 6


@DATASETS.register("scenes")
def scenes(
    progress: OnProgress | None = None,
    /,
    *,
    labels: Annotated[
        int, Field(ge=1, le=100, description="How many fractals there are.", examples=[4])
    ] = 4,
    train: Annotated[Count, Field(description="Training pictures.", examples=[240])] = 240,
    val: Annotated[Count, Field(description="Validation pictures.", examples=[120])] = 120,
    test: Annotated[Count, Field(description="Test pictures.", examples=[400])] = 400,
    share: Annotated[
        float,
        Field(
            gt=0,
            lt=1,
            description="The probability that a fractal is in a picture.",
            examples=[0.4],
        ),
    ] = 0.4,
    image_size: GeneratedSide = 64,
    difficulty: Difficulty = 0.5,
    family_seed: Annotated[
        int,
        Field(ge=0, lt=2**32, description="Which family the fractals are of.", examples=[0]),
    ] = 0,
) -> ImageDataset:
    """Generated pictures of several fractals, to tell which are there (`task: multi_label`).

    Nothing is read from disk, so `progress` has nothing to tell.
    """
    recipe = Recipe(family_seed=family_seed, image_size=image_size, difficulty=float(difficulty))
    counts = {TRAIN: train, VAL: val, TEST: test}
    keys = keys_of(counts)
    draws = np.stack([keyed_rng(family_seed, _LABEL_KEY, key).random(labels) for key in keys])
    names = tuple(f"fractal-{label:02d}" for label in range(labels))
    said = multi_label_targets((draws < share).astype(np.float32), names)
    return drawn_dataset(
        "scenes",
        recipe,
        keys,
        names,
        said,
        known=said[1].values,
        make=_generate,
        facts=[GENERATOR_VERSION, labels, sorted(counts.items()), share],
    )


def _generate(
    recipe: Recipe, values: NDArray[np.float32], keys: Sequence[ImageKey]
) -> list[Pixels]:
    family, size = recipe.family_seed, recipe.image_size
    present = [
        (picture, label, (split, int(label), index))
        for picture, (split, _, index, row) in enumerate(keys)
        for label in np.flatnonzero(values[row])
    ]
    levels = np.zeros((len(keys), 3, size, size), np.float32)
    if present:
        systems = np.stack([draw_system(family, int(label)) for _, label, _ in present])
        rngs = [keyed_rng(family, _SHAPE_KEY, key) for *_, key in present]
        shapes = draw_shapes(recipe, systems, rngs, scales=SCALE_RANGE)
        for (picture, *_), (density, finish) in zip(present, shapes, strict=True):
            levels[picture] += coloured(density, finish)
    images = []
    for own, key in zip(levels, keys, strict=True):
        rng = keyed_rng(family, _NOISE_KEY, key[:-1])
        exponent = rng.uniform(*NOISE_EXPONENT_RANGE)
        images.append(on_noise(recipe, own, exponent, rng))
    return images
