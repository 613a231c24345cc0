"""The catalogue: every registry that a suite's names are looked up in. Imports no torch."""

from __future__ import annotations

from bench.data import DATASETS
from bench.data.images.augmentations import AUGMENTATIONS, MIXES
from bench.methods.metrics import METRICS
from bench.methods.schedules import SCHEDULES
from bench.methods.strategies import STRATEGIES
from bench.models import BACKBONES, HEADS, is_known
from bench.suite import Catalogue


def catalogue() -> Catalogue:
    """All registered names."""
    return Catalogue(
        strategy=STRATEGIES,
        schedule=SCHEDULES,
        augmentation=AUGMENTATIONS,
        mix=MIXES,
        head=HEADS,
        dataset=DATASETS,
        metric=METRICS,
        backbones=tuple(BACKBONES),
        is_backbone=is_known,
    )
