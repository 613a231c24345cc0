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
    Dataset,
    DecodeFailure,
    Groups,
    ImageDataset,
    Times,
    label_text,
    open_dataset,
    strata_names,
    target_task_of,
)
from bench.data.images import (
    angles,
    folder,
    fractal_sites,
    fractals,
    fractals_shifted,
    hugging_face,
    hymenoptera,
    scenes,
    table,
    torchvision_sets,
)
from bench.data.images.augmentations import AUGMENTATIONS, MIXES, view_name
from bench.data.images.kept_views import kept_bytes
from bench.data.images.prepared import CROP_MARGIN, ImageData, Resize, prepare_images, resize_image
from bench.data.inputs import (
    CENTRAL,
    PREPROCESSING,
    Inputs,
    KeepsViews,
    PreparedData,
    Preprocessing,
)
from bench.data.kinds import (
    data_fingerprint,
    find_leakage,
    format_version,
    open_data,
    prepare,
    prepared_bytes,
    preprocessing_of,
    stand_in,
)
from bench.data.leakage import leakage
from bench.data.splits import (
    Samples,
    Splits,
    class_counts,
    groups_on_both_sides,
    make_fold_splits,
    make_splits,
    make_time_splits,
    samples_digest,
)
from bench.data.target_data import open_with_target
from bench.data.targets import Targets, check_targets
from bench.data.text import language, texts
from bench.data.text.augmentations import token_dropout, word_deletion, word_swap
from bench.data.text.dataset import TextDataset
from bench.data.text.prepared import TextData
from bench.data.times import time_of
from bench.data.vectors import VectorData, VectorDataset

__all__ = [
    "AUGMENTATIONS",
    "CENTRAL",
    "CROP_MARGIN",
    "DATASETS",
    "MIXES",
    "PREPROCESSING",
    "TEST",
    "TRAIN",
    "UNASSIGNED",
    "VAL",
    "Converted",
    "DataIssue",
    "Dataset",
    "DecodeFailure",
    "Groups",
    "ImageData",
    "ImageDataset",
    "Inputs",
    "KeepsViews",
    "PreparedData",
    "Preprocessing",
    "Resize",
    "Samples",
    "Splits",
    "Targets",
    "TextData",
    "TextDataset",
    "Times",
    "VectorData",
    "VectorDataset",
    "angles",
    "check_targets",
    "class_counts",
    "data_fingerprint",
    "find_leakage",
    "folder",
    "format_version",
    "fractal_sites",
    "fractals",
    "fractals_shifted",
    "groups_on_both_sides",
    "hugging_face",
    "hymenoptera",
    "kept_bytes",
    "label_text",
    "language",
    "leakage",
    "make_fold_splits",
    "make_splits",
    "make_time_splits",
    "open_data",
    "open_dataset",
    "open_with_target",
    "prepare",
    "prepare_images",
    "prepared_bytes",
    "preprocessing_of",
    "resize_image",
    "samples_digest",
    "scenes",
    "stand_in",
    "strata_names",
    "table",
    "target_task_of",
    "texts",
    "time_of",
    "token_dropout",
    "torchvision_sets",
    "view_name",
    "word_deletion",
    "word_swap",
]
