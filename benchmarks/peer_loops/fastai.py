"""fastai: a `DataBlock`, a `Learner` and its callbacks."""

from __future__ import annotations

import time
from functools import partial

import torch
from fastai.vision.all import (
    SGD,
    Callback,
    CategoryBlock,
    CrossEntropyLossFlat,
    DataBlock,
    FlipItem,
    GrandparentSplitter,
    ImageBlock,
    Learner,
    Normalize,
    RandomResizedCrop,
    SaveModelCallback,
    accuracy,
    get_image_files,
    imagenet_stats,
    parent_label,
)
from naive import BATCH_SIZE, IMAGE_SIZE, LOADER_WORKERS, Epoch

from peer_loops import CROP_SCALE, Task, Trained, make_network


class EpochSeconds(Callback):
    """Keeps how long each epoch took, the saving of the best one included."""

    order = SaveModelCallback.order + 1

    def before_fit(self) -> None:
        self.seconds: list[float] = []

    def before_epoch(self) -> None:
        self._started = time.perf_counter()

    def after_epoch(self) -> None:
        self.seconds.append(time.perf_counter() - self._started)


def train(task: Task) -> Trained:
    """Train with fastai's loop, optimiser and transforms."""
    assert task.precision == "fp32"
    assert task.augment, "only varied views are compared"
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        get_items=get_image_files,
        splitter=GrandparentSplitter(train_name="train", valid_name="val"),
        get_y=parent_label,
        item_tfms=[RandomResizedCrop(IMAGE_SIZE, min_scale=CROP_SCALE[0]), FlipItem()],
        batch_tfms=Normalize.from_stats(*imagenet_stats),
    )
    loaders = block.dataloaders(
        task.data,
        bs=BATCH_SIZE,
        num_workers=LOADER_WORKERS,
        drop_last=False,
        device=torch.device("cpu"),
    )
    clock = EpochSeconds()
    learner = Learner(
        loaders,
        make_network(task),
        loss_func=CrossEntropyLossFlat(),
        opt_func=partial(SGD, mom=0.9),
        metrics=accuracy,
        path=task.out,
        model_dir=".",
        train_bn=False,
        cbs=[SaveModelCallback(monitor="valid_accuracy", fname="best"), clock],
    )
    learner.recorder.train_metrics = True
    learner.fit(task.epochs, lr=task.lr)
    epochs = [
        Epoch(
            seconds=seconds,
            train_loss=float(train_loss),
            train_accuracy=float(train_accuracy),
            val_loss=float(val_loss),
            val_accuracy=float(val_accuracy),
        )
        for seconds, (train_loss, train_accuracy, val_loss, val_accuracy) in zip(
            clock.seconds, learner.recorder.values, strict=True
        )
    ]
    return Trained(epochs=epochs, checkpoint=task.out / "best.pth")
