"""How many of planted label errors `bench audit` finds, and how many of those it names are wrong.

Fractals of 64 pixels, of which 5 % lie in the folder of another class, drawn anew for every seed
with classes of another family; ResNet-18 with the weights `fractals`. Beside it what naming every
image would give whose most probable class is another one than its label.

    python benchmarks/label_errors.py                           # two classes of 100 images
    python benchmarks/label_errors.py --classes 4 --images 50

About 8 s a seed on one core, and 4 minutes more to pretrain the network where the cache lacks it.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

import bench
from bench.data import TRAIN, open_dataset

SHARE, SIDE = 0.05, 64
SEEDS = range(20, 30)


def planted(
    root: Path,
    seed: int,
    *,
    classes: int,
    images: int,
    difficulty: float = 0.5,
    share: float = SHARE,
) -> set[str]:
    """Write a folder of fractals, `images` a class, of which a `share` have another's label.

    Returns the ids of these.
    """
    options = {"classes": classes, "train_per_class": images, "val_per_class": 1}
    options |= {"test_per_class": 1, "image_size": SIDE, "family_seed": 2 + seed}
    data = open_dataset("fractals", {**options, "difficulty": difficulty})
    train = np.flatnonzero(data.splits == TRAIN)
    rng = np.random.default_rng(seed)
    wrong = set(rng.choice(train, round(share * len(train)), replace=False).tolist())
    moved = set()
    for index in train.tolist():
        label = int(data.labels[index])
        if index in wrong:
            label = (label + int(rng.integers(1, classes))) % classes
            moved.add(f"{data.classes[label]}/{index}.png")
        path = root / data.classes[label] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.read([index])[0]).save(path)  # type: ignore[attr-defined]
    return moved


def precision_and_recall(named: Collection[str], wrong: Collection[str]) -> tuple[float, float]:
    """The share of the named that are wrong, and the share of the wrong that are named."""
    right = len(set(named) & set(wrong))
    return right / max(1, len(named)), right / len(wrong)


def main() -> None:
    """Audit a folder for every seed, and print its figures and their means."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--images", type=int, default=100, help="of a class")
    given = parser.parse_args()
    rows = []
    for seed in SEEDS:
        with TemporaryDirectory() as folder:
            rows.append(_measured(Path(folder), seed, given.classes, given.images))
        print(seed, *(f"{value:.2f}" for value in rows[-1]), flush=True)
    names = ("precision", "recall", "precision by class", "recall by class", "agreement")
    for name, own in zip(names, zip(*rows, strict=True), strict=True):
        print(f"{name}: {statistics.mean(own):.2f} ({min(own):.2f} to {max(own):.2f})")


def _measured(folder: Path, seed: int, classes: int, images: int) -> tuple[float, ...]:
    wrong = planted(folder / "set", seed, classes=classes, images=images)
    suite = {
        "name": "planted",
        "dataset": {"name": "folder", "path": str(folder / "set")},
        "backbone": "resnet18",
        "weights": "fractals",
        "strategy": "full_finetune",
        "image_size": SIDE,
    }
    found = bench.audit(suite, out=folder / "out")
    held = found.found.held_out
    named = [each.sample for each in found.suspects if each.reason == "label error"]
    other = np.flatnonzero(held.probabilities.argmax(axis=1) != held.labels)
    by_class = [held.samples[index] for index in other]
    return (
        *precision_and_recall(named, wrong),
        *precision_and_recall(by_class, wrong),
        held.agreement,
    )


if __name__ == "__main__":
    main()
