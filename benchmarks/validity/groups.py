"""Images in groups (patients, sites) that are mostly all right or all wrong together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.validity.analysis import analyse
from benchmarks.validity.cells import Cell, judge, portions
from benchmarks.validity.models import Mixture
from benchmarks.validity.squares import Right

MODEL = Mixture(concentration=1.0)
MOST_IMAGES = 9
APART = 0.1
"""The share of a group's images that go their own way."""


def group_cells(rng: np.random.Generator, runs: int) -> Iterator[Cell]:
    """The group as the sample; for contrast every image as a sample of its own."""
    for strategies in (2, 4, 8):
        for seeds, groups in ((3, 60), (3, 150), (5, 60), (8, 150)):
            size = (strategies, seeds, groups)
            right_way = Cell("groups/as-samples", *size)
            wrong_way = Cell("groups/ignored", *size)
            for part in portions(runs, max(1, 400_000 // int(np.prod(size)))):
                images, of_groups = _drawn(rng, (part, *size))
                judge(right_way, *analyse(of_groups))
                judge(wrong_way, *analyse(images))
            yield from (right_way, wrong_way)


def _drawn(rng: np.random.Generator, shape: tuple[int, int, int, int]) -> tuple[Right, Right]:
    """What is right of the images, and the share that is right of each group.

    The numbers of images of the groups are the same in all runs of a call.
    """
    together = MODEL.draw(rng, shape)
    sizes = rng.integers(1, MOST_IMAGES + 1, shape[-1])
    images = np.repeat(together, sizes, axis=-1)
    alone = rng.random(images.shape, dtype=np.float32) < APART
    own = (rng.random(images.shape, dtype=np.float32) < MODEL.accuracy).astype(np.float32)
    images = np.where(alone, own, images)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return images, np.add.reduceat(images, starts, axis=-1) / sizes.astype(np.float32)
