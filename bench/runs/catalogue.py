"""The catalogue: every registry that a suite's names are looked up in. Imports no torch."""

from __future__ import annotations

from bench.data import DATASETS
from bench.data.images.augmentations import AUGMENTATIONS, MIXES
from bench.methods.after import AFTER
from bench.methods.metrics import METRICS
from bench.methods.objectives import OBJECTIVES
from bench.methods.penalties import PENALTIES
from bench.methods.schedules import SCHEDULES
from bench.methods.strategies import STRATEGIES
from bench.methods.target_tasks import TARGET_TASKS
from bench.models import BACKBONES, HEADS, OUTSIDE_BACKBONES, is_known
from bench.models.image_text.folders import is_image_text
from bench.models.text.families import NAMED, is_text
from bench.suite import Catalogue
from bench.suite.plugins import load_installed


def catalogue() -> Catalogue:
    """All registered names, those of installed plugins among them."""
    load_installed()
    return Catalogue(
        strategy=STRATEGIES,
        schedule=SCHEDULES,
        augmentation=AUGMENTATIONS,
        mix=MIXES,
        head=HEADS,
        dataset=DATASETS,
        metric=METRICS,
        objective=OBJECTIVES,
        penalty=PENALTIES,
        after=AFTER,
        target_tasks=TARGET_TASKS,
        backbones=(*BACKBONES, *NAMED, *OUTSIDE_BACKBONES),
        is_backbone=is_known,
        is_text_backbone=is_text,
        is_image_text_backbone=is_image_text,
    )
