"""A plugin: a generated data set of vectors, and a small perceptron that takes them.

It goes through every seam that images go through, without an image, and so fast that tests and
first experiments need not wait: `bench run suite.yaml --plugin bench.testing.vectors`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from bench.data import DATASETS, TEST, TRAIN, VAL, VectorDataset
from bench.keys import content_hash, derive_seed
from bench.models import OUTSIDE_BACKBONES, LayerGroup
from bench.models.network import layer_group
from bench.suite.rules import Count
from bench.system.download import OnProgress

if TYPE_CHECKING:
    from torch import nn

WIDTH = 32


@DATASETS.register("vectors")
def vectors(
    progress: OnProgress | None = None,
    /,
    *,
    classes: Annotated[int, Field(ge=2, le=100)] = 3,
    length: Annotated[int, Field(ge=2, le=10_000)] = 16,
    train_per_class: Count = 20,
    val_per_class: Count = 10,
    test_per_class: Count = 20,
    noise: Annotated[float, Field(ge=0, le=100)] = 0.7,
    family_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0,
) -> VectorDataset:
    """Each class lies around two opposite points, so that no line tells it from another.

    Families of classes with different `family_seed` have other points.
    """
    draw = np.random.default_rng(derive_seed(family_seed, "points"))
    points = 2 * draw.normal(size=(classes, length)) / np.sqrt(length) * 2
    counts = {TRAIN: train_per_class, VAL: val_per_class, TEST: test_per_class}
    samples, labels, splits, names = [], [], [], []
    for split, count in counts.items():
        for label in range(classes):
            for index in range(count):
                own = np.random.default_rng(derive_seed(family_seed, split, label, index))
                side = 1 if index % 2 else -1
                samples.append(side * points[label] + noise * own.normal(size=length))
                labels.append(label)
                splits.append(split)
                names.append(f"{split}/{label}/{index}")
    recipe = [classes, length, sorted(counts.items()), noise, family_seed]
    return VectorDataset(
        name="vectors",
        classes=tuple(f"class-{label:02d}" for label in range(classes)),
        sample_ids=tuple(names),
        labels=np.array(labels, np.int64),
        splits=np.array(splits, np.int8),
        fingerprint=content_hash(["vectors", 1, recipe], digits=64),
        vectors=np.array(samples, np.float32),
        generated=True,
    )


def tiny_mlp_groups(model: nn.Module) -> tuple[LayerGroup, ...]:
    """Two hidden layers and the head."""
    return tuple(layer_group(name, name) for name in ("stem", "block", "head"))


@OUTSIDE_BACKBONES.register("tiny_mlp", groups=tiny_mlp_groups, inputs="vector")
def tiny_mlp(size: int) -> nn.Module:
    """A perceptron with two hidden layers of 32, the first with batch norm."""
    from torch import nn

    return nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(nn.Linear(size, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU()),
            block=nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()),
            head=nn.Linear(WIDTH, 2),
        )
    )
