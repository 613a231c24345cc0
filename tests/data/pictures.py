"""Real image files for tests, made on the spot. Light to import: other processes do, too."""

from __future__ import annotations

from pathlib import Path
from threading import Barrier

import numpy as np
from PIL import Image

from bench.data import open_dataset, prepare_images


def photograph(seed: int, *, width: int = 40, height: int = 30) -> Image.Image:
    """A smooth random picture: as compressible as a photograph, unlike that of any other seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def write_folder(root: Path, layout: dict[str, int], *, suffix: str = ".png") -> Path:
    """Write `layout` ({"train/ants": 3}: folder and number of pictures), all different."""
    seed = 0
    for folder, count in layout.items():
        (root / folder).mkdir(parents=True)
        for index in range(count):
            seed += 1
            photograph(seed).save(root / folder / f"{index:03}{suffix}")
    return root


def prepare_when_all_are_ready(root: str, barrier: Barrier) -> None:
    """What each process does in the test of several that prepare the same folder."""
    dataset = open_dataset("folder", {"path": root})
    barrier.wait()
    prepare_images(dataset, image_size=96, resize="pad")
