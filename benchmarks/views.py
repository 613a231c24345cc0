"""What augmented views cost: made for each trial, made and kept by the first, read by all others.

One thread, 195 random images of 224 pixels, batches of 28; three epochs, the sides in turns. All
times are milliseconds an image, normalisation included, as the smallest, the median and the
largest.

    python benchmarks/views.py
"""

from __future__ import annotations

import os
import statistics
import time
from tempfile import TemporaryDirectory

import numpy as np
import torch

from bench.data import AUGMENTATIONS, Preprocessing
from bench.data.images.inputs import ImageInputs
from bench.suite import Entry

IMAGES, SIDE, SIZE, EPOCHS = 195, 256, 224, 3
RULE = Preprocessing(
    kind="image",
    size=SIZE,
    classes=("a", "b"),
    resize="crop",
    resized_to=SIDE,
    interpolation="bilinear",
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
)


def main() -> None:
    """Measure all augmentations, and print a table."""
    torch.set_num_threads(1)
    draws = np.random.default_rng(0)
    pixels = draws.integers(0, 256, (IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
    batches = np.array_split(draws.permutation(IMAGES), 7)
    print("| augmentation | made each time | made and kept | read |\n| --- | ---: | ---: | ---: |")
    with TemporaryDirectory() as cache:
        os.environ["BENCH_CACHE"] = cache
        for name in AUGMENTATIONS:
            if name == "none":
                continue
            entry = Entry(name=name, options=AUGMENTATIONS.get(name).options().model_dump())
            plain, first, later = (_inputs(pixels, entry) for _ in range(3))
            for inputs in (first, later):
                inputs.keep_views("views", np.arange(IMAGES), epochs=EPOCHS)
            rows = [
                [_milliseconds(inputs, batches, epoch) for inputs in (plain, first, later)]
                for epoch in range(EPOCHS)
            ]
            cells = (
                f"{statistics.median(each):.2f} ({min(each):.2f}–{max(each):.2f})"
                for each in zip(*rows, strict=True)
            )
            print(f"| `{name}` | {' | '.join(cells)} |", flush=True)


def _inputs(pixels: np.ndarray, entry: Entry) -> ImageInputs:
    return ImageInputs(pixels, entry, RULE, seed=0, device=torch.device("cpu"))


def _milliseconds(inputs: ImageInputs, batches: list[np.ndarray], epoch: int) -> float:
    began = time.perf_counter()
    for batch in batches:
        inputs.batch(batch, epoch)
    return 1000 * (time.perf_counter() - began) / IMAGES


if __name__ == "__main__":
    main()
