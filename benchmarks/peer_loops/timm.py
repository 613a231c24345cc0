"""timm: the pieces of its training script, put together as that script does."""

from __future__ import annotations

import time

import torch
from naive import BATCH_SIZE, IMAGE_SIZE, LOADER_WORKERS, Epoch
from timm import create_model
from timm.data import ImageDataset, create_transform
from timm.optim import create_optimizer_v2
from timm.utils import AverageMeter, CheckpointSaver, accuracy, random_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader

from peer_loops import CROP_SCALE, MODEL, NUM_CLASSES, Task, Trained, start_from

Loader = DataLoader[tuple[Tensor, Tensor]]


def train(task: Task) -> Trained:
    """Train with timm's network, transforms, optimiser, meters and checkpoints.

    In channels last, an option of its script. Its own loader drops the last batch of an epoch,
    so batches are torch's.
    """
    random_seed(0)
    model = create_model(MODEL, num_classes=NUM_CLASSES)
    start_from(model, task)
    model.to(memory_format=torch.channels_last)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = create_optimizer_v2(
        trained, opt="momentum", lr=task.lr, weight_decay=0.0, momentum=0.9
    )
    saver = CheckpointSaver(
        model,
        optimizer,
        checkpoint_dir=str(task.out),
        recovery_dir=str(task.out),
        decreasing=False,
        max_history=1,
    )
    training, validation = (_loader(task, split) for split in ("train", "val"))
    epochs = []
    for epoch in range(task.epochs):
        started = time.perf_counter()
        train_loss, train_accuracy = _run(model, training, optimizer, task.precision)
        with torch.inference_mode():
            val_loss, val_accuracy = _run(model, validation, None, task.precision)
        saver.save_checkpoint(epoch, metric=val_accuracy)
        epochs.append(
            Epoch(
                seconds=time.perf_counter() - started,
                train_loss=train_loss,
                train_accuracy=train_accuracy,
                val_loss=val_loss,
                val_accuracy=val_accuracy,
            )
        )
    return Trained(epochs=epochs, checkpoint=task.out / "model_best.pth.tar")


def _loader(task: Task, split: str) -> Loader:
    training = split == "train"
    transform = create_transform(
        IMAGE_SIZE,
        is_training=training,
        no_aug=training and not task.augment,
        scale=CROP_SCALE,
        color_jitter=None,
        interpolation="bilinear",
    )
    images = ImageDataset(str(task.data / split), transform=transform)
    return DataLoader(
        images,
        batch_size=BATCH_SIZE,
        shuffle=training,
        num_workers=LOADER_WORKERS,
        persistent_workers=True,
    )


def _run(
    model: nn.Module,
    loader: Loader,
    optimizer: torch.optim.Optimizer | None,
    precision: str,
) -> tuple[float, float]:
    """Train if there is an optimiser, else evaluate; returns loss and accuracy in [0, 1]."""
    model.train(optimizer is not None)
    losses, top1 = AverageMeter(), AverageMeter()
    criterion = nn.CrossEntropyLoss()
    for images, labels in loader:
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            logits = model(images)
            loss = criterion(logits, labels)
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        (correct,) = accuracy(logits.detach(), labels, topk=(1,))
        losses.update(loss.item(), len(labels))
        top1.update(correct.item() / 100, len(labels))
    return losses.avg, top1.avg
