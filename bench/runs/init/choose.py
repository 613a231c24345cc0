"""Choosing: grids for what was found, from the one that shows most to the one that is soonest done.

Which of them it is depends on how long this machine takes: see `fit`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import median

from bench.methods.target_tasks import REGRESSION
from bench.runs.init.backbone import (
    backbones_for,
    choose_image_size,
    few_parameters_of,
    size_of_weights,
    smaller_sizes,
)
from bench.runs.init.examine import Examined

IMBALANCED = 3.0
"""Where the largest class has more than so many times the images of the smallest, all count alike.

The loss is weighted then, and balanced accuracy chooses. Of two such classes, always naming the
larger is right for more than three of four images.
"""
FEW_IMAGES, MANY_IMAGES = 1_000, 10_000
"""Training images."""
FEW_OF_A_CLASS = 100
"""Training images of the median class. With fewer, what trains few parameters has led comparisons
(VTAB-1k: 1,000 images of up to 397 classes); with more, full fine-tuning catches up."""
NUMBERS_OF_SEEDS = (8, 5, 3)
"""With three seeds claims begin; more than eight show little more on one test split."""
SHOTS = (50, 20, 10, 5)


@dataclass(frozen=True, kw_only=True)
class ChosenGrid:
    """The grid. `strategies` holds (why, YAML entry); `image_size` is None for the weights' own.

    `others` are backbones that the suite only suggests. `shots` is None where all samples train.
    `max_length` is the tokens of a text, and `baseline` the strategy of a further cell without a
    network.
    """

    backbone: str
    others: tuple[str, ...]
    weights_size: int
    image_size: int | None
    strategies: tuple[tuple[str, str], ...]
    schedules: tuple[str, ...]
    batch_size: int
    epochs: int
    lr: float
    balanced: bool
    seeds: tuple[int, ...]
    shots: int | None = None
    max_length: int | None = None
    baseline: str | None = None

    @property
    def size(self) -> int:
        """Pixels of a side of what networks see."""
        return self.image_size or self.weights_size

    @property
    def num_trials(self) -> int:
        """Cells of the grid times seeds."""
        cells = len(self.strategies) * len(self.schedules) + (self.baseline is not None)
        return cells * len(self.seeds)

    @property
    def num_epochs(self) -> int:
        """Epochs that trials of networks train, all together."""
        return len(self.strategies) * len(self.schedules) * len(self.seeds) * self.epochs


def choices(found: Examined) -> Iterator[ChosenGrid]:
    """Grids for these findings, each for less time than the one before.

    First the second schedule goes, then seeds, then pixels, then epochs, strategies, images.
    """
    grid = richest(found)
    yield grid
    grid = replace(grid, schedules=grid.schedules[:1])
    for pixels in (grid.image_size, *smaller_sizes(found.sizes, grid.size)):
        for seeds in NUMBERS_OF_SEEDS:
            grid = replace(grid, image_size=pixels, seeds=tuple(range(seeds)))
            yield grid
    grid = replace(grid, epochs=max(3, grid.epochs // 2))
    yield grid
    for number in (3, 2):
        # from_scratch, linear_probe, full_finetune; then without the first, which takes longest.
        grid = replace(grid, strategies=grid.strategies[:3][-number:])
        yield grid
    least = min(found.counts["train"].values()) if found.has_classes else 0
    for shots in SHOTS:
        if shots < least:
            grid = replace(grid, shots=shots)
            yield grid


def richest(found: Examined) -> ChosenGrid:
    """The first of `choices`."""
    num_train = found.total("train")
    few = num_train < FEW_IMAGES
    of_a_class = median(found.counts["train"].values())
    scarce = of_a_class < FEW_OF_A_CLASS if found.has_classes else few
    batch_size, epochs, lr = _pace(num_train)
    backbone, *others = backbones_for(found.device)
    weights_size = size_of_weights(backbone)
    return ChosenGrid(
        backbone=backbone,
        others=tuple(others),
        weights_size=weights_size,
        image_size=choose_image_size(found.sizes, weights_size),
        strategies=tuple(
            _strategies_for_numbers(lr, few=few)
            if found.task == REGRESSION.name
            else _strategies(
                lr, few=few, few_parameters=few_parameters_of(backbone) if scarce else None
            )
        ),
        schedules=("cosine", "constant"),
        batch_size=batch_size,
        epochs=epochs,
        lr=lr,
        balanced=found.has_classes and found.imbalance > IMBALANCED,
        seeds=tuple(range(NUMBERS_OF_SEEDS[0])),
    )


def _pace(num_train: int) -> tuple[int, int, float]:
    """Batch size, epochs and learning rate; the rate grows with the batch (Goyal et al., 2017)."""
    if num_train < 100:
        return 8, 20, 0.001
    if num_train < FEW_IMAGES:
        return 16, 15, 0.001
    if num_train < MANY_IMAGES:
        return 32, 10, 0.002
    return 64, 5, 0.004


def _strategies(lr: float, *, few: bool, few_parameters: str | None) -> Iterator[tuple[str, str]]:
    """Where images are so few that it pays to train few parameters, the name of what does so."""
    high = f"{10 * lr:g}"
    yield (
        "No pretrained weights: the baseline for the others. There is nothing to preserve, so the "
        "steps are larger.",
        f"{{name: from_scratch, lr: {high}}}",
    )
    yield (
        "The backbone stays as it is, only a linear classifier trains: fast, and safe with few "
        "images. A new layer tolerates larger steps.",
        f"{{name: linear_probe, lr: {high}}}",
    )
    yield "Everything trains at the small lr below.", "full_finetune"
    if few_parameters is not None:
        yield _WHY[few_parameters], f"{{name: {few_parameters}, lr: {high}}}"
    else:
        yield (
            "The new layer trains at the large rate, the backbone at a tenth of it (the rate of "
            "full_finetune).",
            f"{{name: two_rates, lr: {high}, backbone_multiplier: 0.1}}",
        )
    if few:
        yield (
            "The new layer trains first, then everything at a tenth of the rate: with few images, "
            "the gradients of an untrained layer can damage good features.",
            f"{{name: lp_ft, lr: {high}, finetune_multiplier: 0.1}}",
        )


_WHY = {
    "norm_only": "Beside the new layer only the scales and shifts of the backbone's norm layers "
    "train: with few images of a class, few parameters can be enough, and tolerate larger steps.",
    "lora": "Beside the new layer only small matrices train that are added to the backbone's "
    "attention: with few images of a class, few parameters can be enough, and tolerate larger "
    "steps.",
}


def _strategies_for_numbers(lr: float, *, few: bool) -> Iterator[tuple[str, str]]:
    """The gradient of a squared error grows with the error: heads take no larger steps."""
    yield (
        "No pretrained weights: the baseline for the others. There is nothing to preserve, so the "
        "steps are larger.",
        f"{{name: from_scratch, lr: {3 * lr:g}}}",
    )
    yield (
        "The backbone stays as it is, only a linear layer trains: fast, and safe with few images. "
        "Squared errors of large features would diverge at larger steps.",
        "linear_probe",
    )
    yield "Everything trains at the small lr below.", "full_finetune"
    yield (
        "The new layer trains at the lr below, the backbone at a tenth of it.",
        "{name: two_rates, backbone_multiplier: 0.1}",
    )
    if few:
        yield (
            "The new layer trains first, then everything at the same rate: with few images, the "
            "gradients of an untrained layer can damage good features.",
            "{name: lp_ft, finetune_multiplier: 1.0}",
        )
