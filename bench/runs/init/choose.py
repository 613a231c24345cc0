"""Choosing: a grid for what was found, by the number of images, their sizes and the device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.runs.init.backbone import SEEDS, backbones_for, choose_image_size, size_of_weights
from bench.runs.init.examine import Examined

IMBALANCED = 3.0
"""Classes are weighted where the largest has more than so many times the images of the smallest."""
FEW_IMAGES, MANY_IMAGES = 1_000, 10_000
"""Training images."""
PASSES_ON_CPU = 60_000
"""Images of 224 px that a suite for a CPU may train on in all: an hour or so on two cores."""


@dataclass(frozen=True, kw_only=True)
class ChosenGrid:
    """The grid. `strategies` holds (why, YAML entry); `image_size` is None for the weights' own.

    `others` are backbones that the suite only suggests.
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

    @property
    def num_trials(self) -> int:
        """Cells of the grid times seeds."""
        return len(self.strategies) * len(self.schedules) * len(SEEDS)


def choose(found: Examined) -> ChosenGrid:
    """The grid for these findings."""
    num_train = found.total("train")
    batch_size, epochs, lr = _pace(num_train)
    backbone, *others = backbones_for(found.device)
    weights_size = size_of_weights(backbone)
    image_size = choose_image_size(found.sizes, weights_size)
    strategies = tuple(_strategies(lr, few=num_train < FEW_IMAGES))
    schedules: tuple[str, ...] = ("cosine", "constant")
    passes = len(strategies) * len(schedules) * len(SEEDS) * epochs * num_train
    load = passes * ((image_size or weights_size) / 224) ** 2
    if found.device == "cpu" and load > PASSES_ON_CPU:
        schedules = schedules[:1]
    return ChosenGrid(
        backbone=backbone,
        others=tuple(others),
        weights_size=weights_size,
        image_size=image_size,
        strategies=strategies,
        schedules=schedules,
        batch_size=batch_size,
        epochs=epochs,
        lr=lr,
        balanced=found.imbalance > IMBALANCED,
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


def _strategies(lr: float, *, few: bool) -> Iterator[tuple[str, str]]:
    high = f"{10 * lr:g}"
    yield (
        "No pretrained weights: what the others have to beat. There is nothing to preserve, so the "
        "steps are larger.",
        f"{{name: from_scratch, lr: {high}}}",
    )
    yield (
        "The backbone stays as it is, only a linear classifier trains: quick, and safe with few "
        "images. A new layer bears larger steps.",
        f"{{name: linear_probe, lr: {high}}}",
    )
    yield "Everything trains at the small lr below.", "full_finetune"
    yield (
        "The new layer at the large rate, the backbone at a tenth of it: that of full_finetune.",
        f"{{name: two_rates, lr: {high}, backbone_multiplier: 0.1}}",
    )
    if few:
        yield (
            "The new layer first, then everything at a tenth of the rate: with few images, the "
            "gradients of a layer that knows nothing yet can spoil good features.",
            f"{{name: lp_ft, lr: {high}, finetune_multiplier: 0.1}}",
        )
