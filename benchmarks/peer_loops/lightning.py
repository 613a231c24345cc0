"""Lightning: a `LightningModule` and its `Trainer`."""

from __future__ import annotations

import time
from typing import Any

import lightning
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from naive import Epoch, image_loaders, sgd
from torch import Tensor
from torch.optim import Optimizer
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from peer_loops import NUM_CLASSES, Task, Trained, make_network

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed"}


class Classifier(lightning.LightningModule):
    """A network with the loss and the accuracy of both splits."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self._lr = task.lr
        self.model = make_network(task)
        self.train_loss, self.val_loss = MeanMetric(), MeanMetric()
        self.train_accuracy, self.val_accuracy = (
            MulticlassAccuracy(NUM_CLASSES, average="micro") for _ in range(2)
        )

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        return self._step(batch, "train")

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        self._step(batch, "val")

    def _step(self, batch: list[Tensor], split: str) -> Tensor:
        images, labels = batch
        logits = self.model(images)
        loss = F.cross_entropy(logits, labels)
        metric, correct = getattr(self, f"{split}_loss"), getattr(self, f"{split}_accuracy")
        metric(loss.detach(), len(labels))
        correct(logits, labels)
        self.log(f"{split}_loss", metric, on_step=False, on_epoch=True)
        self.log(f"{split}_accuracy", correct, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> Optimizer:
        return sgd(self.model, self._lr)


class EpochSeconds(lightning.Callback):
    """Keeps how long each epoch took; validation and the checkpoint belong to it."""

    def __init__(self) -> None:
        self.epochs: list[Epoch] = []

    def on_train_epoch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: Any) -> None:
        seconds = time.perf_counter() - self._started
        # Those of validation are reset by now.
        values = {
            **{name: getattr(module, name).compute() for name in ("train_loss", "train_accuracy")},
            **{name: trainer.callback_metrics[name] for name in ("val_loss", "val_accuracy")},
        }
        self.epochs.append(
            Epoch(seconds=seconds, **{name: value.item() for name, value in values.items()})
        )


def train(task: Task) -> Trained:
    """Train with Lightning's loop."""
    best = ModelCheckpoint(task.out, "best", monitor="val_accuracy", mode="max")
    clock = EpochSeconds()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=task.epochs,
        precision=PRECISIONS[task.precision],
        callbacks=[best, clock],
        default_root_dir=task.out,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    loaders = image_loaders(task.data, task.augment)
    trainer.fit(Classifier(task), loaders["train"], loaders["val"])
    return Trained(epochs=clock.epochs, checkpoint=best.best_model_path)
