"""The data set `fractals_shifted`: the fractals of `fractals` as another camera would see them.

Colours are exchanged, contrast is changed, and pixels are noisy: target data for a model that
learned on `fractals`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated

import numpy as np
from pydantic import Field

from bench.data.dataset import DATASETS, ImageDataset, Pixels, Reader
from bench.data.images.fractals import (
    MID_GREY,
    Classes,
    Difficulty,
    Floats,
    GeneratedSide,
    TestPerClass,
    TrainPerClass,
    ValPerClass,
    fractals,
    keyed_rng,
)
from bench.system.download import OnProgress

VERSION = 1
"""Part of the fingerprint: raise it with every change that alters a pixel."""

_SHIFT = 4
"""Purpose of random numbers, beside those of `fractals` and `fractal_sites`."""

COLOURS = np.array([[0.1, 0.1, 0.8], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1]], np.float32)
"""What each channel takes of red, green and blue: they change places, and mix a little."""


@DATASETS.register("fractals_shifted")
def fractals_shifted(
    progress: OnProgress | None = None,
    /,
    *,
    classes: Classes = 2,
    train_per_class: TrainPerClass = 120,
    val_per_class: ValPerClass = 50,
    test_per_class: TestPerClass = 200,
    image_size: GeneratedSide = 64,
    difficulty: Difficulty = 0.5,
    family_seed: Annotated[
        int,
        Field(
            ge=0, lt=2**32, description="Which family of fractals, as of `fractals`.", examples=[0]
        ),
    ] = 0,
    contrast: Annotated[
        float,
        Field(gt=0, le=4, description="What contrast is multiplied by.", examples=[0.8]),
    ] = 0.8,
    noise: Annotated[
        float,
        Field(
            ge=0,
            le=100,
            description="Standard deviation of noise of each pixel, in grey levels.",
            examples=[15.0],
        ),
    ] = 15.0,
) -> ImageDataset:
    """The images that `fractals` has with the same options, but in other colours, and noisy."""
    plain: ImageDataset = fractals(
        progress,
        classes=classes,
        train_per_class=train_per_class,
        val_per_class=val_per_class,
        test_per_class=test_per_class,
        image_size=image_size,
        difficulty=difficulty,
        family_seed=family_seed,
    )
    facts = [VERSION, plain.fingerprint, COLOURS.tolist(), contrast, noise]
    return replace(
        plain,
        name="fractals_shifted",
        fingerprint=hashlib.sha256(json.dumps(facts).encode()).hexdigest(),
        read=partial(_read, plain.read, family_seed, contrast, noise),
    )


def _read(
    plain: Reader, family_seed: int, contrast: float, noise: float, indices: Sequence[int]
) -> list[Pixels]:
    pixels = (np.asarray(each, np.float32) for each in plain(indices))
    return [
        _shifted(own, contrast, noise, keyed_rng(family_seed, _SHIFT, (0, 0, int(index))))
        for index, own in zip(indices, pixels, strict=True)
    ]


def _shifted(pixels: Floats, contrast: float, noise: float, rng: np.random.Generator) -> Pixels:
    levels = (pixels - np.float32(MID_GREY)) @ COLOURS.T * np.float32(contrast)
    levels += np.float32(noise) * rng.standard_normal(levels.shape, np.float32)
    return np.rint(np.clip(levels + np.float32(MID_GREY), 0, 255)).astype(np.uint8)
