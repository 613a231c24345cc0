"""Choosing for texts: grids from the one that shows most to the one that is soonest done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bench.methods.target_tasks import REGRESSION
from bench.models import describe_weights
from bench.models.weights import PRETRAINED
from bench.runs.init.backbone import TEXT_BACKBONE, choose_length
from bench.runs.init.choose import (
    FEW_IMAGES,
    IMBALANCED,
    MANY_IMAGES,
    NUMBERS_OF_SEEDS,
    ChosenGrid,
)
from bench.runs.init.examine import Examined
from bench.suite import Entry

OTHERS = ("hf/bert-base-uncased", "hf/distilroberta-base")
SCHEDULE = "{name: cosine, warmup_epochs: 0.5}"
SHORT = 64
"""Tokens of a text where time is short."""
SHOTS = (500, 200, 100, 50)
"""Training texts of a class where time is short."""


def choices_for_texts(found: Examined) -> Iterator[ChosenGrid]:
    """Grids for these findings, each for less time than the one before.

    First seeds go, then tokens, texts and strategies. Fewer texts train for more epochs: what
    counts is steps.
    """
    grid = _richest(found)
    length = choose_length(found.lengths, grid.weights_size)
    for tokens in (length, *((SHORT,) if length > SHORT else ())):
        for seeds in NUMBERS_OF_SEEDS:
            grid = replace(grid, max_length=tokens, seeds=tuple(range(seeds)))
            yield grid
    counts = found.counts["train"].values()
    for shots in SHOTS:
        if found.has_classes and shots < max(counts):
            batch_size, epochs, _ = _pace(sum(min(shots, count) for count in counts))
            grid = replace(grid, shots=shots, batch_size=batch_size, epochs=epochs)
            yield grid
    # linear_probe, full_finetune, lora without from_scratch; then the first two.
    for number in (3, 2):
        grid = replace(grid, strategies=grid.strategies[-3:][:number])
        yield grid
    yield replace(grid, epochs=max(2, grid.epochs // 2))


def _richest(found: Examined) -> ChosenGrid:
    batch_size, epochs, lr = _pace(found.total("train"))
    usual = describe_weights(TEXT_BACKBONE, Entry(name=PRETRAINED)).input_size
    return ChosenGrid(
        backbone=TEXT_BACKBONE,
        others=OTHERS,
        weights_size=usual,
        image_size=None,
        strategies=tuple(_strategies(lr, numbers=found.task == REGRESSION.name)),
        schedules=(SCHEDULE,),
        batch_size=batch_size,
        epochs=epochs,
        lr=lr,
        balanced=found.has_classes and found.imbalance > IMBALANCED,
        seeds=tuple(range(NUMBERS_OF_SEEDS[0])),
        baseline="logistic" if found.has_classes else "ridge",
    )


def _pace(num_train: int) -> tuple[int, int, float]:
    """Batch size, epochs and learning rate of fine-tuning a small encoder."""
    if num_train < FEW_IMAGES:
        return 16, 8, 0.00005
    if num_train < MANY_IMAGES:
        return 32, 4, 0.00005
    return 64, 3, 0.0001


def _strategies(lr: float, *, numbers: bool) -> Iterator[tuple[str, str]]:
    """Of numbers the gradient of a squared error grows with the error: smaller steps."""
    head = 0.003 if numbers else 0.01
    yield (
        "No pretrained weights: what these texts alone teach a transformer, mostly little. There "
        "is nothing to preserve, so the steps are larger.",
        f"{{name: from_scratch, lr: {4 * lr:g}}}",
    )
    yield (
        "The backbone stays as it is, only a linear classifier trains on its vector of each text: "
        "fast, and safe with few texts. A new layer tolerates larger steps.",
        f"{{name: linear_probe, lr: {head:g}}}",
    )
    yield "Everything trains at the small lr below.", "full_finetune"
    yield (
        "Beside the new layer only small matrices train that are added to the backbone's "
        "attention: few parameters can be enough, and tolerate larger steps.",
        f"{{name: lora, lr: {20 * lr:g}}}",
    )
