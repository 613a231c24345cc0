"""The plain transfer-learning loop, as a tutorial writes it: what `bench` is compared with.

Images are decoded from their files in every epoch, in two worker processes; the network computes in
fp32, contiguous, with torch's own number of threads; a frozen body is run again in every epoch.

    python benchmarks/naive.py --data FOLDER --model resnet18 --mode probe --epochs 2
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import models, transforms
from torchvision.datasets import ImageFolder

BATCH_SIZE = 32
IMAGE_SIZE = 224
LOADER_WORKERS = 2
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

Loaders = dict[str, DataLoader[tuple[torch.Tensor, torch.Tensor]]]


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What an epoch took, training, validation and the best checkpoint; losses, accuracies."""

    seconds: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float


OnEpoch = Callable[[int, float], None]
"""Is told of every epoch, counted from 1, and its validation accuracy."""


def epoch_seconds(
    model_name: str,
    mode: str,
    augment: bool,
    data: Path,
    epochs: int,
    *,
    lr: float = 0.001,
    on_epoch: OnEpoch = lambda epoch, accuracy: None,
) -> list[float]:
    """Seconds of each epoch, training and validation together.

    `model_name` is a torchvision classifier with one output, started at random. `mode` is `full`
    (everything trains), `probe` (the head alone), or `topN` (the head and the N layer groups below
    it). `data` holds `train` and `val`, each with one folder of images a class.
    """
    loaders = image_loaders(data, augment)
    num_classes = len(loaders["train"].dataset.classes)  # type: ignore[attr-defined]
    model = models.get_model(model_name, weights=None, num_classes=num_classes)
    freeze(model, model_name, mode)
    optimizer = sgd(model, lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    with tempfile.TemporaryDirectory() as folder:
        best = Path(folder) / "best.pt"
        trained = train(model, loaders, optimizer, scheduler, epochs, best, on_epoch=on_epoch)
        model.load_state_dict(torch.load(best, weights_only=True))
    return [epoch.seconds for epoch in trained]


def sgd(model: nn.Module, lr: float) -> torch.optim.SGD:
    """For what is not frozen."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.SGD(trained, lr=lr, momentum=0.9)


def image_loaders(data: Path, augment: bool) -> Loaders:
    """Batches of normalised images and labels of `train` and `val`, decoded in every epoch."""
    normalised = [
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
    central = [transforms.Resize(256), transforms.CenterCrop(IMAGE_SIZE), *normalised]
    varied = [
        transforms.RandomResizedCrop(IMAGE_SIZE),
        transforms.RandomHorizontalFlip(),
        *normalised,
    ]
    steps = {"train": varied if augment else central, "val": central}
    return {
        phase: DataLoader(
            ImageFolder(str(data / phase), transforms.Compose(steps[phase])),
            batch_size=BATCH_SIZE,
            shuffle=True,
            num_workers=LOADER_WORKERS,
        )
        for phase in ("train", "val")
    }


def freeze(model: nn.Module, model_name: str, mode: str) -> None:
    """Leave to training what `mode` says: `full`, `probe` or `topN`."""
    if mode == "full":
        return
    # The groups are those of `bench`, so that both train the same parameters.
    from bench.models.build import layer_groups

    groups = layer_groups(model_name, model)
    top = 0 if mode == "probe" else int(mode.removeprefix("top"))
    trained = groups[-1 - top :]
    for name, parameter in model.named_parameters():
        parameter.requires_grad = any(group.owns(name) for group in trained)


def train(
    model: nn.Module,
    loaders: Loaders,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    epochs: int,
    best: Path,
    *,
    precision: str = "fp32",
    on_epoch: OnEpoch = lambda epoch, accuracy: None,
) -> list[Epoch]:
    """Train and validate; the state dict of the best epoch is in the file `best` in the end."""
    trained: list[Epoch] = []
    best_accuracy = -1.0
    for epoch in range(1, epochs + 1):
        started = time.perf_counter()
        train_loss, train_accuracy = _run_phase(model, loaders["train"], optimizer, precision)
        scheduler.step()
        val_loss, accuracy = _run_phase(model, loaders["val"], None, precision)
        if accuracy > best_accuracy:
            best_accuracy = accuracy
            torch.save(model.state_dict(), best)
        trained.append(
            Epoch(
                seconds=time.perf_counter() - started,
                train_loss=train_loss,
                train_accuracy=train_accuracy,
                val_loss=val_loss,
                val_accuracy=accuracy,
            )
        )
        on_epoch(epoch, accuracy)
    return trained


def _run_phase(
    model: nn.Module,
    loader: DataLoader[tuple[torch.Tensor, torch.Tensor]],
    optimizer: torch.optim.Optimizer | None,
    precision: str,
) -> tuple[float, float]:
    """Train if there is an optimiser, else evaluate; returns loss and accuracy in [0, 1]."""
    model.train(optimizer is not None)
    criterion = nn.CrossEntropyLoss()
    running_loss, running_correct, seen = 0.0, 0, 0
    for images, labels in loader:
        if optimizer is not None:
            optimizer.zero_grad()
        with torch.set_grad_enabled(optimizer is not None):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
                logits = model(images)
                loss = criterion(logits, labels)
            if optimizer is not None:
                loss.backward()
                optimizer.step()
        running_loss += loss.item() * len(labels)
        running_correct += (logits.argmax(dim=1) == labels).sum().item()
        seen += len(labels)
    return running_loss / seen, running_correct / seen


def main() -> None:
    """Print one JSON line: the settings and the seconds of each epoch."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and val/")
    parser.add_argument("--model", default="resnet18", help="a torchvision classifier")
    parser.add_argument("--mode", default="full", help="full, probe, or topN such as top1")
    parser.add_argument("--no-augmentation", action="store_true", help="train on central views")
    parser.add_argument("--epochs", type=int, default=2)
    given = parser.parse_args()
    seconds = epoch_seconds(
        given.model, given.mode, not given.no_augmentation, given.data, given.epochs
    )
    settings = {"model": given.model, "mode": given.mode, "augment": not given.no_augmentation}
    print(json.dumps({**settings, "threads": torch.get_num_threads(), "epoch_seconds": seconds}))


if __name__ == "__main__":
    main()
