"""Data sets: from files, archives or generators to splits of memory-mapped images."""

from __future__ import annotations

from bench.data.dataset import (
    DATASETS,
    TEST,
    TRAIN,
    UNASSIGNED,
    VAL,
    Converted,
    DataIssue,
    DecodeFailure,
    ImageDataset,
    open_dataset,
)
from bench.data.images import folder, fractals, hymenoptera, torchvision_sets
from bench.data.images.prepared import (
    ImageData,
    Resize,
    prepare_images,
    resize_image,
    stored_size,
)
from bench.data.leakage import leakage
from bench.data.splits import Samples, Splits, class_counts, make_splits, samples_digest

__all__ = [
    "DATASETS",
    "TEST",
    "TRAIN",
    "UNASSIGNED",
    "VAL",
    "Converted",
    "DataIssue",
    "DecodeFailure",
    "ImageData",
    "ImageDataset",
    "Resize",
    "Samples",
    "Splits",
    "class_counts",
    "folder",
    "fractals",
    "hymenoptera",
    "leakage",
    "make_splits",
    "open_dataset",
    "prepare_images",
    "resize_image",
    "samples_digest",
    "stored_size",
    "torchvision_sets",
]
