"""The data set `fractals`: pictures of random iterated function systems, generated on demand.

A class is an iterated function system (Kataoka et al., "Pre-training without Natural Images", ACCV
2020): a few contractive affine maps whose attractor the chaos game draws. An image is a jittered
copy of its class's system, drawn in one colour direction over coloured 1/f^a noise. Families of
classes with different `family_seed` are disjoint, so a network can be pretrained on one family
and transferred to another without any file.

Image `index` of class `c` in split `s` depends on (family seed, s, c, index) and the recipe only:
asking for more images or more classes changes none of the earlier ones.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.data.dataset import DATASETS, SPLIT_NAMES, TEST, TRAIN, VAL, ImageDataset, Pixels
from bench.system.download import OnProgress

GENERATOR_VERSION = 1
"""Part of the fingerprint: raise it with every change that alters a pixel."""

Floats: TypeAlias = NDArray[np.float32]
ImageKey: TypeAlias = Sequence[int]
"""(split, class, index within the class)"""

MIN_MAPS, MAX_MAPS = 3, 6
SINGULAR_VALUE_RANGE = (0.5, 0.85)
MAX_SINGULAR_VALUE = 0.95
"""A jittered map that stretches more than this is scaled back, so that every system contracts."""
MIN_FILL = 0.22
FILL_RASTER_SIZE = 32

BURN_IN = 15
STEPS = 80
CHAINS = 64
"""At the reference size; other sizes get as many points per pixel."""
REFERENCE_SIZE = 64

JITTER_AT_FULL_DIFFICULTY = 0.24
NOISE_AT_FULL_DIFFICULTY = 0.9
SCALE_RANGE = (0.55, 1.0)
CONTRAST = 2.5
"""Of the densest pixel, in units of 40 grey levels: strong enough to pretrain on, weak enough
that a few hundred images do not suffice without pretraining."""
CONTRAST_RANGE = (0.8, 1.6)
NOISE_EXPONENT_RANGE = (1.2, 2.0)
GREY_LEVELS_PER_UNIT = 40.0
MID_GREY = 128.0

IMAGES_PER_CHUNK = 32
"""At the reference size; fewer of larger images, so that a chunk's points stay near 10 MB."""
_CLASS_KEY, _IMAGE_KEY = 0, 1

Classes = Annotated[
    int, Field(ge=2, le=1000, description="How many classes there are.", examples=[2])
]
TrainPerClass = Annotated[
    int, Field(ge=1, le=10_000, description="Training images of each class.", examples=[120])
]
ValPerClass = Annotated[
    int, Field(ge=1, le=10_000, description="Validation images of each class.", examples=[50])
]
TestPerClass = Annotated[
    int, Field(ge=1, le=10_000, description="Test images of each class.", examples=[200])
]
GeneratedSide = Annotated[
    int, Field(ge=16, le=512, description="Side of the images in pixels.", examples=[64])
]
Difficulty = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        description="Scales the jitter of the shapes and the noise behind them.",
        examples=[0.5],
    ),
]


@DATASETS.register("fractals")
def fractals(
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
            ge=0,
            lt=2**32,
            description="Which family of fractals; two families have no class in common.",
            examples=[0],
        ),
    ] = 0,
) -> ImageDataset:
    """Generated pictures of random fractals, one iterated function system per class.

    `difficulty` scales the jitter of the shapes and the noise behind them: at 0 the images of a
    class differ in place, size, turn and colour only. Families of classes with different
    `family_seed` are disjoint. Nothing is read from disk, so `progress` has nothing to tell.
    """
    recipe = Recipe(family_seed=family_seed, image_size=image_size, difficulty=float(difficulty))
    counts = {TRAIN: train_per_class, VAL: val_per_class, TEST: test_per_class}
    keys = np.array(
        [
            (s, c, index)
            for s, count in counts.items()
            for c in range(classes)
            for index in range(count)
        ],
        np.int64,
    )
    return ImageDataset(
        name="fractals",
        classes=tuple(f"fractal-{c:02d}" for c in range(classes)),
        sample_ids=tuple(f"{SPLIT_NAMES[s]}/{c}/{index}" for s, c, index in keys.tolist()),
        labels=keys[:, 1].astype(np.int64),
        splits=keys[:, 0].astype(np.int8),
        fingerprint=_fingerprint(recipe, classes, counts),
        native_size=image_size,
        read=partial(_read, recipe, keys),
        generated=True,
    )


def _fingerprint(recipe: Recipe, classes: int, counts: Mapping[int, int]) -> str:
    facts = [GENERATOR_VERSION, asdict(recipe), classes, sorted(counts.items())]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _read(recipe: Recipe, keys: NDArray[np.int64], indices: Sequence[int]) -> list[Pixels]:
    return generate_images(recipe, keys[np.asarray(indices, np.intp)].tolist())


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What fixes the pixels of every image besides its key."""

    family_seed: int
    image_size: int
    difficulty: float

    @property
    def jitter(self) -> float:
        """Largest relative change of a system's entries from image to image."""
        return JITTER_AT_FULL_DIFFICULTY * self.difficulty

    @property
    def noise(self) -> float:
        """Standard deviation of the background, in units of 40 grey levels."""
        return NOISE_AT_FULL_DIFFICULTY * self.difficulty


@lru_cache(maxsize=4096)
def draw_system(family_seed: int, class_index: int) -> Floats:
    """The iterated function system of a class: maps [6, 2, 3], each (matrix | shift); read-only.

    A system with fewer than six maps is padded with zeros. Systems whose attractor covers too
    little of its bounding square are drawn again.
    """
    rng = keyed_rng(family_seed, _CLASS_KEY, (0, class_index, 0))
    maps = _draw_maps(rng)
    while fill(maps, rng) < MIN_FILL:
        maps = _draw_maps(rng)
    maps.flags.writeable = False
    return maps


def _draw_maps(rng: np.random.Generator) -> Floats:
    count = int(rng.integers(MIN_MAPS, MAX_MAPS + 1))
    maps = np.zeros((MAX_MAPS, 2, 3), np.float32)
    maps[:count] = rng.uniform(-1, 1, (count, 2, 3))
    target = rng.uniform(*SINGULAR_VALUE_RANGE, count).astype(np.float32)
    maps[:count, :, :2] *= (target / largest_singular_value(maps[:count, :, :2]))[:, None, None]
    return maps


def fill(maps: Floats, rng: np.random.Generator) -> float:
    """Fraction of a 32 x 32 raster over its bounding square that the attractor of `maps` hits."""
    x, y = chaos_game(maps[None], rng.random((1, BURN_IN + STEPS, CHAINS), np.float32))
    whole = np.array([[1.0, 0.0, 0.0]], np.float32)
    return float((count_points(x, y, whole, FILL_RASTER_SIZE) > 0).mean())


def largest_singular_value(matrices: Floats) -> Floats:
    """Spectral norms [...] of 2 x 2 matrices [..., 2, 2], in closed form."""
    a, b, c, d = np.moveaxis(matrices.reshape(*matrices.shape[:-2], 4), -1, 0)
    squares, det = a * a + b * b + c * c + d * d, a * d - b * c
    gap = np.sqrt(np.maximum(squares**2 - 4 * det**2, 0))
    norms: Floats = np.sqrt((squares + gap) / 2)
    return norms


def jitter_systems(maps: Floats, relative: Floats) -> Floats:
    """Scale every entry of `maps` [..., 2, 3] by 1 + `relative`, and keep each map contractive."""
    jittered = maps * (1 + relative)
    norms = np.maximum(largest_singular_value(jittered[..., :2]), np.float32(1e-12))
    jittered[..., :2] *= np.minimum(MAX_SINGULAR_VALUE / norms, 1)[..., None, None]
    return jittered


def chaos_game(maps: Floats, uniforms: Floats) -> tuple[Floats, Floats]:
    """Points on the attractors of systems [b, 6, 2, 3]: x and y, each [steps, b, chains].

    `uniforms` [b, burn-in + steps, chains] in [0, 1) choose the maps, with probability
    proportional to |det|. All chains start at the origin.
    """
    systems, steps, chains = uniforms.shape
    chosen = _choose_maps(maps, uniforms)
    a, b, e, c, d, f = maps.reshape(-1, 6).T.copy()
    x = np.zeros((systems, chains), np.float32)
    y = np.zeros_like(x)
    xs = np.empty((steps - BURN_IN, systems, chains), np.float32)
    ys = np.empty_like(xs)
    for step, at in enumerate(chosen):
        x, y = a[at] * x + b[at] * y + e[at], c[at] * x + d[at] * y + f[at]
        if step >= BURN_IN:
            xs[step - BURN_IN], ys[step - BURN_IN] = x, y
    return xs, ys


def _choose_maps(maps: Floats, uniforms: Floats) -> NDArray[np.intp]:
    """Rows of the flattened maps [b * 6], as [burn-in + steps, b, chains]."""
    weights = np.abs(_determinant(maps[..., :2])).cumsum(axis=1)
    # Padding maps have weight 0, so their bound is exactly 1 and no uniform reaches them.
    bounds = weights / weights[:, -1:]
    chosen = np.zeros(uniforms.shape, np.uint8)
    for bound in bounds.T[:-1]:
        chosen += uniforms >= bound[:, None, None]
    first_rows = np.arange(len(maps))[None, :, None] * MAX_MAPS
    rows: NDArray[np.intp] = chosen.swapaxes(0, 1) + first_rows
    return rows


def _determinant(matrices: Floats) -> Floats:
    det: Floats = (
        matrices[..., 0, 0] * matrices[..., 1, 1] - matrices[..., 0, 1] * matrices[..., 1, 0]
    )
    return det


def count_points(x: Floats, y: Floats, placements: Floats, size: int) -> NDArray[np.intp]:
    """Points per pixel [b, size, size] of x and y [steps, b, chains].

    A placement (scale, u, v) says which part of the raster's side the longer side of the bounding
    box takes, and where in the remaining room, from 0 to 1, the box lies along each axis.
    """
    low_x, low_y = x.min(axis=(0, 2)), y.min(axis=(0, 2))
    width, height = x.max(axis=(0, 2)) - low_x, y.max(axis=(0, 2)) - low_y
    scale, u, v = placements.T * np.float32(size)
    per_unit = scale / np.maximum(np.maximum(width, height), np.float32(1e-6))
    columns = _pixels(x, low_x, per_unit, u * (1 - width * per_unit / size), size)
    rows = _pixels(y, low_y, per_unit, v * (1 - height * per_unit / size), size)
    images = np.arange(x.shape[1])[:, None]
    flat = (images * size + rows) * size + columns
    return np.bincount(flat.ravel(), minlength=x.shape[1] * size * size).reshape(-1, size, size)


def _pixels(
    values: Floats, low: Floats, per_unit: Floats, offset: Floats, size: int
) -> NDArray[np.int32]:
    pixels = ((values - low[:, None]) * per_unit[:, None] + offset[:, None]).astype(np.int32)
    return np.clip(pixels, 0, size - 1)


def coloured_noise(rng: np.random.Generator, size: int, exponent: float) -> Floats:
    """Gaussian noise [3, size, size] with power 1/f^exponent; each channel has mean 0, std 1."""
    white = rng.standard_normal((3, size, size), np.float32)
    spectrum = np.fft.rfft2(white) * _frequencies(size) ** np.float32(-exponent / 2)
    spectrum[:, 0, 0] = 0
    noise: Floats = np.fft.irfft2(spectrum, s=(size, size)).astype(np.float32, copy=False)
    noise /= noise.std(axis=(1, 2), keepdims=True)
    return noise


@lru_cache(maxsize=8)
def _frequencies(size: int) -> Floats:
    """Distance from the origin of every frequency that `rfft2` returns; 1 at the origin itself."""
    cycles = np.hypot(np.fft.fftfreq(size)[:, None] * size, np.fft.rfftfreq(size) * size)
    cycles[0, 0] = 1
    frequencies: Floats = cycles.astype(np.float32)
    return frequencies


def generate_images(
    recipe: Recipe, keys: Sequence[ImageKey], *, num_threads: int | None = None
) -> list[Pixels]:
    """The images [size, size, 3] of `keys`, in their order, whatever the number of threads."""
    return in_chunks(recipe, keys, partial(_generate, recipe), num_threads=num_threads)


def in_chunks(
    recipe: Recipe,
    keys: Sequence[ImageKey],
    make: Callable[[Sequence[ImageKey]], list[Pixels]],
    *,
    num_threads: int | None = None,
) -> list[Pixels]:
    """What `make` gives for a few keys at a time, in threads, in the order of the keys."""
    step = max(1, round(IMAGES_PER_CHUNK / relative_area(recipe)))
    chunks = [keys[start : start + step] for start in range(0, len(keys), step)]
    with ThreadPoolExecutor(num_threads or os.cpu_count()) as pool:
        return [image for images in pool.map(make, chunks) for image in images]


def _generate(recipe: Recipe, keys: Sequence[ImageKey]) -> list[Pixels]:
    # Across images only element-wise, exactly rounded operations are batched; whatever sums or
    # transforms runs image by image. So an image's bits do not depend on its neighbours.
    rngs = [keyed_rng(recipe.family_seed, _IMAGE_KEY, key) for key in keys]
    systems = np.stack([draw_system(recipe.family_seed, class_index) for _, class_index, _ in keys])
    shapes = draw_shapes(recipe, systems, rngs)
    return [
        on_noise(recipe, coloured(density, finish), finish.noise_exponent, rng)
        for (density, finish), rng in zip(shapes, rngs, strict=True)
    ]


def draw_shapes(
    recipe: Recipe,
    systems: Floats,
    rngs: Sequence[np.random.Generator],
    *,
    scales: tuple[float, float] = SCALE_RANGE,
    angles: Floats | None = None,
) -> list[tuple[Floats, Finish]]:
    """A jittered copy of each of `systems` [b, 6, 2, 3]: its density [size, size], and its finish.

    Each is drawn by a generator of its own, takes a part in the range `scales` of the image's side,
    and is turned by `angles` [b] in radians, counterclockwise, if there are any.
    """
    relative = np.stack([rng.uniform(-1, 1, (MAX_MAPS, 2, 3)) for rng in rngs]).astype(np.float32)
    placements = np.stack([_draw_placement(rng, scales) for rng in rngs])
    finishes = [_draw_finish(rng) for rng in rngs]
    chains = max(1, round(CHAINS * relative_area(recipe)))
    uniforms = np.stack([rng.random((BURN_IN + STEPS, chains), np.float32) for rng in rngs])
    x, y = chaos_game(jitter_systems(systems, np.float32(recipe.jitter) * relative), uniforms)
    if angles is not None:
        cos, sin = (f(angles).astype(np.float32)[:, None] for f in (np.cos, np.sin))
        # Rows of an image count downwards.
        x, y = cos * x + sin * y, cos * y - sin * x
    densities = log_density(count_points(x, y, placements, recipe.image_size))
    return list(zip(densities, finishes, strict=True))


def relative_area(recipe: Recipe) -> float:
    """The area of an image, in those of the reference size."""
    return (recipe.image_size / REFERENCE_SIZE) ** 2


def log_density(counts: NDArray[np.intp]) -> Floats:
    """log(1 + points) per pixel, as a fraction of the image's largest."""
    logs: Floats = np.log1p(np.arange(counts.max() + 1)).astype(np.float32)[counts]
    logs /= logs.max(axis=(1, 2), keepdims=True)
    return logs


@dataclass(frozen=True, kw_only=True)
class Finish:
    """What becomes of a density: how it is turned, in which colour, over which noise."""

    quarter_turns: int
    mirrored: bool
    colour: Floats
    noise_exponent: float


def _draw_placement(rng: np.random.Generator, scales: tuple[float, float]) -> Floats:
    return np.array([rng.uniform(*scales), rng.random(), rng.random()], np.float32)


def _draw_finish(rng: np.random.Generator) -> Finish:
    direction = rng.standard_normal(3)
    strength = CONTRAST * rng.uniform(*CONTRAST_RANGE)
    return Finish(
        quarter_turns=int(rng.integers(4)),
        mirrored=bool(rng.integers(2)),
        colour=(strength * direction / np.sqrt((direction**2).sum())).astype(np.float32),
        noise_exponent=rng.uniform(*NOISE_EXPONENT_RANGE),
    )


def coloured(density: Floats, finish: Finish) -> Floats:
    """The density in its colour, turned: [3, size, size]."""
    turned = np.rot90(density, finish.quarter_turns)
    if finish.mirrored:
        turned = turned[:, ::-1]
    levels: Floats = finish.colour[:, None, None] * turned
    return levels


def on_noise(recipe: Recipe, levels: Floats, exponent: float, rng: np.random.Generator) -> Pixels:
    """The image [size, size, 3] of coloured levels [3, size, size] over noise of the generator."""
    levels = levels + np.float32(recipe.noise) * coloured_noise(rng, recipe.image_size, exponent)
    levels *= GREY_LEVELS_PER_UNIT
    levels += MID_GREY
    pixels = np.rint(np.clip(levels, 0, 255, out=levels), out=levels).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))


def keyed_rng(family_seed: int, purpose: int, key: ImageKey) -> np.random.Generator:
    """A generator that depends on these numbers alone; each use has a `purpose` of its own."""
    # The lowest counter word is left to the generator itself: 2^64 blocks for every key.
    return np.random.Generator(
        np.random.Philox(key=[family_seed, purpose], counter=[0, *reversed(key)])
    )
