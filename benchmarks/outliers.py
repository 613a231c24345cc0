"""How many planted outliers `bench audit` finds, and how many of those it names are others.

Fractals of 64 pixels in two classes of 100 images, and 5 % more images that are of another kind,
drawn anew for every seed: photographs of ants and bees, or noise. The network is EfficientNet-Lite0
with ImageNet weights (extra `efficientnet-lite0`).

    BENCH_HYMENOPTERA=FOLDER python -m benchmarks.outliers             # photographs
    python -m benchmarks.outliers --of noise
    python -m benchmarks.outliers --of none                            # how many are named falsely

About 10 s a seed on one core.
"""

from __future__ import annotations

import argparse
import os
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

import bench
from bench.results.folder import read_outliers
from benchmarks import label_errors
from benchmarks.label_errors import SIDE, precision_and_recall

SEEDS = range(30, 40)
"""Others than those by which method, neighbours and factor were chosen (20 to 29)."""
IMAGES, PLANTED = 100, 10


def planted(root: Path, seed: int, kind: str) -> set[str]:
    """Write a folder of fractals and of outliers of this kind; returns the ids of these."""
    label_errors.planted(root, seed, classes=2, images=IMAGES, share=0.0)
    rng = np.random.default_rng(seed)
    classes = sorted(path.name for path in root.iterdir())
    names = set()
    for index, picture in enumerate(_pictures(kind, rng)):
        name = f"{classes[index % 2]}/odd-{index}.png"
        picture.save(root / name)
        names.add(name)
    return names


def _pictures(kind: str, rng: np.random.Generator) -> list[Image.Image]:
    if kind == "none":
        return []
    if kind == "noise":
        noise = rng.integers(0, 256, (PLANTED, SIDE, SIDE, 3), np.uint8)
        return [Image.fromarray(pixels) for pixels in noise]
    paths = sorted(Path(os.environ["BENCH_HYMENOPTERA"]).rglob("*.jpg"))
    chosen = rng.choice(len(paths), PLANTED, replace=False)
    return [Image.open(paths[index]).convert("RGB").resize((SIDE, SIDE)) for index in chosen]


def main() -> None:
    """Audit a folder for every seed, and print its figures and their means."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--of", choices=("photographs", "noise", "none"), default="photographs")
    kind = parser.parse_args().of
    rows = []
    for seed in SEEDS:
        with TemporaryDirectory() as folder:
            rows.append(_measured(Path(folder), seed, kind))
        print(seed, *(f"{value:.2f}" for value in rows[-1]), flush=True)
    names = ("named", "precision", "recall", "recall of the first as many")
    for name, own in zip(names, zip(*rows, strict=True), strict=True):
        print(f"{name}: {statistics.mean(own):.2f} ({min(own):.2f} to {max(own):.2f})")


def _measured(folder: Path, seed: int, kind: str) -> tuple[float, ...]:
    odd = planted(folder / "set", seed, kind)
    suite = {
        "name": "planted",
        "dataset": {"name": "folder", "path": str(folder / "set")},
        "backbone": "efficientnet_lite0",
        "strategy": "full_finetune",
        "image_size": SIDE,
        "precision": "fp32",
    }
    found = bench.audit(suite, out=folder / "out")
    named = [each.sample for each in found.suspects if each.reason == "unlike all others"]
    if not odd:
        return len(named), 0.0, 0.0, 0.0
    factors = read_outliers(found.folder) or {}
    first = sorted(factors, key=lambda sample: -factors[sample])[: len(odd)]
    return len(named), *precision_and_recall(named, odd), precision_and_recall(first, odd)[1]


if __name__ == "__main__":
    main()
