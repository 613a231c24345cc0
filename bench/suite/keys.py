"""What the keys of a suite mean that are no training settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Key:
    """The meaning of a key, with values as a suite may give them."""

    meaning: str
    examples: tuple[Any, ...]


MEANINGS: Mapping[str, Key] = {
    "name": Key(
        meaning="The name of the run folder: letters, digits, '.', '_' and '-'. Default: that of "
        "the file.",
        examples=("resnet18_binary",),
    ),
    "dataset": Key(
        meaning="The images: a name, `torchvision:NAME`, the path of a folder with one folder a "
        "class, of an archive of one, or of a table of labels (a relative one starts at the "
        "suite's folder), or a mapping with options. Required.",
        examples=(
            "./photos",
            {"name": "fractals", "classes": 3},
            {"path": "./photos", "val_fraction": 0.3},
            "./labels.csv",
            "torchvision:OxfordIIITPet",
        ),
    ),
    "backbone": Key(
        meaning="The network below the head: a classifier of torchvision by its name, or "
        "`timm/NAME`; of texts `hf/NAME`, `vectors/FILE` or `tfidf`. Required.",
        examples=("resnet18", ["resnet18", {"name": "efficientnet_b0", "lr": 0.003}]),
    ),
    "strategy": Key(
        meaning="How the weights are reused: names, or mappings with options and with settings "
        "that hold for the strategy's cells only. Required.",
        examples=("linear_probe", ["from_scratch", {"name": "two_rates", "lr": 0.01}]),
    ),
    "schedule": Key(
        meaning="How the learning rate changes while a trial trains. Default: constant.",
        examples=("cosine", ["constant", {"name": "cosine", "warmup_epochs": 1}]),
    ),
    "augmentation": Key(
        meaning="How training images are varied, `NAME+MIX` with a mix of whole batches. Default: "
        "flip_crop.",
        examples=("standard", ["flip_crop", "standard+mixup"]),
    ),
    "exclude": Key(
        meaning="Rules that leave cells out of the grid: a cell is left out if every key of a "
        "rule fits it.",
        examples=([{"strategy": "from_scratch", "schedule": "cosine"}],),
    ),
    "include": Key(
        meaning="Rules that set further settings of the cells that they fit, or add cells if they "
        "fit none.",
        examples=([{"strategy": "lp_ft", "lr": 0.01}],),
    ),
    "tune": Key(
        meaning="What `bench tune` searches, with which budget, and how.",
        examples=({"space": {"lr": {"low": 0.0001, "high": 0.1, "log": True}}, "trials": 20},),
    ),
    "claims": Key(
        meaning="How the verdict weighs what a run finds. Changes no number and no id.",
        examples=({"margin": 0.02, "cost": "trainable_params"},),
    ),
    "resources": Key(
        meaning="What a trial may take of the machine. Changes no number and no id.",
        examples=({"minutes": 30, "memory_gib": 4},),
    ),
    "limits": Key(
        meaning="How large a file may be. Changes an id only if an image is read or left out "
        "because of it.",
        examples=({"megapixels": 400},),
    ),
    "checkpoints": Key(
        meaning="Which trained weights the run folder keeps: of `all` trials, of the `best` trial "
        "of each config on validation (of the first one without a validation split), or of "
        "`none`. Changes no number and no id. Default: all.",
        examples=("best",),
    ),
    "after": Key(
        meaning="What is made from finished trials without training, such as an ensemble: names, "
        "or mappings with options. Validation chooses; the results are judged like trials. "
        "Changes no number and no id of a trial. Not with `folds`; `soup`, `wise_ft` and `tta` "
        "need `checkpoints: all`.",
        examples=(
            "ensemble",
            ["temperature", {"name": "ensemble", "members": "greedy"}, "wise_ft"],
        ),
    ),
    "split_check": Key(
        meaning="Says by how much a random split would flatter what is tested on new groups: with "
        "`split: {by: group}`, one config of each strategy (`all`: every config) is trained once "
        "more under a random split, with the same fractions and seeds. The report shows the "
        "difference, and nothing is chosen or claimed by it. Changes no number and no id. Not "
        "with `tune`. Default: false.",
        examples=(True, "all"),
    ),
}

SPACE = Key(
    meaning="What is searched: a setting, or below `strategy`, `head`, `schedule` and "
    "`augmentation` the options and settings of one entry, as a list of choices or a range. "
    "Required.",
    examples=(
        {"lr": {"low": 0.0001, "high": 0.1, "log": True}, "weight_decay": [0.0, 0.0001]},
        {"lr": {"find": "valley"}},
        {"strategy": {"two_rates": {"backbone_multiplier": {"low": 0.001, "high": 1}}}},
    ),
)
"""The key of the section `tune` that names what is searched."""

FROM = Key(
    meaning="Run folders of earlier runs, one or several: the best settings that each has for a "
    "cell's backbone and strategy are tried first. Default: none.",
    examples=("results/photos_tuned", ["results/photos", "s3://bucket/results/flowers"]),
)
"""The key of the section `tune` that names what a search starts from."""
