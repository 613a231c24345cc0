"""A plugin: generated data sets of vectors, and a small perceptron that takes them.

It goes through every seam that images go through, without an image, and so fast that tests and
first experiments need not wait: `bench run suite.yaml --plugin bench.testing.vectors`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from bench.data import DATASETS, TEST, TRAIN, VAL, Targets, VectorDataset
from bench.data.targets import multi_label_targets, regression_targets
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


Outputs = Annotated[int, Field(ge=1, le=100)]


@DATASETS.register("vector_values")
def vector_values(
    progress: OnProgress | None = None,
    /,
    *,
    outputs: Outputs = 1,
    length: Annotated[int, Field(ge=2, le=10_000)] = 8,
    train: Count = 40,
    val: Count = 20,
    test: Count = 40,
    noise: Annotated[float, Field(ge=0, le=100)] = 0.1,
    family_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0,
) -> VectorDataset:
    """Numbers far from 0 that a direction of the vector decides (`task: regression`)."""
    names = tuple(f"value-{output:02d}" for output in range(outputs))
    vectors, along, splits = _directions(family_seed, outputs, length, (train, val, test), noise)
    values = (100 + 10 * np.arange(1, outputs + 1) * along).astype(np.float32)
    labels, targets = regression_targets(values, names)
    recipe = [outputs, length, train, val, test, noise, family_seed]
    return _of_targets("vector_values", names, vectors, labels, targets, splits, recipe)


@DATASETS.register("vector_labels")
def vector_labels(
    progress: OnProgress | None = None,
    /,
    *,
    outputs: Outputs = 3,
    length: Annotated[int, Field(ge=2, le=10_000)] = 8,
    train: Count = 40,
    val: Count = 20,
    test: Count = 40,
    noise: Annotated[float, Field(ge=0, le=100)] = 0.1,
    family_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0,
) -> VectorDataset:
    """Labels that a vector has on one side of a plane of each (`task: multi_label`)."""
    names = tuple(f"label-{output:02d}" for output in range(outputs))
    vectors, along, splits = _directions(family_seed, outputs, length, (train, val, test), noise)
    labels, targets = multi_label_targets((along > 0.3).astype(np.float32), names)
    recipe = [outputs, length, train, val, test, noise, family_seed]
    return _of_targets("vector_labels", names, vectors, labels, targets, splits, recipe)


Floats = np.ndarray[Any, np.dtype[np.float64]]


def _directions(
    seed: int, outputs: int, length: int, counts: tuple[int, int, int], noise: float
) -> tuple[Floats, Floats, np.ndarray[Any, np.dtype[np.int8]]]:
    """Vectors, how far they go in each of some directions, with noise, and their splits."""
    draw = np.random.default_rng(derive_seed(seed, "directions"))
    directions = draw.normal(size=(length, outputs)) / np.sqrt(length)
    splits = np.repeat(np.array([TRAIN, VAL, TEST], np.int8), counts)
    vectors = draw.normal(size=(len(splits), length))
    along = vectors @ directions + noise * draw.normal(size=(len(splits), outputs))
    return vectors, along, splits


def _of_targets(
    name: str,
    names: tuple[str, ...],
    vectors: Floats,
    labels: np.ndarray[Any, np.dtype[np.int64]],
    targets: Targets,
    splits: np.ndarray[Any, np.dtype[np.int8]],
    recipe: list[Any],
) -> VectorDataset:
    return VectorDataset(
        name=name,
        classes=names,
        sample_ids=tuple(f"{split}/{index}" for index, split in enumerate(splits.tolist())),
        labels=labels,
        targets=targets,
        splits=splits,
        fingerprint=content_hash([name, 1, recipe], digits=64),
        vectors=vectors.astype(np.float32),
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
