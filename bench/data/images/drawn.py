"""Generated pictures of which numbers or labels are to be told: what the data sets have in common.

Picture `index` of split `s` depends on (family seed, s, index) and the recipe only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data.dataset import SPLIT_NAMES, ImageDataset, Pixels
from bench.data.images.fractals import ImageKey, Recipe, in_chunks
from bench.data.targets import Strata, Targets

Make = Callable[[Recipe, NDArray[Any], Sequence[ImageKey]], list[Pixels]]
"""From what is known of all pictures, and keys that end with the place of each among them."""


def keys_of(counts: Mapping[int, int]) -> list[ImageKey]:
    """A key for each picture of each split."""
    return [(split, 0, index) for split, count in counts.items() for index in range(count)]


def drawn_dataset(
    name: str,
    recipe: Recipe,
    keys: Sequence[ImageKey],
    outputs: tuple[str, ...],
    said: tuple[Strata, Targets],
    *,
    known: NDArray[Any],
    make: Make,
    facts: Sequence[Any],
) -> ImageDataset:
    """The data set of pictures with these `keys`, that `make` makes from what is `known` of them.

    `said` are strata and targets, `facts` all that the pictures depend on beside the recipe.
    """
    strata, targets = said
    version, *others = facts
    told = [name, version, asdict(recipe), *others]
    return ImageDataset(
        name=name,
        classes=outputs,
        sample_ids=tuple(f"{SPLIT_NAMES[split]}/{index}" for split, _, index in keys),
        labels=strata,
        targets=targets,
        splits=np.array([split for split, *_ in keys], np.int8),
        fingerprint=hashlib.sha256(json.dumps(told).encode()).hexdigest(),
        native_size=recipe.image_size,
        read=partial(_read, recipe, keys, known, make),
        generated=True,
    )


def _read(
    recipe: Recipe,
    keys: Sequence[ImageKey],
    known: NDArray[Any],
    make: Make,
    indices: Sequence[int],
) -> list[Pixels]:
    wanted = [(*keys[index], index) for index in indices]
    return in_chunks(recipe, wanted, partial(make, recipe, known))
