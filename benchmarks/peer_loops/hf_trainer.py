"""The Trainer of Hugging Face Transformers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from naive import BATCH_SIZE, LOADER_WORKERS, Epoch, image_loaders, sgd
from torch import Tensor, nn
from transformers import EvalPrediction, Trainer, TrainerCallback, TrainingArguments

from peer_loops import Task, Trained, make_network


class Classifier(nn.Module):
    """A network that is called, and answers, as the Trainer has it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.model(pixel_values)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


class CountingTrainer(Trainer):
    """Counts what is right in training too, and the seconds of each epoch."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.correct: list[Tensor] = []
        self.losses: list[Tensor] = []
        self.counts: list[int] = []

    def compute_loss(self, model: nn.Module, inputs: Any, *arguments: Any, **named: Any) -> Any:
        outputs = model(**inputs)
        if model.training:
            labels = inputs["labels"]
            self.correct.append((outputs["logits"].argmax(dim=1) == labels).sum())
            self.losses.append(outputs["loss"].detach())
            self.counts.append(len(labels))
        return (outputs["loss"], outputs) if named.get("return_outputs") else outputs["loss"]

    def training_scores(self) -> dict[str, float]:
        """Those of the epoch that has ended."""
        seen = sum(self.counts)
        loss = sum(
            loss.item() * count for loss, count in zip(self.losses, self.counts, strict=True)
        )
        correct = sum(each.item() for each in self.correct)
        for kept in (self.correct, self.losses, self.counts):
            kept.clear()
        return {"train_loss": loss / seen, "train_accuracy": correct / seen}


class EpochSeconds(TrainerCallback):
    """An epoch ends where the next one begins: its evaluation and its checkpoint come between."""

    def __init__(self) -> None:
        self.starts: list[float] = []
        self.training: list[dict[str, float]] = []
        self.trainer: CountingTrainer

    def on_epoch_begin(self, *arguments: Any, **named: Any) -> None:
        self.starts.append(time.perf_counter())

    def on_epoch_end(self, *arguments: Any, **named: Any) -> None:
        self.training.append(self.trainer.training_scores())

    def on_train_end(self, *arguments: Any, **named: Any) -> None:
        self.starts.append(time.perf_counter())


def _accuracy(predicted: EvalPrediction) -> dict[str, float]:
    return {"accuracy": float(np.mean(predicted.predictions.argmax(axis=1) == predicted.label_ids))}


def _collate(samples: list[tuple[Tensor, int]]) -> dict[str, Tensor]:
    images, labels = zip(*samples, strict=True)
    return {"pixel_values": torch.stack(images), "labels": torch.tensor(labels)}


def train(task: Task) -> Trained:
    """Train with the Trainer's loop."""
    arguments = TrainingArguments(
        output_dir=str(task.out),
        use_cpu=True,
        bf16=task.precision == "bf16",
        num_train_epochs=task.epochs,
        per_device_train_batch_size=BATCH_SIZE,
        per_device_eval_batch_size=BATCH_SIZE,
        dataloader_num_workers=LOADER_WORKERS,
        max_grad_norm=0.0,
        lr_scheduler_type="constant",
        eval_strategy="epoch",
        logging_strategy="epoch",
        save_strategy="best",
        save_total_limit=1,
        metric_for_best_model="accuracy",
        greater_is_better=True,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
    )
    network = make_network(task)
    images = image_loaders(task.data, task.augment)
    clock = EpochSeconds()
    trainer = CountingTrainer(
        model=Classifier(network),
        args=arguments,
        data_collator=_collate,
        train_dataset=images["train"].dataset,
        eval_dataset=images["val"].dataset,
        compute_metrics=_accuracy,
        optimizers=(sgd(network, task.lr), None),
        callbacks=[clock],
    )
    clock.trainer = trainer
    trainer.train()
    evaluated = [line for line in trainer.state.log_history if "eval_loss" in line]
    epochs = [
        Epoch(
            seconds=end - start,
            **scores,
            val_loss=line["eval_loss"],
            val_accuracy=line["eval_accuracy"],
        )
        for start, end, scores, line in zip(
            clock.starts[:-1], clock.starts[1:], clock.training, evaluated, strict=True
        )
    ]
    checkpoint = Path(trainer.state.best_model_checkpoint) / "model.safetensors"
    return Trained(epochs=epochs, checkpoint=checkpoint)
